"""Merging histories, in real repositories: outcomes, conflicts that a person settles, giving up, undoing."""

from __future__ import annotations

from pathlib import Path

import pytest

import persona
from persona.errors import Refusal, UsageError
from persona.history import refs as refs_
from persona.recipe.parse import marked_lines, parse
from persona.verbs import merge as merging
from tests.models import TinyModels, load


def names(repo: persona.Repository) -> list[str]:
    return [entry.name for entry in repo.recipe(repo.head()).vectors]


def settle(repo: persona.Repository, side: str) -> None:
    """What a person does in an editor: keep the lines of one side."""
    kept, where = [], ""
    for line in repo.recipe_path.read_text().splitlines():
        if line.startswith("<<<<<<< "):
            where = "ours"
        elif line.startswith("||||||| "):
            where = "before"
        elif line == "=======":
            where = "theirs"
        elif line.startswith(">>>>>>> "):
            where = ""
        elif where in ("", side):
            kept.append(line)
    repo.recipe_path.write_text("\n".join(kept) + "\n")


def test_vectors_of_both_sides_come_together(parted: persona.Repository) -> None:
    ours, theirs = parted.head(), parted.resolve("voice")
    done = persona.merge(parted, ["voice"])
    assert (done.outcome, done.ok, done.method) == ("merged", True, "ties")
    assert names(parted) == ["listening", "calm", "voice"]
    commit = parted.commit(parted.head())
    assert commit.parents == (ours, theirs)
    assert commit.message == "merge voice"
    assert not parted.is_edited()
    assert parted.resolve("HEAD^2") == theirs


def test_a_merged_recipe_builds(parted: persona.Repository, tmp_path: Path) -> None:
    persona.merge(parted, ["voice"])
    persona.build(parted, tmp_path / "merged")
    assert load(tmp_path / "merged")


def test_a_method_that_a_side_names_stays(parted: persona.Repository) -> None:
    parted.recipe_path.write_text(parted.head_text() + '\n[merge]\nmethod = "linear"\n')
    persona.commit(parted)
    assert persona.merge(parted, ["voice"]).method == "linear"


def test_a_method_as_told(parted: persona.Repository) -> None:
    assert persona.merge(parted, ["voice"], method="dare_ties").method == "dare_ties"
    assert parse(parted.head_text()).method == "dare_ties"


def test_alphas_alone_bring_no_method(models: TinyModels, repo: persona.Repository) -> None:
    persona.commit(repo, models.run(1), name="a")
    persona.commit(repo, models.run(2), name="b")
    persona.branch(repo, "side")
    persona.alpha(repo, {"a": 0.5})
    persona.switch(repo, "side")
    persona.alpha(repo, {"b": 0.5})
    assert persona.merge(repo, ["main"]).method == "linear"


def test_forward_and_up_to_date(parted: persona.Repository) -> None:
    persona.branch(parted, "behind", "HEAD~1")
    persona.switch(parted, "behind")
    done = persona.merge(parted, ["main"])
    assert done.outcome == "fast-forward"
    assert parted.head() == parted.resolve("main")
    assert persona.merge(parted, ["main"]).outcome == "up to date"
    with pytest.raises(Refusal, match="cannot fast-forward"):
        persona.merge(parted, ["voice"], only_forward=True)


def test_no_forward(parted: persona.Repository) -> None:
    persona.branch(parted, "behind", "HEAD~1")
    persona.switch(parted, "behind")
    persona.merge(parted, ["main"], forward=False)
    assert len(parted.commit(parted.head()).parents) == 2


def test_dry_run_changes_nothing(parted: persona.Repository) -> None:
    before = parted.refs(), parted.recipe_text(), parted.log.head()
    done = persona.merge(parted, ["voice"], dry_run=True)
    assert [change.text for change in done.changes] == ["method: linear → ties", "+ voice α 1"]
    assert before == (parted.refs(), parted.recipe_text(), parted.log.head())


def test_several_heads(models: TinyModels, parted: persona.Repository) -> None:
    persona.switch(parted, "third", create=True, start="main~1")
    persona.commit(parted, models.run(4), name="third")
    persona.switch(parted, "main")
    persona.merge(parted, ["voice", "third"])
    assert names(parted) == ["listening", "calm", "voice", "third"]
    assert len(parted.commit(parted.head()).parents) == 3


@pytest.fixture
def clashing(parted: persona.Repository) -> persona.Repository:
    persona.alpha(parted, {"listening": 0.7})
    persona.switch(parted, "voice")
    persona.alpha(parted, {"listening": 0.8})
    persona.switch(parted, "main")
    return parted


