"""Several vectors as one: the same build, a parentage that is kept, and nothing that acts twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM

import persona
from persona import files, methods
from persona.errors import Refusal, UsageError
from persona.ids import VectorId
from persona.maintenance.report import LostObject
from tests.checkpoints.peft_folders import train
from tests.cli.conftest import Run
from tests.maintenance.conftest import flip_tensor
from tests.models import TinyModels, assert_same, load, nudge

pytestmark = pytest.mark.filterwarnings("ignore")  # peft's and transformers' own

MakeRepo = Callable[[Path], persona.Repository]


def merge_section(repo: persona.Repository, said: str) -> None:
    """Give persona.toml a [merge] section, and commit that."""
    text = repo.recipe_path.read_text()
    repo.recipe_path.write_text(text.replace("[vectors.", f"[merge]\n{said}\n\n[vectors.", 1))
    persona.commit(repo, message="merge")


@pytest.fixture
def two(models: TinyModels, make_repo: MakeRepo) -> persona.Repository:
    """Two full fine-tunes at odd alphas."""
    repo = make_repo(models.base())
    persona.commit(repo, models.run(1), name="one", alpha=0.7)
    persona.commit(repo, models.run(2), name="two", alpha=-0.3)
    return repo


def files_of(folder: Path) -> dict[str, bytes]:
    """What a build says beside receipt and card."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name not in ("persona.json", "README.md")}


@pytest.mark.parametrize("scale", ["", "scale = 0.6"])
@pytest.mark.parametrize("keep", [False, True])
def test_a_recipe_that_is_baked_whole_builds_the_same_bytes(
    two: persona.Repository, tmp_path: Path, scale: str, keep: bool
) -> None:
    if scale:
        merge_section(two, scale)
    persona.build(two, tmp_path / "before")
    done = persona.bake(two, ["two", "one"], "both", keep=keep)
    persona.build(two, tmp_path / "after")
    assert files_of(tmp_path / "after") == files_of(tmp_path / "before")
    assert (done.replaced, done.kept, done.alpha) == (("one", "two"), keep, 1.0)
    assert "scale" not in two.recipe_path.read_text()
    listed = {one.name: one for one in persona.vectors(two)}
    assert list(listed) == (["one", "two", "both"] if keep else ["both"])
    assert all(one.alpha == 0 for name, one in listed.items() if name != "both")


def test_added_tokens_adapters_and_another_dtype_build_the_same_bytes(
    models: TinyModels, make_repo: MakeRepo, tmp_path: Path
) -> None:
    base = AutoModelForCausalLM.from_pretrained(models.base())
    train(base.float(), LoraConfig(r=4, target_modules=["q_proj"]), tmp_path / "adapter")
    grown = AutoModelForCausalLM.from_pretrained(models.base(), dtype=torch.float32)
    grown.resize_token_embeddings(100, mean_resizing=False)
    nudge(grown, 1).save_pretrained(tmp_path / "grown")
    repo = make_repo(models.base())
    persona.commit(repo, tmp_path / "grown", name="grown", alpha=0.5)
    persona.commit(repo, tmp_path / "adapter", name="lora", alpha=-1.5)
    persona.build(repo, tmp_path / "before")
    persona.bake(repo, ["grown", "lora"], "both")
    persona.build(repo, tmp_path / "after")
    assert files_of(tmp_path / "after") == files_of(tmp_path / "before")


def test_some_of_a_recipe(two: persona.Repository, models: TinyModels, tmp_path: Path) -> None:
    """λ stays with the recipe; what differs is the one rounding of the baked tensors, none in fp32 but of its sums."""
    persona.commit(two, models.run(3), name="three", alpha=0.5)
    merge_section(two, "scale = 0.5")
    persona.build(two, tmp_path / "before", dtype="fp32")
    persona.bake(two, ["one", "two"], "both", dtype="fp32")
    assert two.recipe(two.head()).scale == 0.5
    assert [one.name for one in persona.vectors(two)] == ["three", "both"]
    persona.build(two, tmp_path / "after", dtype="fp32")
    before, after, base = (load(f) for f in (tmp_path / "before", tmp_path / "after", models.base()))
    for name, tensor in before.items():
        largest = torch.maximum(tensor.abs(), base[name].float().abs())
        assert bool(((after[name] - tensor).abs() <= 4 * 2.0**-24 * largest).all()), name


