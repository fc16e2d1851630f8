"""Recipes out to mergekit configurations and in again; tests/parity/ has mergekit merge them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import persona
from persona.errors import CheckpointError, RecipeError, Refusal, UsageError, WrongBase
from tests.models import TinyModels, assert_same, load
from tests.parity.test_mergekit import apart, folders

__all__ = ["folders"]  # a fixture: a base and its runs

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's and transformers' own

A, B, C, L = "run-1", "run-2", "run-3", "adapter"

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
    "karcher": ('method = "karcher"', {A: "alpha = 0.5", B: "alpha = 0.5", C: "alpha = 0.5"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def adapted(folders: Path) -> Path:
    """An adapter beside the runs."""
    model = AutoModelForCausalLM.from_pretrained(folders / "base", dtype=torch.float32)
    tuned = get_peft_model(model, LoraConfig(r=3, lora_alpha=5, target_modules=["q_proj", "down_proj"]))
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.02, generator=torch.Generator().manual_seed(1))
    tuned.save_pretrained(folders / L)
    return folders


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


def config(**changes: object) -> str:
    said = {
        "merge_method": "ties", "base_model": "base", "models": [{"model": A}, {"model": B}],
        "parameters": {"weight": 1.0, "density": 0.5},
    }  # fmt: skip
    return yaml.safe_dump({**said, **changes})


@pytest.fixture
def work(adapted: Path, tmp_path: Path) -> persona.Repository:
    persona.init(tmp_path / "work", adapted / "base", author="Test")
    return persona.open(tmp_path / "work")


def test_a_configuration_by_hand(work: persona.Repository, adapted: Path) -> None:
    (adapted / "hand.yml").write_text(config(models=[{"model": A}, {"model": f"base+{L}"}, {"model": "base"}]))
    done = persona.import_(work, adapted / "hand.yml", message="by hand")
    assert done.recorded is not None
    assert [(one.name, one.form) for one in done.models] == [(A, "dense"), (L, "lora")]
    text = work.recipe_path.read_text()
    assert 'method = "ties"\nnormalize = "weights"\ndensity = 0.5\n' in text
    assert persona.show(work, L).run["adapter"]["r"] == 3
    assert "adapter" not in persona.show(work, A).run


@pytest.mark.parametrize(
    ("said", "kind", "message"),
    [
        (config(models=[{"model": "meta/llama"}]), RecipeError, "models[0].model: no folder"),
        (config(base_model=A), WrongBase, "base_model: run-1 is not this repository's base"),
        (config(models=[{"model": f"{A}+{L}"}]), WrongBase, "models[0].model: run-1 is not"),
        (config(models=[{"model": A}, {"model": f"./{A}"}]), RecipeError, "would both be vector 'run-1'"),
        (config(models=[{"model": A}, {"model": "./base"}]), RecipeError, "models"),
        (config(slices=[]), RecipeError, "slices"),
    ],
)
def test_what_cannot_be_imported_is_named_before_anything_is_recorded(
    work: persona.Repository, adapted: Path, said: str, kind: type[Exception], message: str
) -> None:
    (adapted / "bad.yml").write_text(said)
    before = work.recipe_path.read_text()
    if "./base" in said:
        persona.import_(work, adapted / "bad.yml")  # the base under another name is the base
        return
    with pytest.raises(kind) as caught:
        persona.import_(work, adapted / "bad.yml")
    assert message in str(caught.value)
    assert work.recipe_path.read_text() == before
    assert len(persona.op_log(work)) == 1


def test_other_vectors_are_not_merged_by_surprise(work: persona.Repository, adapted: Path) -> None:
    persona.commit(work, adapted / C, name="mine", author="Test")
    persona.commit(work, adapted / A, name=A, node="a-node", author="Test")
    (adapted / "two.yml").write_text(config())
    with pytest.raises(Refusal, match="does not name: mine"):
        persona.import_(work, adapted / "two.yml")
    done = persona.import_(work, adapted / "two.yml", replace=True)
    assert done.replaced == ("mine",)
    listed = {one.name: one.node for one in persona.vectors(work)}
    assert listed == {A: "a-node", B: None}
    assert json.dumps(work.recipe(work.head()).parameters, sort_keys=True) == '{"density": 0.5, "normalize": "weights"}'


def test_a_folder_of_adapters(work: persona.Repository, adapted: Path, tmp_path: Path) -> None:
    many = tmp_path / "adapters"
    for name in ("calm", "my voice!", "late/checkpoint-2", "late/checkpoint-10"):
        shutil.copytree(adapted / L, many / name)
    (many / "notes").mkdir()
    listed = persona.import_adapter(work, [many], dry_run=True)
    assert listed.recorded is None
    assert not persona.vectors(work)
    done = persona.import_adapter(work, [many], alpha=0.5, author="Test")
    assert [(one.name, one.folder.name) for one in done.adapters] == [
        ("calm", "calm"), ("late", "checkpoint-10"), ("my-voice", "my voice!")
    ]  # fmt: skip
    assert {one.alpha for one in persona.vectors(work)} == {0.5}
    assert persona.show(work, "late").run["checkpoint"] == "checkpoint-10"
    assert persona.import_adapter(work, [many]).recorded is None
    persona.undo(work)
    assert not persona.vectors(work)


def test_adapters_that_do_not_fit(work: persona.Repository, adapted: Path, tmp_path: Path) -> None:
    many = tmp_path / "adapters"
    shutil.copytree(adapted / L, many / "good")
    shutil.copytree(adapted / L, many / "bad")
    (many / "bad" / "adapter_model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="bad"):
        persona.import_adapter(work, [many])
    assert not persona.vectors(work)
    done = persona.import_adapter(work, [many], skip_bad=True)
    assert [one.name for one in done.adapters] == ["good"]
    assert [one.folder.name for one in done.left_out] == ["bad"]
    with pytest.raises(CheckpointError, match="none of the 1"):
        persona.import_adapter(work, [many / "bad"], skip_bad=True)
    shutil.copytree(adapted / L, tmp_path / "more" / "good")
    with pytest.raises(UsageError, match="would both be vector 'good'"):
        persona.import_adapter(work, [many / "good", tmp_path / "more"])
    with pytest.raises(CheckpointError, match="no adapter in"):
        persona.import_adapter(work, [adapted / A])
