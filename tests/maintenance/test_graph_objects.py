"""Nodes and graphs are kept as long as a commit needs them, collected afterwards, and missed when they are lost."""

from __future__ import annotations

from pathlib import Path

import pytest

import persona
from persona.errors import Damaged
from tests.maintenance.conftest import flip, objects_of
from tests.models import TinyModels


@pytest.fixture
def noted(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> persona.Repository:
    """Three imports; the vector implements a text that the graph has no more."""
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "idea.md").write_text("First.")
    persona.graph_import(repo, notes)
    persona.commit(repo, models.run(1), name="a", node="idea")
    (notes / "idea.md").write_text("Second.")
    persona.graph_import(repo, notes)
    (notes / "idea.md").write_text("Third.")
    persona.graph_import(repo, notes)
    return repo


def texts(repo: persona.Repository) -> set[str]:
    return {
        word for path in objects_of(repo, "node") for word in ("First", "Second", "Third") if word in path.read_text()
    }


def test_what_history_needs_stays(noted: persona.Repository) -> None:
    persona.gc(noted, grace=0)
    assert texts(noted) == {"First", "Second", "Third"}
    assert persona.fsck(noted).ok
    assert persona.status(noted).stale == ("a",)


def test_what_nothing_needs_goes_and_a_pin_is_a_need(noted: persona.Repository) -> None:
    tip = noted.commit(noted.head())
    alone = persona.Repository(noted.root).objects.put(
        "commit",
        {
            "recipe": tip.recipe, "text": tip.text, "parents": [], "author": "x", "time": tip.time, "message": "alone",
            "run": {}, "graph": tip.graph,
        },
    )  # fmt: skip
    with noted.transaction("rewrite") as change:
        change.set_ref("refs/heads/main", alone)
    assert persona.gc(noted, grace=0).objects > 0
    assert texts(noted) == {"First", "Third"}, "what the vector implements, and what the graph has"
    assert persona.fsck(noted).ok
    assert persona.status(noted).stale == ("a",)


@pytest.mark.parametrize("kind", ["node", "graph"])
def test_a_loss_is_named_with_the_commits_that_suffer(noted: persona.Repository, kind: str) -> None:
    for path in objects_of(noted, kind):
        path.unlink()
    found = persona.fsck(noted)
    assert not found.ok
    assert {loss.kind for loss in found.lost} == {kind}
    assert all(loss.commits for loss in found.lost)
    with pytest.raises(Damaged, match=kind):
        persona.gc(noted, grace=0)


def test_a_flipped_bit_is_no_other_text(noted: persona.Repository) -> None:
    for path in objects_of(noted, "node"):
        flip(path, path.read_bytes().index(b'"text":"') + 9)
    with pytest.raises(Damaged, match=r"node .* is damaged"):
        persona.status(noted)
    assert not persona.fsck(noted).ok
