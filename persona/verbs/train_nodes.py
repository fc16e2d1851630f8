"""``persona train NODE NODE …``: a file of several nodes' examples compiled into a vector for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona.errors import UsageError
from persona.progress import SILENT, Progress
from persona.repository import Repository
from persona.training.settings import read_settings
from persona.verbs.training import Trained, trained_and_committed
from persona.verbs.training_plan import RUNS, Asked, checked, data_of, name_of, prepare_all


@dataclass(frozen=True)
class TrainedNodes:
    """A run for each node, in the order that they were named; ``notes`` are of the data."""

    runs: tuple[Trained, ...]
    notes: tuple[str, ...] = ()


def train_nodes(
    repo: Repository,
    data: Path | str,
    nodes: Sequence[str],
    *,
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
) -> TrainedNodes:
    """:func:`train` for each of several nodes, one after the other, on those rows of ``data`` whose ``"node"`` it is.

    A vector is called as its node, and its run is in the folder of that name in ``out`` (``runs`` unless given). All data is
    looked at before anything is trained. The same call goes on after a kill: runs that are finished are not run again.
    """
    files_ = data_of(data, evaluation, ewc_data, speaker, read_settings(preset, changes))
    if twice := next((node for node in nodes if list(nodes).count(node) > 1), None):
        raise UsageError(f"'{twice}' is named twice", "Name each node once.")
    place = Path(out) if out is not None else repo.root / RUNS
    all_ = [
        checked(repo, files_, node, None, preset, on, place / name_of(node, Path(data)), alpha, device, several=True)
        for node in nodes
    ]
    _check_apart(all_)
    notes = files_.left_out(nodes)
    for text in notes:
        told(text)
    ready = [(asked, prepare_all(asked)) for asked in all_]
    how = alpha, message, author, device, dry_run, code, command, progress
    return TrainedNodes(tuple(trained_and_committed(asked, prepared, *how) for asked, prepared in ready), notes)


def _check_apart(all_: Sequence[Asked]) -> None:
    """Raise if two nodes' vectors would be called the same."""
    names = [asked.name for asked in all_]
    for asked in all_:
        if names.count(asked.name) > 1:
            nodes = " and ".join(str(other.node) for other in all_ if other.name == asked.name)
            raise UsageError(
                f"the vectors of {nodes} would both be called '{asked.name}'", "Train them one by one: --as NAME"
            )
