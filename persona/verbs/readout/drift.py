"""``persona readout drift``: how a merge, or a training, moved the mood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from persona.progress import SILENT, Progress
from persona.readout.drift import ReadoutShift
from persona.repository import Repository
from persona.workspace.loading import load_model
from persona.workspace.reading import readout_named, remarks

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32


@dataclass(frozen=True)
class ReadoutDrift:
    """How the mean projection of some texts moved from the model ``before`` to ``after``; ``said`` is that in words."""

    before: str
    after: str
    readout: str
    texts: int
    concepts: tuple[str, ...]
    layers: tuple[int, ...]
    shifts: tuple[ReadoutShift, ...]
    said: str
    notes: tuple[str, ...] = ()


def readout_drift(
    repo: Repository | None,
    before: str | Path,
    after: str | Path | None,
    texts: Sequence[str],
    readout: str | Path | None = None,
    *,
    cwd: Path | str = ".",
    dtype: str | None = None,
    device: str = "cpu",
    blocks: str | None = None,
    batch_size: int = 8,
    progress: Progress = SILENT,
) -> ReadoutDrift:
    """Read the same texts with two models, one in memory at a time, and compare; named as for ``readout_score``.

    The unit is the standard deviation of a concept's projections over the texts in ``before``.
    """
    from persona.readout.drift import in_words, shifts
    from persona.readout.score import projections

    found, name = readout_named(repo, readout, Path(cwd))

    def read(said: str | Path | None) -> tuple[str, tuple[str, ...], Float32]:
        # A call for each, so that the first model is gone before the second comes.
        live = load_model(repo, said, Path(cwd), dtype=dtype, device=device, progress=progress)
        values = projections(live, found, texts, blocks=blocks, batch_size=batch_size, progress=progress)
        return live.label, remarks(found, [live]), values

    old, remark, then = read(before)
    new, another, now = read(after)
    moved = shifts(found, then, now)
    notes = tuple(dict.fromkeys((*remark, *another)))
    return ReadoutDrift(old, new, name, len(texts), found.concepts, found.layers, moved, in_words(moved), notes)