def test_only_and_except_are_baked_in(two: persona.Repository, tmp_path: Path) -> None:
    text = two.recipe_path.read_text()
    two.recipe_path.write_text(text + 'only = ["*.mlp.*"]\n')
    persona.commit(two, message="mlp alone")
    persona.build(two, tmp_path / "before")
    persona.bake(two, ["two"], "two")
    (_, listed) = persona.vectors(two)
    assert (listed.name, listed.only, listed.form) == ("two", (), "baked")
    changed = set(two.vector(listed.id).names)
    assert changed
    assert all(".mlp." in name for name in changed)


def test_it_knows_what_it_was_made_of(two: persona.Repository) -> None:
    parts = {one.name: one.id for one in persona.vectors(two)}
    persona.bake(two, ["one", "two"], "both", message="both of them")
    (listed,) = persona.vectors(two)
    assert listed.form == "baked"
    assert listed.baked_from is not None
    assert [(part.name, part.id, part.alpha) for part in listed.baked_from.vectors] == [
        ("one", parts["one"], 0.7), ("two", parts["two"], -0.3),
    ]  # fmt: skip
    assert persona.log(two)[0].subject == "both of them"
    assert persona.log(two)[0].run == {"vector": "both", "form": "baked"}


def test_it_is_one_operation_and_leaves_nothing_behind(two: persona.Repository, tmp_path: Path) -> None:
    before = two.recipe_path.read_text()
    persona.bake(two, ["one", "two"], "both")
    assert list((two.folder / "tmp").iterdir()) == []
    persona.undo(two)
    assert two.recipe_path.read_text() == before
    assert persona.fsck(two).ok


def test_baked_of_baked_survives_gc_and_the_dead_go_whole(two: persona.Repository, tmp_path: Path) -> None:
    """Parents are kept as long as what was made of them, and after that everything can go."""
    persona.bake(two, ["one", "two"], "both")
    persona.bake(two, ["both"], "again", alpha=0.5)
    persona.build(two, tmp_path / "before")
    persona.gc(two, grace=0)
    assert persona.fsck(two).ok
    (listed,) = persona.vectors(two)
    assert listed.baked_from is not None
    (parent,) = listed.baked_from.vectors
    grandparents = two.objects.get(two.vector(parent.id).baked_from, "recipe")["vectors"]
    assert [one["name"] for one in grandparents] == ["one", "two"]
    persona.build(two, tmp_path / "after")
    assert_same(load(tmp_path / "after"), load(tmp_path / "before"))


