"""``commit --readout``, and what the other verbs make of a recipe that has readouts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import persona
from persona.errors import CheckpointError, RecipeError, Refusal, UsageError, WrongBase
from persona.store.readouts import StoredReadout
from persona.verbs.show import ShownReadout
from persona.workspace.readouts import load_readout
from tests.models import TinyModels
from tests.readout.handmade import CONCEPTS, handmade, written


@pytest.fixture
def told(repo: persona.Repository, models: TinyModels) -> dict[str, str]:
    """A repository with a vector; the ids that a readout captured on it says."""
    persona.commit(repo, models.run(1), name="listening", author="Test")
    return {"base": repo.recipe(repo.head()).base, "revision": repo.head()}


def out(repo: persona.Repository, seed: int = 0, **about: Any) -> Path:
    return written(repo.root / "out" / f"feelings-{seed}-{len(about)}", handmade(seed=seed, **about))


def test_what_was_trained_is_what_is_kept(repo: persona.Repository, told: dict[str, str]) -> None:
    done = persona.commit_readout(repo, out(repo, **told), name="feelings", author="Test")
    assert done.recorded is not None
    assert done.recorded.message == "add readout feelings"
    assert (done.concepts, done.layers, done.hidden, done.notes) == (CONCEPTS, (0, 1), 32, ())
    assert done.revision == told["revision"]
    wanted, kept = handmade(**told), load_readout(repo, done.readout)
    assert (kept.concepts, kept.layers, dict(kept.about)) == (wanted.concepts, wanted.layers, dict(wanted.about))
    for layer in wanted.layers:
        assert kept.vectors[layer].tobytes() == wanted.vectors[layer].tobytes()
    assert repo.recipe(repo.head()).names == {"listening": persona.vectors(repo)[0].id, "feelings": done.readout}
    [line] = persona.log(repo, limit=1)
    assert line.headline == f"AUC {np.mean(wanted.about['auc']):.4g}"
    assert line.run["readout"]["concepts"] == list(CONCEPTS)


def test_the_same_again_makes_nothing_new(repo: persona.Repository, told: dict[str, str]) -> None:
    first = persona.commit_readout(repo, out(repo, **told), name="feelings", author="Test")
    before = sorted(repo.folder.rglob("*"))
    again = persona.commit_readout(repo, out(repo, **told, model="a tiny Llama"), name="feelings", author="Test")
    assert again.recorded is None
    assert again.notes == ("'feelings' already is this readout; nothing was recorded",)
    assert again.readout == first.readout
    assert sorted(repo.folder.rglob("*")) == before
    packs = sorted((repo.folder / "packs").glob("*.pack"))
    other = persona.commit_readout(repo, out(repo, **told), name="moods", author="Test")
    assert other.readout == first.readout
    assert sorted((repo.folder / "packs").glob("*.pack")) == packs


def test_it_is_named_after_its_folder(repo: persona.Repository, told: dict[str, str]) -> None:
    done = persona.commit_readout(repo, written(repo.root / "moods", handmade(**told)), author="Test")
    assert done.name == "moods"
    with pytest.raises(UsageError, match="'a b' is not a valid readout name"):
        persona.commit_readout(repo, written(repo.root / "a b", handmade(**told)), author="Test")


def test_another_base_is_refused(repo: persona.Repository, told: dict[str, str]) -> None:
    with pytest.raises(WrongBase, match=f"captured on base {'ab' * 6}, .*'s base is .*{told['base'][:12]}"):
        persona.commit_readout(repo, out(repo, base="ab" * 32), name="feelings")
    assert repo.head() == told["revision"]


def test_what_is_not_known_of_its_origin_is_said(repo: persona.Repository, told: dict[str, str]) -> None:
    done = persona.commit_readout(repo, out(repo), name="a", author="Test")
    assert done.notes == ("its manifest does not say which base it was captured on",)
    assert StoredReadout.get(repo.objects, done.readout).base == told["base"]
    done = persona.commit_readout(repo, out(repo, base="qwen2", seed=1), name="b", author="Test")
    assert done.notes == ("its manifest does not say which base it was captured on",)
    done = persona.commit_readout(repo, out(repo, base=told["base"], seed=2), name="c", author="Test")
    assert done.notes == ("its manifest does not say which revision it was captured on",)
    elsewhere = {"base": told["base"], "revision": "cd" * 32}
    done = persona.commit_readout(repo, out(repo, **elsewhere, seed=3), name="d", author="Test")
    assert done.notes == ("it was captured on revision cdcdcdcdcdcd, which is not in this repository",)
    no_commit = {"base": told["base"], "revision": told["base"]}
    done = persona.commit_readout(repo, out(repo, **no_commit, seed=4), name="e", author="Test")
    assert done.notes == (f"its manifest says that it was captured on {told['base'][:12]}, which is not a commit",)
    assert persona.fsck(repo).ok
    assert [state.since for state in persona.status(repo).readouts] == [None] * 5


def test_it_must_fit_the_base(repo: persona.Repository) -> None:
    with pytest.raises(UsageError, match=r"16 wide, but the residual stream of the base .* is 32 wide"):
        persona.commit_readout(repo, written(repo.root / "narrow", handmade(hidden=16)))
    with pytest.raises(UsageError, match=r"the readout has layer 2, but the base .* has only layers 0 to 1"):
        persona.commit_readout(repo, written(repo.root / "deep", handmade(layers=(1, 2))))
    assert persona.status(repo).readouts == ()


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_numbers_are_finite(repo: persona.Repository, value: str) -> None:
    folder = written(repo.root / "feelings")
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "auc": [["X"]]}).replace('"X"', value))
    with pytest.raises(CheckpointError, match=r"manifest.json cannot be stored"):
        persona.commit_readout(repo, folder)


def test_names_are_text(repo: persona.Repository) -> None:
    folder = written(repo.root / "feelings")
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"warmth"', '"\\ud800"'))
    with pytest.raises(CheckpointError, match=r"manifest.json cannot be stored"):
        persona.commit_readout(repo, folder)


def test_a_minimal_manifest_from_elsewhere(repo: persona.Repository) -> None:
    readout = replace(handmade(), about={"counts": 3, "auc": "good", "note": {"by": ["hand", None]}})
    done = persona.commit_readout(repo, written(repo.root / "feelings", readout), author="Test")
    shown = persona.show(repo, "feelings")
    assert isinstance(shown, ShownReadout)
    assert (shown.tables, shown.counts, done.auc) == ({}, {}, None)
    assert shown.about == readout.about


def test_names_are_of_one_thing(repo: persona.Repository, models: TinyModels, told: dict[str, str]) -> None:
    packs = sorted((repo.folder / "packs").iterdir())
    with pytest.raises(UsageError, match="there is a vector 'listening' already"):
        persona.commit_readout(repo, out(repo, **told), name="listening")
    assert sorted((repo.folder / "packs").iterdir()) == packs, "nothing was kept of it"
    persona.commit_readout(repo, out(repo, **told), name="feelings", author="Test")
    with pytest.raises(UsageError, match="there is a readout 'feelings' already"):
        persona.commit(repo, models.run(2), name="feelings", author="Test")
    with pytest.raises(UsageError, match="no vector 'feelings' in the recipe") as error:
        persona.alpha(repo, {"feelings": 0.5}, author="Test")
    assert "is a readout" in error.value.hint


def test_show_and_status_say_how_old_it_is(repo: persona.Repository, models: TinyModels, told: dict[str, str]) -> None:
    persona.commit_readout(repo, out(repo, **told), name="feelings", author="Test")
    assert persona.status(repo).readouts[0].since == ()
    persona.alpha(repo, {"listening": 0.5}, author="Test")
    persona.commit(repo, models.run(2), name="voice", author="Test")
    [state] = persona.status(repo).readouts
    assert (state.name, state.revision, state.since) == ("feelings", told["revision"], ("listening", "voice"))
    shown, before = persona.show(repo, "feelings"), persona.show(repo, "feelings@HEAD~2")
    assert isinstance(shown, ShownReadout)
    assert isinstance(before, ShownReadout)
    assert (shown.since, before.since) == (("listening", "voice"), ())
    assert shown.commit == before.commit == before.of
    assert set(shown.tables) == {"norms", "centers", "spreads", "auc", "control"}
    assert shown.counts["calm"] == {"positive": 40, "negative": 52, "held_out": [10, 13]}


def test_training_again_is_a_difference(repo: persona.Repository, told: dict[str, str]) -> None:
    persona.commit_readout(repo, out(repo, **told), name="feelings", author="Test")
    other = handmade(("calm", "pride"), (1,), seed=0, **told)
    turned = replace(other, vectors={1: np.stack([handmade().vectors[1][1] * -1, other.vectors[1][1]])})
    folder = written(repo.root / "again", turned)
    done = persona.commit_readout(repo, folder, name="feelings", author="Test")
    assert done.recorded is not None
    assert done.recorded.message == "retrain readout feelings"
    found = persona.diff(repo, "HEAD~1", "HEAD")
    assert [change.text for change in found.changes] == ["readout feelings retrained (cos -1.00 with before)"]
    [one] = found.readouts
    assert (one.concepts, one.layers) == (("calm", "pride", "warmth", "doubt"), (0, 1))
    assert one.cosines[0] == (None, pytest.approx(-1, abs=1e-6))
    assert one.cosines[1:] == ((None, None),) * 3
    assert [one.commit for one in persona.log(repo, vector="feelings")] == [repo.head(), repo.resolve("HEAD~1")]
    added = persona.diff(repo, told["revision"], "HEAD")
    assert [change.text for change in added.changes] == ["+ readout feelings (2 concepts, layer 1)"]
    assert added.readouts == ()


def test_two_readouts_by_name(repo: persona.Repository, told: dict[str, str]) -> None:
    for seed, name in ((0, "feelings"), (1, "feelings"), (0, "moods")):
        persona.commit_readout(repo, out(repo, seed=seed, **told), name=name, author="Test")
    between = persona.diff(repo, "feelings@HEAD~2", "feelings")
    assert between.kinds == ("readout", "readout")
    assert [change.kind for change in between.changes] == ["readout retrained"]
    assert len(between.readouts[0].cosines) == 3
    assert persona.diff(repo, "feelings@HEAD~2").changes == between.changes
    assert persona.diff(repo, "feelings", "moods").readouts[0].name == "moods"
    assert not persona.diff(repo, "feelings@HEAD~2", "moods").differs
    assert not persona.diff(repo, "feelings").differs
    for args, match in (
        (("feelings", "HEAD"), "only be compared with a readout"),
        (("HEAD", "feelings"), "only be compared with a readout"),
        (("listening", "feelings"), "only be compared with a readout"),
        (("feeling",), "'feeling' is not a revision, a vector of the recipe"),
    ):
        with pytest.raises(UsageError, match=match):
            persona.diff(repo, *args)
    with pytest.raises(UsageError, match="readouts have no weights"):
        persona.diff(repo, "feelings", "moods", weights=True)
    persona.rm(repo, ["feelings"], author="Test")
    with pytest.raises(UsageError, match=r"no readout 'feelings' in persona\.toml"):
        persona.diff(repo, "feelings@HEAD~1")


def test_a_readout_is_no_model(repo: persona.Repository, told: dict[str, str]) -> None:
    from persona.workspace.loading import load_model

    persona.commit_readout(repo, out(repo, **told), name="feelings", author="Test")
    with pytest.raises(UsageError, match="'feelings' is not a revision, a vector of the recipe or a folder"):
        load_model(repo, "feelings", repo.root)


def test_rm_restore_revert_checkout_undo(repo: persona.Repository, told: dict[str, str]) -> None:
    kept = persona.commit_readout(repo, out(repo, **told), name="feelings", author="Test").readout
    persona.rm(repo, ["feelings"], author="Test")
    assert repo.recipe(repo.head()).readouts == ()
    with pytest.raises(UsageError, match="no vector or readout 'feelings'"):
        persona.rm(repo, ["feelings"])
    done = persona.restore(repo, ["feelings"], source="HEAD~1")
    assert [change.text for change in done.changes] == ["+ readout feelings (3 concepts, layers 0–1)"]
    assert [state.id for state in persona.status(repo).readouts] == [kept]
    assert [change.text for change in persona.restore(repo, ["feelings"]).changes] == ["- readout feelings"]
    persona.revert(repo, "HEAD", author="Test")
    assert repo.recipe(repo.head()).names["feelings"] == kept
    persona.undo(repo)
    assert repo.recipe(repo.head()).readouts == ()
    persona.redo(repo)
    persona.checkout(repo, told["revision"])
    assert persona.status(repo).readouts == ()
    persona.checkout(repo, "main")
    assert [state.id for state in persona.status(repo).readouts] == [kept]


def test_a_short_id_by_hand(repo: persona.Repository, told: dict[str, str]) -> None:
    kept = persona.commit_readout(repo, out(repo, **told), name="feelings", author="Test").readout
    text = repo.head_text()
    repo.recipe_path.write_text(text.replace(kept[:12], kept[:5]).replace("feelings", "moods"))
    done = persona.commit(repo, author="Test")
    assert done.recorded is not None
    assert repo.recipe(repo.head()).names["moods"] == kept
    vector = repo.recipe(repo.head()).vectors[0].id
    repo.recipe_path.write_text(text.replace(kept[:12], vector[:12]))
    with pytest.raises(RecipeError, match=r"readouts.feelings.id: no readout '.*' in this repository"):
        persona.commit(repo)


def branches(repo: persona.Repository, ours: Path, theirs: Path) -> None:
    """Two branches that recorded a readout each, under one name."""
    persona.switch(repo, "side", create=True)
    persona.commit_readout(repo, theirs, name="feelings", author="Test")
    persona.switch(repo, "main")
    persona.commit_readout(repo, ours, name="feelings", author="Test")


def test_a_conflict_is_settled_in_the_recipe(repo: persona.Repository, told: dict[str, str]) -> None:
    branches(repo, out(repo, **told), out(repo, seed=1, **told))
    mine = repo.recipe(repo.head()).names["feelings"]
    theirs = repo.recipe(repo.resolve("side")).names["feelings"]
    done = persona.merge(repo, ["side"], author="Test")
    assert [clash.text for clash in done.clashes] == ["readouts.feelings.id: added on both sides"]
    text = repo.recipe_path.read_text()
    block = text[text.index("<<<<<<<") :]
    assert block.splitlines()[1:4] == [f'id = "{mine[:12]}"', "=======", f'id = "{theirs[:12]}"']
    repo.recipe_path.write_text(
        "\n".join(line for line in text.splitlines() if line[:1] not in "<=>" or not line) + "\n"
    )
    text = repo.recipe_path.read_text().replace(f'id = "{mine[:12]}"\n', "")
    repo.recipe_path.write_text(text)
    persona.commit(repo, author="Test")
    assert repo.recipe(repo.head()).names["feelings"] == theirs


def test_a_merge_brings_a_readout_and_changes_no_method(
    repo: persona.Repository, models: TinyModels, told: dict[str, str]
) -> None:
    persona.switch(repo, "side", create=True)
    persona.commit_readout(repo, out(repo, **told), name="feelings", author="Test")
    persona.switch(repo, "main")
    persona.alpha(repo, {"listening": 0.5}, author="Test")
    done = persona.merge(repo, ["side"], author="Test")
    assert done.ok
    assert done.method == "linear"
    assert [change.text for change in done.changes] == ["+ readout feelings (3 concepts, layers 0–1)"]
    assert persona.merge(repo, ["side"]).outcome == "up to date"


def test_a_vector_and_a_readout_of_one_name_do_not_merge(
    repo: persona.Repository, models: TinyModels, told: dict[str, str]
) -> None:
    persona.switch(repo, "side", create=True)
    persona.commit_readout(repo, out(repo, **told), name="voice", author="Test")
    persona.switch(repo, "main")
    persona.commit(repo, models.run(2), name="voice", author="Test")
    before = repo.recipe_bytes()
    with pytest.raises(RecipeError, match=r"readouts.voice: a vector has this name"):
        persona.merge(repo, ["side"], author="Test")
    assert repo.recipe_bytes() == before


def test_an_unfinished_merge_takes_no_readout(repo: persona.Repository, told: dict[str, str]) -> None:
    branches(repo, out(repo, **told), out(repo, seed=1, **told))
    persona.merge(repo, ["side"], author="Test")
    with pytest.raises(Refusal, match="a merge is in progress"):
        persona.commit_readout(repo, out(repo, seed=2, **told), name="feelings")
