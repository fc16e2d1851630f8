"""`persona readout drift`: compare how two models read the same texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from persona.progress import SILENT, Progress
from persona.readout.drift import ReadoutShift
from persona.repository import Repository
from persona.workspace.reading import readout_named, remarks
from persona.workspace.running import RunOptions

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32


@dataclass(frozen=True)
class ReadoutDrift:
    """How the mean projections of `texts` texts differ between the models `before` and `after`.

    `said` is a summary: it speaks of each concept at its best layer in training, if the readout says which that is.
    """

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
    """Compare how two models read the same texts. One model is in memory at a time.

    Args:
        before: Revision, vector or folder of the first model, as for `readout_score`.
        after: The same for the second model; None for the current `persona.toml`.
        texts: At least two texts.
        readout: Name, `NAME@REV` or folder; None for the recipe's only readout.
        cwd: Folder that relative paths start from.
        dtype: Data type to run in; by default as stored.
        blocks: Where the list of blocks is in the model, such as "model.layers".
        batch_size: Number of texts per batch.

    Raises:
        UsageError: a name means nothing, the readout does not fit a model, or there are fewer than two texts.
    """
    from persona.readout.drift import best_layers, in_words, shifts

    found, name = readout_named(repo, readout, Path(cwd))
    run = RunOptions(Path(cwd), dtype, device, blocks, batch_size, progress)

    def read(spec: str | Path | None) -> tuple[str, tuple[str, ...], Float32]:
        # A function, so that the first model is freed before the second is loaded.
        loaded = run.load(repo, spec)
        return loaded.label, remarks(found, [loaded]), run.project(loaded, found, texts)

    old, old_notes, old_values = read(before)
    new, new_notes, new_values = read(after)
    moved, best = shifts(found, old_values, new_values), best_layers(found)
    notes = tuple(dict.fromkeys((*old_notes, *new_notes)))
    return ReadoutDrift(old, new, name, len(texts), found.concepts, found.layers, moved, in_words(moved, best), notes)
