"""``import`` makes a recipe of a mergekit configuration, or changes nothing. What ``export`` wrote: test_export.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import persona
from persona.errors import RecipeError, Refusal, WrongBase
from tests.verbs.conftest import A, B, C, L

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's and transformers' own


def config(**changes: object) -> str:
    said = {
        "merge_method": "ties", "base_model": "base", "models": [{"model": A}, {"model": B}],
        "parameters": {"weight": 1.0, "density": 0.5},
    }  # fmt: skip
    return yaml.safe_dump({**said, **changes})


def test_a_configuration_by_hand(around: persona.Repository, adapted: Path) -> None:
    (adapted / "hand.yml").write_text(config(models=[{"model": A}, {"model": f"base+{L}"}, {"model": "base"}]))
    done = persona.import_(around, adapted / "hand.yml", message="by hand")
    assert done.recorded is not None
    assert [(one.name, one.form) for one in done.models] == [(A, "dense"), (L, "lora")]
    text = around.recipe_path.read_text()
    assert 'method = "ties"\nnormalize = "weights"\ndensity = 0.5\n' in text
    assert persona.show(around, L).run["adapter"]["r"] == 3
    assert "adapter" not in persona.show(around, A).run


@pytest.mark.parametrize(
    ("said", "kind", "message"),
    [
        (config(models=[{"model": "meta/llama"}]), RecipeError, "models[0].model: no folder"),
        (config(base_model=A), WrongBase, "base_model: run-1 is not this repository's base"),
        (config(models=[{"model": f"{A}+{L}"}]), WrongBase, "models[0].model: run-1 is not"),
        (config(models=[{"model": A}, {"model": f"./{A}"}]), RecipeError, "would both be vector 'run-1'"),
        (config(models=[{"model": A}, {"model": "./base"}]), RecipeError, "models"),
        (config(modules={}), RecipeError, "modules"),
    ],
)
def test_what_cannot_be_imported_is_named_before_anything_is_recorded(
    around: persona.Repository, adapted: Path, said: str, kind: type[Exception], message: str
) -> None:
    (adapted / "bad.yml").write_text(said)
    before = around.recipe_path.read_text()
    if "./base" in said:
        persona.import_(around, adapted / "bad.yml")  # the base under another name is the base
        return
    with pytest.raises(kind) as caught:
        persona.import_(around, adapted / "bad.yml")
    assert message in str(caught.value)
    assert around.recipe_path.read_text() == before
    assert len(persona.op_log(around)) == 1


def test_other_vectors_are_not_merged_by_surprise(around: persona.Repository, adapted: Path) -> None:
    persona.commit(around, adapted / C, name="mine", author="Test")
    persona.commit(around, adapted / A, name=A, node="a-node", author="Test")
    (adapted / "two.yml").write_text(config())
    with pytest.raises(Refusal, match="does not name: mine"):
        persona.import_(around, adapted / "two.yml")
    done = persona.import_(around, adapted / "two.yml", replace=True)
    assert done.replaced == ("mine",)
    listed = {one.name: one.node for one in persona.vectors(around)}
    assert listed == {A: "a-node", B: None}
    assert (
        json.dumps(around.recipe(around.head()).parameters, sort_keys=True)
        == '{"density": 0.5, "normalize": "weights"}'
    )
