"""Keep pooled activations on disk while a readout is trained, so that an interrupted run can resume.

    OUT.partial/
      plan.json          what the rows depend on: model, dtype, layers, pooling, digest of the tokenized texts
      rows-<n>.f32       fp32, little-endian, [layers, texts, hidden], then what was left out of each, [layers, texts, FACTS]:
                         texts from the n-th on, in capture order
      lock               held by the writing process

Files of rows are written atomically, so every row in them is complete. They are read back a few rows at a time.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona import files
from persona.errors import Locked, Refusal, Storage
from persona.readout.capture import FACTS

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32

PLAN, LOCK = "plan.json", "lock"
FORMAT = 2
LARGEST = 4 << 20
"""Bytes of rows to buffer before writing a file."""
PATIENCE = 10.0
"""Maximum seconds of work that a kill can lose."""
_ROWS = re.compile(r"rows-(\d+)\.f32")


class Working:
    """The working folder, and rows not yet written. `plan` has `layers`, `hidden` and `rows`, the number of texts."""

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        self.folder = folder
        self.layers: tuple[int, ...] = tuple(plan["layers"])
        self.hidden: int = plan["hidden"]
        self._row = 4 * self.hidden
        self._files: list[tuple[int, int, Path]] = []  # first row, rows, path
        self._held: list[tuple[Float32, Float32]] = []
        self._since = time.monotonic()
        self._find()

    @property
    def kept(self) -> int:
        """Number of texts on disk."""
        return self._files[-1][0] + self._files[-1][1] if self._files else 0

    def append(self, rows: Float32, facts: Float32) -> None:
        """Add the rows of the next texts, [layers, n, hidden], and what was left out of each, [layers, n, FACTS]."""
        self._held.append((rows, facts))
        size = sum(rows.nbytes for rows, _ in self._held)
        if size >= LARGEST or time.monotonic() - self._since >= PATIENCE:
            self.flush()

    def flush(self) -> None:
        """Write buffered rows to disk."""
        import numpy as np

        if self._held:
            rows, facts = (np.concatenate(held, axis=1).astype("<f4") for held in zip(*self._held, strict=True))
            path = self.folder / f"rows-{self.kept:08}.f32"
            files.write_file(path, rows.tobytes() + facts.tobytes())
            self._files.append((self.kept, rows.shape[1], path))
            self._held = []
        self._since = time.monotonic()

    def rows(self, layer: int, places: Any) -> Float32:
        """Read rows at a layer, [n, hidden]; `places` are positions in capture order."""
        import numpy as np

        at = self.layers.index(layer)
        rows = np.empty((len(places), self.hidden), "<f4")
        starts = [first for first, _, _ in self._files]
        by_file: dict[int, list[int]] = {}
        for row, place in enumerate(places):
            by_file.setdefault(bisect_right(starts, place) - 1, []).append(row)
        for number, wanted in by_file.items():
            self._fill(rows, self._files[number], at, wanted, places)
        return rows

    def facts(self) -> Float32:
        """Read what was left out of each text, [layers, texts, FACTS], in capture order."""
        import numpy as np

        parts = [np.empty((len(self.layers), 0, FACTS), "<f4")]
        for _, count, path in self._files:
            with files.translated(path), path.open("rb") as opened:
                opened.seek(len(self.layers) * count * self._row)
                data = opened.read()
            if len(data) != 4 * len(self.layers) * count * FACTS:
                raise self._truncated(path)
            parts.append(np.frombuffer(data, "<f4").reshape(len(self.layers), count, FACTS))
        return np.concatenate(parts, axis=1)

    def _truncated(self, path: Path) -> Storage:
        return Storage(f"{path} is truncated", f"Delete {self.folder}, then run the command again.")

    def _fill(self, rows: Float32, file: tuple[int, int, Path], at: int, wanted: list[int], places: Any) -> None:
        first, count, path = file
        with files.translated(path), files.opened(path) as opened:
            for row in wanted:
                opened.seek((at * count + int(places[row]) - first) * self._row)
                if opened.readinto(memoryview(rows[row]).cast("B")) != self._row:
                    raise self._truncated(path)

    def _find(self) -> None:
        """Find the contiguous files from the first text on; texts after a gap are captured again."""
        numbered = {int(m[1]): path for path in self.folder.iterdir() if (m := _ROWS.fullmatch(path.name))}
        while (path := numbered.get(self.kept)) is not None:
            rows, rest = divmod(path.stat().st_size, (self._row + 4 * FACTS) * len(self.layers))
            if rest or not rows:
                return
            self._files.append((self.kept, rows, path))


class LayerRows:
    """Rows of some texts at a layer, read from disk on demand: the `Rows` of the aggregators."""

    def __init__(self, working: Working, layer: int, places: Any) -> None:
        self._working, self._layer, self.places = working, layer, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: Any) -> Float32:
        return self._working.rows(self._layer, [self.places[int(row)] for row in rows])


def folder_of(out: Path) -> Path:
    """The working folder for the readout `out`."""
    return out.with_name(f"{out.name}.partial")


@contextmanager
def working(folder: Path, plan: Mapping[str, Any]) -> Iterator[Working]:
    """Open or create a working folder, and lock it until the block ends; buffered rows are written in any case.

    Raises:
        Refusal: the folder belongs to another run or another program.
        Locked: another process uses it.
        Storage: the disk does not have enough space for all rows.
    """
    _check_room(folder, plan)
    if not folder.is_dir():
        files.make_folder(folder)
    elif not (folder / PLAN).is_file() and not all(_begun(path.name) for path in folder.iterdir()):
        raise Refusal(f"{folder} exists and was not made by 'persona readout train'", "Give another -o OUT.")
    lock = files.open_lock(folder / LOCK)
    if lock is None:
        raise Locked(f"another run is writing {folder}", "Wait for it to end, or give another -o OUT.")
    try:
        _check_plan(folder, {"format": FORMAT, **plan})
        work = Working(folder, plan)
        try:
            yield work
        finally:
            work.flush()
    finally:
        files.close_lock(lock)


def _begun(name: str) -> bool:
    """Whether a file can exist before the plan: the lock, or an unfinished plan left by a kill."""
    return name == LOCK or name.startswith(f".{PLAN}.tmp-")


def _check_plan(folder: Path, plan: dict[str, Any]) -> None:
    """Write the plan, or raise if the folder has another one."""
    path = folder / PLAN
    text = json.dumps(plan, indent=1, sort_keys=True) + "\n"
    if not path.is_file():
        files.write_file(path, text.encode())
        return
    try:
        known = json.loads(files.read_bytes(path))
    except (OSError, ValueError):
        known = {}
    now = json.loads(text)
    changed = (
        sorted(key for key in {*now, *known} if now.get(key) != known.get(key)) if isinstance(known, dict) else ["all"]
    )
    if changed:
        raise Refusal(
            f"{folder} has activations of another run; different: {', '.join(changed)}",
            f"Repeat the earlier command to resume it, give another -o OUT, or delete {folder} to start over.",
        )


def _check_room(folder: Path, plan: Mapping[str, Any]) -> None:
    """Raise if the disk does not have enough space for all rows."""
    needed = 4 * plan["rows"] * len(plan["layers"]) * (plan["hidden"] + FACTS)
    parent = next(path for path in folder.parents if path.is_dir())
    if folder.is_dir():
        needed -= sum(path.stat().st_size for path in folder.iterdir())
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise Storage(
            f"activations need {needed / 1e9:,.1f} GB in {folder}, but only {free / 1e9:,.1f} GB are free",
            "Free some space, name fewer --layers, or give -o OUT on another disk.",
        )


def finish(folder: Path) -> None:
    """Delete the working folder once the readout is written."""
    files.remove_tree(folder)
