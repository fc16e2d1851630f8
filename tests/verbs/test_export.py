"""Recipes out to mergekit configurations and in again; tests/parity/ has mergekit merge them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

import persona
from persona.errors import CheckpointError, Refusal, UsageError
from tests.models import TinyModels, assert_same, load
from tests.parity.runs import apart
from tests.verbs.conftest import A, B, C, L

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's and transformers' own


RECIPES = {
    "sum": ('scale = 0.7', {A: "alpha = 0.5", B: "alpha = -0.3", C: "alpha = 1.2"}),
    "depth": ("", {A: "alpha = [0.2, 1.0]", B: "alpha = [0.0, 1.0, -0.5]"}),
    "pattern": ("", {A: 'alpha = {"*.mlp.*" = 0.5, "*norm*" = 0, "*" = 1.0}', B: 'only = ["*.layers.1.*"]'}),
    "parts": ("", {A: 'alpha = 0.5\nexcept = ["lm_head.weight", "*.mlp.*"]', B: 'alpha = [0, 1]\nonly = ["*proj.weight"]'}),
    "adapter": ("", {A: "alpha = 0.5", L: "alpha = 0.8"}),
    "ties": ('method = "ties"\nnormalize = "none"', {A: "", B: "alpha = -0.5", C: "alpha = [0.1, 0.9]"}),
    "ties weights": ('method = "ties"\nnormalize = "weights"\nscale = 1.5', {A: "", B: "alpha = 0.5\ndensity = 0.37"}),
    "ties count": ('method = "ties"\ndensity = 0.33', {A: "alpha = 0.3", B: "alpha = 0.3", C: "alpha = 0.3"}),
    "ties negated": ('method = "ties"', {A: "alpha = -0.4"}),
    "breadcrumbs": ('method = "breadcrumbs"\ndensity = 0.3\ngamma = 0.02', {A: "alpha = 0.5", B: "alpha = -0.3"}),
    "breadcrumbs_ties": ('method = "breadcrumbs_ties"\nnormalize = "none"', {A: "alpha = 0.5", B: "alpha = 0.3"}),
    "dare_ties": ('method = "dare_ties"\ndensity = 1.0\nnormalize = "weights"', {A: "alpha = 0.5", B: "alpha = 0.3"}),
    "dare_linear": ('method = "dare_linear"\ndensity = 1.0', {A: "alpha = 0.5", B: 'alpha = 0.3\nonly = ["*.mlp.*"]'}),
    "della_linear": ('method = "della_linear"\ndensity = 1.0', {A: "alpha = 0.5", B: "alpha = -0.3"}),
    "della": ('method = "della"\ndensity = 1.0\nnormalize = "none"', {A: "alpha = 0.5", B: "alpha = -0.3"}),
    "sce": ('method = "sce"\nselect_topk = 0.25', {A: "", B: "", C: ""}),
    "model_stock": ('method = "model_stock"', {A: "", B: "", C: ""}),
    "slerp": ('method = "slerp"\nt = 0.3', {A: ""}),
    "slerp of two": ('method = "slerp"\nt = 0.3', {A: "", B: ""}),
    "nuslerp": ('method = "nuslerp"', {A: "alpha = 0.5", B: "alpha = 1.5"}),
    "ramplus_tl": ('method = "ramplus_tl"\nr = 0.3\nlimit = 4.0\nepsilon = 1e-4', {A: "", B: "", C: ""}),
    "karcher": ('method = "karcher"', {A: "alpha = 0.5", B: "alpha = 0.5", C: "alpha = 0.5"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def exporting(adapted: Path) -> persona.Repository:
    persona.init(adapted / "exporting", adapted / "base", author="Test <test@example.org>")
    repo = persona.open(adapted / "exporting")
    for run in (A, B, C, L):
        persona.commit(repo, adapted / run, name=run)
    return repo


def write(repo: persona.Repository, merge: str, vectors: dict[str, str]) -> None:
    """Make ``persona.toml`` say this."""
    ids = {one.name: one.id for one in persona.vectors(repo, "HEAD")}
    head = repo.head_text().partition("[vectors")[0]
    tables = [f'[vectors.{run}]\nid = "{ids[run]}"\n{said}\n' for run, said in vectors.items()]
    repo.recipe_path.write_text("\n".join([head, f"[merge]\n{merge}\n", *tables]))


@pytest.fixture(scope="module")
def exported(exporting: persona.Repository, adapted: Path) -> Path:
    """Every recipe, built and exported."""
    for name, (merge, vectors) in RECIPES.items():
        write(exporting, merge, vectors)
        place = adapted / "exported" / name.replace(" ", "-")
        persona.export(exporting, place / "recipe.yml", base=adapted / "base" if name == "sum" else None)
        persona.build(exporting, place / "ours")
    return adapted / "exported"


@pytest.mark.parametrize("name", RECIPES)
def test_what_was_exported_is_imported_as_the_same_model(exported: Path, tmp_path: Path, name: str) -> None:
    place = exported / name.replace(" ", "-")
    persona.init(tmp_path / "work", exported.parent / "base", author="Test")
    repo = persona.open(tmp_path / "work")
    done = persona.import_(repo, place / "recipe.yml")
    assert [one.name for one in done.models] == list(RECIPES[name][1])
    persona.build(repo, tmp_path / "again")
    if L in RECIPES[name][1] or name == "ties count":  # a scale went into the factors, an alpha into λ
        assert apart(load(tmp_path / "again"), load(place / "ours")) < 1e-6
    else:
        assert_same(load(tmp_path / "again"), load(place / "ours"))
    assert persona.import_(repo, place / "recipe.yml").recorded is None
    assert persona.op_log(repo)[0].command == "import"
    persona.undo(repo)
    assert not persona.vectors(repo)


def test_full_fine_tunes_are_exported_bit_for_bit_and_come_back_as_the_same_vector(
    models: TinyModels, tmp_path: Path
) -> None:
    persona.init(tmp_path / "work", models.base(), author="Test")
    work = persona.open(tmp_path / "work")
    first = persona.commit(work, models.run(1), name="a", alpha=0.5)
    done = persona.export(work, tmp_path / "out" / "x.yml")
    assert [(one.form, one.reference) for one in done.models] == [("checkpoint", "x/vectors/a")]
    assert_same(load(tmp_path / "out" / "x" / "vectors" / "a"), load(models.run(1)))
    assert_same(load(tmp_path / "out" / "x" / "base"), load(models.base()))
    config = yaml.safe_load((tmp_path / "out" / "x.yml").read_text())
    assert config == {
        "merge_method": "task_arithmetic", "base_model": "x/base",
        "models": [{"model": "x/vectors/a", "parameters": {"weight": 0.5}}],
        "parameters": {"normalize": False, "lambda": 1.0}, "dtype": "float32", "out_dtype": "bfloat16",
    }  # fmt: skip
    persona.init(tmp_path / "other", models.base(), author="Test")
    other = persona.open(tmp_path / "other")
    assert persona.import_(other, tmp_path / "out" / "x.yml").models[0].vector == first.vector


@pytest.mark.parametrize(
    ("merge", "vectors", "named"),
    [
        ('method = "iso_c"', {A: ""}, "merge.method"),
        ('method = "ties"\ntrim = "model"', {A: ""}, "merge.trim"),
        ('method = "dare_ties"', {A: "", B: ""}, "merge.rescale"),
        ('method = "ties"', {A: "alpha = 0.5", B: ""}, "merge.normalize"),
        ('method = "ties"\nnormalize = "weights"', {A: "alpha = -0.5", B: ""}, "merge.normalize"),
        ('method = "slerp"', {A: "alpha = 0.5"}, "vectors.run-1.alpha"),
        ('method = "sce"', {A: 'only = ["*.mlp.*"]', B: ""}, "vectors.run-1.only"),
        ('method = "karcher"\nscale = 0.5', {A: "", B: ""}, "merge.scale"),
        ('method = "model_stock"', {A: ""}, "two vectors"),
        ('method = "ram"', {A: "alpha = 0.5", B: ""}, "vectors.run-1.alpha"),
        ('method = "della"\nrescale = "l1"\ndensity = 0.9', {A: "", B: ""}, "vector 'run-1'"),
        ("", {A: "alpha = 0"}, "no vector"),
    ],
)  # fmt: skip
def test_what_mergekit_cannot_say_is_named_and_nothing_is_written(
    exporting: persona.Repository, tmp_path: Path, merge: str, vectors: dict[str, str], named: str
) -> None:
    write(exporting, merge, vectors)
    with pytest.raises(Refusal) as caught:
        persona.export(exporting, tmp_path / "out" / "x.yml")
    assert named in caught.value.message
    assert caught.value.hint
    assert not (tmp_path / "out").exists()


def test_random_choices_and_edges_are_noted(exporting: persona.Repository, tmp_path: Path) -> None:
    write(exporting, 'method = "dare_linear"\nrescale = "l1"', {A: "", B: "alpha = 0"})
    done = persona.export(exporting, tmp_path / "x.yml")
    assert [note.partition(":")[0] for note in done.notes] == [
        "mergekit draws different random entries", "left out because their alpha is 0"
    ]  # fmt: skip
    assert all(f"# {note}" in (tmp_path / "x.yml").read_text() for note in done.notes)


def test_where_an_export_may_go(exporting: persona.Repository, adapted: Path, tmp_path: Path) -> None:
    write(exporting, "", {A: ""})
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine").write_text("x")
    with pytest.raises(Refusal, match="not an intact export"):
        persona.export(exporting, tmp_path / "x.yml")
    with pytest.raises(UsageError, match=r"is not a \.yml"):
        persona.export(exporting, tmp_path / "x.json")
    with pytest.raises(UsageError, match="have a meaning for mergekit"):
        persona.export(exporting, tmp_path / "a+b.yml")
    with pytest.raises(CheckpointError, match="is not this repository's base"):
        persona.export(exporting, tmp_path / "y.yml", base=adapted / A)
    persona.export(exporting, tmp_path / "z.yml")
    persona.export(exporting, tmp_path / "z.yml")  # the same again
    write(exporting, "", {B: ""})
    with pytest.raises(Refusal, match="another content"):
        persona.export(exporting, tmp_path / "z.yml")
    (tmp_path / "z.yml").unlink()  # as if it had been interrupted between the folder and the file
    persona.export(exporting, tmp_path / "z.yml")
    (tmp_path / "z.yml").unlink()
    (tmp_path / "z" / "vectors" / "more").write_text("x")
    with pytest.raises(Refusal, match="not an intact export"):
        persona.export(exporting, tmp_path / "z.yml")


def test_added_tokens_are_refused(models: TinyModels, tmp_path: Path) -> None:
    persona.init(tmp_path / "work", models.base(), author="Test")
    work = persona.open(tmp_path / "work")
    model = AutoModelForCausalLM.from_pretrained(models.base(), dtype=torch.bfloat16)
    model.resize_token_embeddings(100)
    model.save_pretrained(tmp_path / "grown")
    persona.commit(work, tmp_path / "grown", name="grown")
    with pytest.raises(Refusal, match="vector 'grown' resizes, adds or removes "):
        persona.export(work, tmp_path / "x.yml")
