"""A one-line hint after a command: the usual next step. Terminals only; `[ui] hints = false` turns hints off."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

BUILD_OR_UNDO = "'persona build -o OUT' writes the model, 'persona undo' reverts this"
GRAPH_STATUS = "'persona graph status' shows which nodes have a vector, and which vectors are stale"

NEXT = {
    "commit": BUILD_OR_UNDO,
    "train": BUILD_OR_UNDO,
    "fisher": "'persona show NAME' shows what it was estimated on, 'persona undo' reverts this",
    "import": "'persona status' shows the recipe, 'persona undo' reverts this",
    "import-adapter": "'persona diff --weights' shows how much the vectors interfere",
    "alpha": BUILD_OR_UNDO,
    "negate": BUILD_OR_UNDO,
    "derive": "'persona show NAME' shows its terms",
    "bake": "'persona undo' reverts this",
    "stash": "'persona stash pop' takes it back",
    "stash pop": "'persona commit' records it, 'persona undo' stashes it again",
    "stash drop": "'persona undo' brings it back",
    "mv": "'persona undo' takes it back",
    "rm": "to bring it back, run 'persona restore NAME --source HEAD~1'",
    "branch": "'persona switch NAME' switches to a branch",
    "tag": "'persona build NAME -o OUT' builds a tag",
    "switch": "'persona switch -' goes back",
    "checkout": "'persona checkout -' goes back",
    "merge": BUILD_OR_UNDO,
    "revert": "'persona undo' takes the revert back",
    "cherry-pick": "'persona undo' takes it back",
    "restore": "'persona status' shows the remaining edits",
    "undo": "'persona redo' brings it back",
    "graph import": GRAPH_STATUS,
    "graph link": GRAPH_STATUS,
    "readout train": "'persona commit --readout OUT --as NAME' records the readout",
    "readout pairs": "'persona readout train --pairs PAIRS' trains a direction for each concept",
    "readout drift": "'persona readout score TEXT --per-token' shows where a concept occurs in a text",
    "eval": "'persona blame --suite NAME' shows which vector helps or hurts each measure",
    "eval --init": "'persona eval --replies' measures the recipe with them, and shows what it replies",
    "verify-vectors": "'persona blame --suite NAME' shows what each vector does next to the others",
    "blame": "'persona sweep NAME --alpha -1:1:9' tries other alphas for one vector",
    "sweep": "'persona tune --suite NAME' optimizes all alphas together",
    "build": "'persona verify OUT' checks later that no byte has changed",
}
"""Hints by command. Commands that are missing here print their own next step, or have none."""


def say(command: str, result: Any, wanted: Callable[[], bool]) -> None:
    """Print the hint for `command`, unless its result has `ok` false.

    Args:
        wanted: Whether hints are on; called last, as it reads a file.
    """
    if command not in NEXT or not getattr(result, "ok", True) or not _is_terminal() or not wanted():
        return
    import click

    click.secho(f"hint: {NEXT[command]}", err=True, dim=True)


def _is_terminal() -> bool:
    return sys.stdout.isatty() and sys.stderr.isatty()
