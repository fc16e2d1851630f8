"""The graph of the example and the five vectors that implement it.

| node | vector |
| pattern-listening-as-avoidance | listening |
| rushing-pattern | not_rushing |
| pattern-wrapping-up-reflex | not_wrapping_up |
| core-personality, its section voice | voice |
| core-personality, its section boundaries | boundaries |
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import persona
from tests.models import TinyModels

FOLDER = Path(__file__).parents[2] / "examples" / "graph"


TABLE = {
    "listening": "pattern-listening-as-avoidance",
    "not_rushing": "rushing-pattern",
    "not_wrapping_up": "pattern-wrapping-up-reflex",
    "voice": "core-personality#voice",
    "boundaries": "core-personality#boundaries",
}


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """The graph of the example, to be edited."""
    return Path(shutil.copytree(FOLDER, tmp_path / "notes"))


@pytest.fixture
def whole(models: TinyModels, repo: persona.Repository, notes: Path) -> persona.Repository:
    """A repository with the graph and the five vectors."""
    persona.graph_import(repo, notes)
    for seed, (name, node) in enumerate(TABLE.items(), 1):
        persona.commit(repo, models.run(seed), name=name, node=node)
    return repo


def edit(notes: Path, node: str, old: str, new: str) -> None:
    path = notes / f"{node}.md"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def states(repo: persona.Repository, rev: str | None = None) -> dict[str, str]:
    return {link.vector: str(link.state) for link in persona.graph_status(repo, rev).links}
