"""``persona train``: examples compiled into a vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from persona.progress import SILENT, Progress
from persona.repository import Repository
from persona.training.settings import read_settings
from persona.verbs.training import Trained, trained_and_committed
from persona.verbs.training_plan import checked, data_of, prepare_all


def train(
    repo: Repository,
    data: Path | str,
    *,
    node: str | None = None,
    name: str | None = None,
    evaluation: Path | str | None = None,
    preset: str | Path = "default",
    changes: Mapping[str, Any] | None = None,
    speaker: str | None = None,
    on: str | None = None,
    out: Path | str | None = None,
    ewc_data: Path | str | None = None,
    alpha: float | None = None,
    message: str | None = None,
    author: str = "",
    device: str = "cpu",
    dry_run: bool = False,
    code: Mapping[str, Any] | None = None,
    command: str = "train",
    told: Callable[[str], None] = lambda _: None,
    progress: Progress = SILENT,
) -> Trained:
    """Train on ``data`` and commit what came of it as the vector ``name``, which implements ``node``.

    It begins with the base of HEAD, or with a build of the revision ``on``; with elastic weight consolidation what
    ``ewc_data`` asks of the weights is kept. ``changes`` are settings that override the preset's. The run is in the
    folder ``out`` (``runs/NAME`` unless given): the same call goes on there after a kill. Rows that say another node than
    ``node`` are left out, and ``told`` hears of that before anything is trained.
    """
    files_ = data_of(data, evaluation, ewc_data, speaker, read_settings(preset, changes))
    asked = checked(repo, files_, node, name, preset, on, out, alpha, device)
    notes = files_.left_out([node] if node is not None else [])
    for text in notes:
        told(text)
    prepared = prepare_all(asked)
    done = trained_and_committed(asked, prepared, alpha, message, author, device, dry_run, code, command, progress)
    return replace(done, notes=(*notes, *done.notes))