def test_a_conflict_is_settled_by_hand(clashing: persona.Repository) -> None:
    head = clashing.head()
    done = persona.merge(clashing, ["voice"])
    assert (done.outcome, done.recorded) == ("conflict", None)
    assert [clash.where for clash in done.clashes] == ["vectors.listening.alpha"]
    assert clashing.head() == head
    assert marked_lines(clashing.recipe_text() or "")
    with pytest.raises(UsageError, match=r"persona.toml:\d+: unresolved merge conflict"):
        persona.commit(clashing)
    status = persona.status(clashing)
    assert status.merging == ("voice",)
    settle(clashing, "theirs")
    recorded = persona.commit(clashing).recorded
    assert recorded is not None
    assert recorded.message == "merge voice"
    assert clashing.commit(clashing.head()).parents == (head, clashing.resolve("voice"))
    assert clashing.recipe(clashing.head()).entry("listening").alpha == 0.8  # type: ignore[union-attr]
    assert persona.status(clashing).merging == ()


def test_continue_with_both_lines_would_be_an_error(clashing: persona.Repository) -> None:
    persona.merge(clashing, ["voice"])
    text = clashing.recipe_path.read_text().splitlines()
    clashing.recipe_path.write_text("\n".join(line for line in text if not line.startswith(("<<", "||", "==", ">>"))))
    with pytest.raises(UsageError, match="invalid TOML"):
        merging.go_on(clashing)
    clashing.recipe_path.write_text(clashing.head_text())
    assert merging.go_on(clashing).outcome == "merged"


@pytest.mark.parametrize("prefer", ["ours", "theirs"])
def test_a_side_may_be_preferred(clashing: persona.Repository, prefer: str) -> None:
    done = persona.merge(clashing, ["voice"], prefer=prefer)
    assert done.outcome == "merged"
    entry = clashing.recipe(clashing.head()).entry("listening")
    assert entry is not None
    assert entry.alpha == {"ours": 0.7, "theirs": 0.8}[prefer]


def test_giving_up(clashing: persona.Repository) -> None:
    before = clashing.refs()
    persona.merge(clashing, ["voice"])
    assert merging.abort(clashing).backup is None
    assert clashing.refs() == before
    assert not clashing.is_edited()
    with pytest.raises(Refusal, match="no merge is in progress"):
        merging.abort(clashing)


def test_giving_up_keeps_what_was_settled(clashing: persona.Repository) -> None:
    persona.merge(clashing, ["voice"])
    settle(clashing, "ours")
    text = clashing.recipe_path.read_text()
    backup = merging.abort(clashing).backup
    assert backup is not None
    assert backup.read_text() == text


@pytest.mark.parametrize(
    "action",
    [
        lambda repo: persona.alpha(repo, {"calm": 2.0}),
        lambda repo: persona.switch(repo, "voice"),
        lambda repo: persona.merge(repo, ["voice"]),
        lambda repo: persona.undo(repo),
        lambda repo: persona.revert(repo, "HEAD"),
        lambda repo: persona.rm(repo, ["calm"]),
    ],
)
def test_nothing_else_happens_meanwhile(clashing: persona.Repository, action: object) -> None:
    persona.merge(clashing, ["voice"])
    before = clashing.refs(), clashing.recipe_text()
    with pytest.raises(Refusal, match="a merge is in progress"):
        action(clashing)  # type: ignore[operator]
    assert (clashing.refs(), clashing.recipe_text()) == before


def test_undo_takes_a_merge_back_as_one_step(clashing: persona.Repository) -> None:
    before = clashing.refs(), clashing.recipe_text()
    persona.merge(clashing, ["voice"])
    settle(clashing, "ours")
    persona.commit(clashing)
    after = clashing.refs()
    persona.undo(clashing)
    assert (clashing.refs(), clashing.recipe_text()) == before
    persona.redo(clashing)
    assert clashing.refs() == after
    assert not refs_.merge_heads(clashing.refs())


def test_undo_passes_over_a_merge_that_was_given_up(clashing: persona.Repository) -> None:
    persona.merge(clashing, ["voice"])
    merging.abort(clashing)
    assert persona.undo(clashing).command == "switch"
    assert clashing.resolve("HEAD") == clashing.resolve("voice")


