"""A build has the recipe's readouts beside its weights, in a folder of their own, under the same receipt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

import persona
from persona.errors import Refusal
from persona.readout.folder import encode, read_readout
from persona.workspace.readouts import load_readout
from tests.checkpoints.peft_folders import handmade as adapter
from tests.checkpoints.peft_folders import pair
from tests.models import TinyModels, assert_same, load
from tests.readout.handmade import CONCEPTS, handmade, written


@pytest.fixture
def measured(repo: persona.Repository, models: TinyModels) -> persona.Repository:
    """A vector and two readouts."""
    persona.commit(repo, models.run(1), name="listening", alpha=0.5, author="Test")
    told = {"base": repo.recipe(repo.head()).base, "revision": repo.head()}
    persona.commit_readout(repo, written(repo.root / "feelings", handmade(**told)), author="Test")
    awkward = replace(handmade(("a | b\n",), (1,)), about={})
    persona.commit_readout(repo, written(repo.root / "odd", awkward), author="Test")
    return repo


def test_both_files_lie_in_a_folder_of_their_own(measured: persona.Repository, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = persona.build(measured, out)
    assert sorted(str(path.relative_to(out)) for path in (out / "readouts").rglob("*") if path.is_file()) == [
        "readouts/feelings/manifest.json", "readouts/feelings/vectors.safetensors",
        "readouts/odd/manifest.json", "readouts/odd/vectors.safetensors",
    ]  # fmt: skip
    assert [path.name for path in out.glob("*.safetensors")] == ["model.safetensors"]
    kept = load_readout(measured, measured.recipe(measured.head()).names["feelings"])
    again = read_readout(out / "readouts" / "feelings")
    assert encode(again) == encode(kept)
    assert again.concepts == CONCEPTS
    assert (
        json.loads((out / "readouts" / "feelings" / "manifest.json").read_text())["revision"] == kept.about["revision"]
    )
    assert "layer_1.vectors" in load_file(out / "readouts" / "odd" / "vectors.safetensors")
    receipt = json.loads((out / "persona.json").read_text())
    assert len([name for name in receipt["files"] if name.startswith("readouts/")]) == 4
    assert [one["name"] for one in receipt["recipe"]["readouts"]] == ["feelings", "odd"]
    assert not done.edited


def test_weights_are_those_of_the_recipe_without_them(measured: persona.Repository, tmp_path: Path) -> None:
    persona.build(measured, tmp_path / "with")
    persona.build(measured, tmp_path / "without", "HEAD~2")
    assert_same(load(tmp_path / "with"), load(tmp_path / "without"))
    assert not (tmp_path / "without" / "readouts").exists()


def test_transformers_loads_it(measured: persona.Repository, tmp_path: Path) -> None:
    persona.build(measured, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    weights = load(tmp_path / "out")
    assert torch.equal(model.model.norm.weight, weights["model.norm.weight"])


def test_the_card_lists_them(measured: persona.Repository, tmp_path: Path) -> None:
    persona.build(measured, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| feelings | warmth, calm, doubt; layers 0–1 | `" in card
    assert "| odd | a \\| b ; layer 1 | `" in card


def test_an_edit_of_readouts_alone_is_an_edit(measured: persona.Repository, tmp_path: Path) -> None:
    text = measured.head_text()
    measured.recipe_path.write_text(text[: text.index("[readouts.odd]")])
    assert persona.build(measured, tmp_path / "out").edited
    assert not (tmp_path / "out" / "readouts" / "odd").exists()


@pytest.mark.parametrize(
    ("break_it", "what", "how"),
    [
        (lambda f: (f / "manifest.json").write_text("{}"), "readouts/feelings/manifest.json", "its bytes changed"),
        (lambda f: (f / "vectors.safetensors").unlink(), "readouts/feelings/vectors.safetensors", "missing"),
        (lambda f: (f / "more.json").write_text("{}"), "readouts/feelings/more.json", "was added"),
        (lambda f: (f.parent / "more").mkdir(), "readouts/more", "was added"),
        (lambda f: (f / "more").mkdir(), "readouts/feelings/more", "was added"),
    ],
    ids=["changed", "missing", "added", "a folder added", "a folder deeper"],
)
def test_verify_and_replace_look_inside(
    measured: persona.Repository, tmp_path: Path, break_it: object, what: str, how: str
) -> None:
    out = tmp_path / "out"
    persona.build(measured, out)
    assert persona.verify(out).ok
    persona.build(measured, out, replace=True)
    break_it(out / "readouts" / "feelings")  # type: ignore[operator]
    assert [(one.what, one.how) for one in persona.verify(out).differences] == [(what, how)]
    if how != "missing":
        with pytest.raises(Refusal, match=f"holds {what}, which is not as the build wrote it"):
            persona.build(measured, out, replace=True)
    else:
        persona.build(measured, out, replace=True)
        assert persona.verify(out).ok


def test_a_link_in_place_of_a_folder_is_no_build(measured: persona.Repository, tmp_path: Path) -> None:
    out = tmp_path / "out"
    persona.build(measured, out)
    (out / "readouts").rename(tmp_path / "elsewhere")
    (out / "readouts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refusal, match="holds readouts, which is not as the build wrote it"):
        persona.build(measured, out, replace=True)
    assert "readouts" in [one.what for one in persona.verify(out).differences]


@pytest.mark.parametrize(
    "name", ["../x", "readouts/../x/y", "readouts//y", "/x", "readouts/", "other/../../x", "a\\b", "a\0b"]
)
def test_a_receipt_names_no_other_place(measured: persona.Repository, tmp_path: Path, name: str) -> None:
    from persona.building.receipt import is_receipt

    persona.build(measured, tmp_path / "out")
    receipt = json.loads((tmp_path / "out" / "persona.json").read_text())
    assert is_receipt(receipt)
    assert not is_receipt({**receipt, "files": {**receipt["files"], name: "0" * 64}})


def test_an_adapter_has_them_too(repo: persona.Repository, tmp_path: Path) -> None:
    run = tmp_path / "calm"
    adapter(run, pair("model.layers.0.mlp.up_proj", 48, 32), target_modules=["up_proj"])
    persona.commit(repo, run, name="calm", author="Test")
    persona.commit_readout(repo, written(tmp_path / "feelings"), author="Test")
    persona.build(repo, tmp_path / "out", as_adapter=True)
    assert read_readout(tmp_path / "out" / "readouts" / "feelings").concepts == CONCEPTS
    assert "| feelings |" in (tmp_path / "out" / "README.md").read_text()
    assert persona.verify(tmp_path / "out").ok


def test_a_build_is_a_side_a_run_and_a_base(measured: persona.Repository, tmp_path: Path) -> None:
    """The folder beside the weights is in nobody's way."""
    out = tmp_path / "out"
    persona.build(measured, out)
    assert not persona.diff(measured, "HEAD", out, stat=True).differs
    (out / "persona.json").unlink()  # as somebody may pass it on; a build as it is is no base
    assert persona.commit(measured, out, name="whole", author="Test").tensors > 0
    persona.init(tmp_path / "other", out, author="Test")
    other = persona.open(tmp_path / "other")
    assert "readouts" not in json.dumps(dict(other.base(other.recipe(other.head()).base_id).files))
