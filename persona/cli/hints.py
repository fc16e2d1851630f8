"""A line after a command that says what people do next. Only on a terminal; ``[ui] hints = false`` turns it off."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

NEXT = {
    "commit": "persona build -o OUT makes the model, persona undo takes this back",
    "train": "persona build -o OUT makes the model, persona undo takes this back",
    "fisher": "persona show NAME says what it was estimated on, persona undo takes this back",
    "import": "persona status shows the recipe, persona undo takes this back",
    "import-adapter": "persona diff --weights shows how far they get in each other's way",
    "alpha": "persona build -o OUT makes the model, persona undo takes this back",
    "negate": "persona build -o OUT makes the model, persona undo takes this back",
    "derive": "persona show NAME says what it is made of",
    "bake": "persona undo takes this back",
    "rm": "history keeps it: persona restore NAME --source HEAD~1",
    "branch": "persona switch NAME goes to a branch",
    "tag": "persona build NAME -o OUT builds what a tag names",
    "switch": "persona switch - goes back",
    "checkout": "persona checkout - goes back",
    "merge": "persona build -o OUT makes the model, persona undo takes this back",
    "revert": "persona undo takes this back",
    "restore": "persona status shows what is edited",
    "undo": "persona redo makes it again",
    "graph import": "persona graph status shows what has a vector, and what is stale",
    "graph link": "persona graph status shows what has a vector, and what is stale",
    "readout train": "persona commit --readout OUT --as NAME versions it",
    "readout pairs": "persona readout train --pairs PAIRS finds a direction for each concept",
    "readout drift": "persona readout score TEXT --per-token shows where in a text a concept is",
    "eval": "persona blame --suite NAME shows which vector helps or hurts which measure",
    "verify-vectors": "persona blame --suite NAME shows what each vector does among the others",
    "blame": "persona sweep NAME --alpha -1:1:9 turns one vector up and down",
    "sweep": "persona tune --suite NAME varies all vectors at once",
    "build": "persona verify OUT tells at any time what it is, and whether a byte has changed",
}
"""By command; the others say themselves what comes next, or nothing does."""


def say(command: str, result: Any, wanted: Callable[[], bool]) -> None:
    """The hint after ``command``, unless its answer was no; ``wanted`` is asked last, as it reads a file."""
    if command not in NEXT or not getattr(result, "ok", True) or not _is_terminal() or not wanted():
        return
    import click

    click.secho(f"hint: {NEXT[command]}", err=True, dim=True)


def _is_terminal() -> bool:
    return sys.stdout.isatty() and sys.stderr.isatty()