@pytest.fixture
def retrained(models: TinyModels, repo: persona.Repository) -> persona.Repository:
    """listening was trained again on both sides."""
    persona.commit(repo, models.run(1), name="listening")
    persona.switch(repo, "other/try", create=True)
    persona.commit(repo, models.run(2), name="listening")
    persona.switch(repo, "main")
    persona.commit(repo, models.run(3), name="listening")
    return repo


def test_retrained_on_both_sides_is_a_conflict(retrained: persona.Repository) -> None:
    (clash,) = persona.merge(retrained, ["other/try"]).clashes
    assert clash.text == "vectors.listening.id: retrained on both sides"
    settle(retrained, "theirs")
    persona.commit(retrained)
    entry = retrained.recipe(retrained.head()).entry("listening")
    assert entry == retrained.recipe(retrained.resolve("other/try")).entry("listening")


def test_both_trainings_are_kept(retrained: persona.Repository) -> None:
    done = persona.merge(retrained, ["other/try"], retrained="both")
    assert names(retrained) == ["listening", "listening-other-try"]
    assert done.notes


def test_the_mean_of_both_trainings(retrained: persona.Repository) -> None:
    one, other = persona.vector(retrained, "listening"), persona.vector(retrained, "listening@other/try")
    persona.merge(retrained, ["other/try"], retrained="mean")
    mean = persona.vector(retrained, "listening")
    name = "model.layers.1.mlp.up_proj.weight"
    assert (mean[name] == 0.5 * one[name] + 0.5 * other[name]).all()


def test_one_of_both_trainings(retrained: persona.Repository) -> None:
    persona.merge(retrained, ["other/try"], retrained="theirs")
    assert retrained.recipe(retrained.head()).vectors == retrained.recipe(retrained.resolve("other/try")).vectors


def test_comments_of_both_sides_stay(parted: persona.Repository, models: TinyModels) -> None:
    persona.switch(parted, "voice")
    text = parted.head_text().replace("[vectors.voice]", "# the voice of spring\n[vectors.voice]  # by Ada")
    parted.recipe_path.write_text(text)
    persona.commit(parted)
    persona.switch(parted, "main")
    parted.recipe_path.write_text("# ours\n" + parted.head_text())
    persona.commit(parted)
    persona.merge(parted, ["voice"])
    merged = parted.head_text()
    assert merged.startswith("# ours\n")
    assert "# the voice of spring\n[vectors.voice]  # by Ada\n" in merged


def test_criss_cross(parted: persona.Repository) -> None:
    """Each side merged the other once, and went on: two merge bases, and no conflict."""
    main, voice = parted.resolve("main"), parted.resolve("voice")
    persona.merge(parted, ["voice"])
    persona.switch(parted, "voice")
    persona.merge(parted, [main[:12]])
    persona.alpha(parted, {"voice": 0.5})
    persona.switch(parted, "main")
    persona.alpha(parted, {"calm": 0.25})
    from persona.history.ancestry import Ancestry

    heads = [parted.resolve("main")], parted.resolve("voice")
    assert set(Ancestry(parted.objects).merge_bases(*heads)) == {main, voice}
    done = persona.merge(parted, ["voice"])
    assert done.outcome == "merged"
    alphas = {entry.name: entry.alpha for entry in parted.recipe(parted.head()).vectors}
    assert alphas == {"listening": 0.5, "calm": 0.25, "voice": 0.5}


def test_edits_are_not_merged_over(parted: persona.Repository) -> None:
    parted.recipe_path.write_text(parted.head_text() + "# an edit\n")
    with pytest.raises(Refusal, match="uncommitted"):
        persona.merge(parted, ["voice"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"revs": ["vioce"]}, "no revision 'vioce'"),
        ({"revs": ["voice"], "method": "tise"}, "unknown method 'tise'"),
        ({"revs": ["voice"], "prefer": "mine"}, "unknown side"),
        ({"revs": ["voice"], "retrained": "none"}, "unknown choice"),
    ],
)
def test_mistakes(parted: persona.Repository, arguments: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        persona.merge(parted, **arguments)  # type: ignore[arg-type]


def test_how_far_vectors_interfere_is_told_before_and_after(parted: persona.Repository) -> None:
    """The report of a dry run, of the merge, and of ``diff --weights`` are one."""
    tried = persona.merge(parted, ["voice"], dry_run=True)
    before = merging.interference_of(parted, tried)
    after = merging.interference_of(parted, persona.merge(parted, ["voice"]))
    assert before is not None
    assert before == after == persona.interference(parted)
    assert before.vectors == ("listening", "calm", "voice")