@pytest.mark.parametrize(
    ("names", "new", "said"),
    [
        (["one", "tow"], "both", "no vector 'tow'"),
        (["one"], "two", "already has a vector 'two'"),
        (["one"], "-x", "not a valid vector name"),
    ],
)
def test_wrong_names(two: persona.Repository, names: list[str], new: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        persona.bake(two, names, new)
    assert len(persona.vectors(two)) == 2


def test_edits_and_idle_vectors_are_refused(two: persona.Repository) -> None:
    persona.alpha(two, {"one": 0.0})
    with pytest.raises(Refusal, match="all these vectors have alpha 0"):
        persona.bake(two, ["one"], "x")
    text = two.recipe_path.read_text()
    two.recipe_path.write_text(text + "# edited\n")
    with pytest.raises(Refusal, match="uncommitted"):
        persona.bake(two, ["two"], "x")


def test_a_change_far_from_the_base_is_no_strangers_run(models: TinyModels, make_repo: MakeRepo) -> None:
    repo = make_repo(models.base())
    persona.commit(repo, models.run(1), name="one", alpha=300.0)
    assert persona.bake(repo, ["one"], "much").relative_norm > 1  # type: ignore[operator]


def test_the_example_of_the_help(two: persona.Repository, run: Run) -> None:
    said = run(two.root, "bake", "one", "two", "--as", "both")
    assert "replaces one, two (removed from the recipe" in said.out
    assert "Baked:  one α 0.7" in run(two.root, "show", "both").out
    assert "baked of 2" in run(two.root, "vectors").out


def test_fsck_blames_what_suffers(two: persona.Repository, tmp_path: Path) -> None:
    """Without the recipe that it was made of, the baked vector's parentage is lost; without a parent's weights not."""
    persona.bake(two, ["two"], "both")
    (_, listed) = persona.vectors(two)
    sub = two.vector(listed.id).baked_from
    assert sub is not None
    own = set(two.vector(listed.id).tensors.values())
    shutil.copytree(two.root, tmp_path / "copy")
    copy = persona.open(tmp_path / "copy")
    copy.objects.path(sub).unlink()
    (loss,) = persona.fsck(copy).lost
    assert (loss.kind, loss.id, loss.vectors) == ("recipe", sub, ("both",))
    assert [commit.subject for commit in loss.commits] == ["bake two into both"]
    blamed = parent_loss(two, own)
    assert "both" not in blamed.vectors
    assert "bake two into both" not in [commit.subject for commit in blamed.commits]


def parent_loss(repo: persona.Repository, own: set[object]) -> LostObject:
    """What fsck says when a tensor is damaged that only the vector 'two' has."""
    vector = repo.vector(persona.vectors(repo, "HEAD~1")[1].id)
    spec = next(spec for spec in vector.tensors.values() if spec not in own)
    flip_tensor(repo, spec.id)
    return next(loss for loss in persona.fsck(persona.open(repo.root)).lost if loss.id == spec.id)


TIES = pytest.mark.skipif("ties" not in methods.names(), reason="there is no method but linear yet")


@TIES
def test_a_method_that_is_no_sum_is_baked_whole_or_not_at_all(two: persona.Repository, tmp_path: Path) -> None:
    merge_section(two, 'method = "ties"\ndensity = 0.5')
    with pytest.raises(Refusal, match=r"method 'ties' cannot merge a part of the vectors: 'two' would be left out"):
        persona.bake(two, ["one"], "x")
    persona.build(two, tmp_path / "before")
    persona.bake(two, ["one", "two"], "both")
    assert two.recipe(two.head()).method == "linear"
    persona.build(two, tmp_path / "after")
    assert files_of(tmp_path / "after") == files_of(tmp_path / "before")


@TIES
def test_a_method_that_is_no_sum_has_no_exact_adapter(two: persona.Repository, tmp_path: Path) -> None:
    merge_section(two, 'method = "ties"\ndensity = 0.5')
    with pytest.raises(Refusal, match="method 'ties' is not a sum") as error:
        persona.build(two, tmp_path / "out", as_adapter=True)
    assert "--rank R" in error.value.hint
    done = persona.build(two, tmp_path / "out", as_adapter=True, rank=64)
    persona.build(two, tmp_path / "whole", dtype="fp32")
    assert done.adapter is not None
    assert all(one.error < 1e-5 for one in done.adapter.tensors)


def test_gc_takes_a_baked_vector_before_the_recipe_that_it_names(
    two: persona.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed collection must not leave a vector without what it names."""
    persona.alpha(two, {"one": 0.25})
    persona.bake(two, ["one"], "one")
    baked = VectorId(persona.vectors(two)[1].id)
    sub = two.vector(baked).baked_from
    assert sub is not None
    for _ in range(2):
        persona.undo(two)
    removed: list[Path] = []
    monkeypatch.setattr(files, "observer", lambda effect, path: removed.append(path) if effect == "remove" else None)
    persona.gc(two, grace=0)
    assert removed.index(two.objects.path(baked)) < removed.index(two.objects.path(sub))
    assert persona.fsck(two).ok
