"""``cherry-pick`` takes one commit's changes, or one vector, from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

import persona
from persona.errors import Refusal, UsageError
from tests.models import TinyModels
from tests.verbs.test_merge import names, settle


def test_a_commit(parted: persona.Repository) -> None:
    before = parted.head()
    done = persona.cherry_pick(parted, "voice", author="Nobody")
    assert done.recorded is not None
    assert names(parted) == ["listening", "calm", "voice"]
    commit, picked = parted.commit(parted.head()), parted.commit(parted.resolve("voice"))
    assert commit.message == f"add voice\n\n(cherry picked from commit {parted.resolve('voice').short})"
    assert (commit.parents, commit.author, commit.run) == ((before,), picked.author, picked.run)
    with pytest.raises(Refusal, match="main has all of voice already"):
        persona.cherry_pick(parted, "voice")
    persona.undo(parted)
    assert parted.head() == before


def test_only_one_of_the_changes(parted: persona.Repository) -> None:
    persona.switch(parted, "voice")
    persona.alpha(parted, {"voice": 0.25, "listening": 0.75})
    persona.switch(parted, "main")
    done = persona.cherry_pick(parted, "voice@voice")
    assert done.name == "voice"
    assert names(parted) == ["listening", "calm", "voice"]
    recipe = parted.recipe(parted.head())
    assert [entry.alpha for entry in recipe.vectors] == [0.5, 1.0, 0.25]
    assert parted.commit(parted.head()).run == parted.commit(parted.resolve("voice~1")).run
    assert persona.cherry_pick(parted, "listening@voice").ok
    assert [entry.alpha for entry in parted.recipe(parted.head()).vectors] == [0.75, 1.0, 0.25]


def test_what_both_changed(models: TinyModels, parted: persona.Repository) -> None:
    persona.commit(parted, models.run(4), name="voice")
    done = persona.cherry_pick(parted, "voice@voice")
    assert [clash.where for clash in done.clashes] == ["vectors.voice.id"]
    settle(parted, "theirs")
    persona.commit(parted, message="theirs")
    theirs = parted.recipe(parted.resolve("voice"))
    assert parted.recipe(parted.head()).names["voice"] == theirs.names["voice"]
    assert not persona.status(parted).edited


def test_a_merge_and_the_memory_graph(parted: persona.Repository, tmp_path: Path) -> None:
    persona.switch(parted, "voice")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "patience.md").write_text("# patience\n\nListen.\n")
    persona.graph_import(parted, str(tmp_path / "notes"))
    graph = parted.commit(parted.head()).graph
    persona.switch(parted, "main")
    persona.cherry_pick(parted, "voice")
    assert parted.commit(parted.head()).graph == graph
    assert names(parted) == ["listening", "calm"]
    persona.undo(parted)
    persona.merge(parted, ["voice"])
    persona.switch(parted, "other", create=True, start="main~1")
    with pytest.raises(UsageError, match="is a merge with 2 parents"):
        persona.cherry_pick(parted, "main")
    with pytest.raises(UsageError, match="no parent 3"):
        persona.cherry_pick(parted, "main", mainline=3)
    persona.cherry_pick(parted, "main", mainline=1)
    assert names(parted) == ["listening", "calm", "voice"]


@pytest.mark.parametrize(
    ("what", "kind", "said"),
    [
        ("main~2", Refusal, "is the first commit"),
        ("calm", UsageError, "'calm' is a name in the recipe"),
        ("cold@voice", UsageError, "no vector or readout 'cold' in 'voice'"),
        ("nowhere", UsageError, "no revision 'nowhere'"),
    ],
)
def test_what_cannot_be_picked(parted: persona.Repository, what: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        persona.cherry_pick(parted, what)
