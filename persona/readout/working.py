"""Pooled activations on disk while a readout is trained, so that a run that was stopped goes on where it was.

    OUT.partial/
      plan.json          what the rows are of: model, dtype, layers, pooling, digest of the texts in tokens
      rows-<n>.f32       fp32, little-endian, [layers, texts, hidden]: the texts from the n-th on, in the order of capture
      lock               held by who writes

A file of rows appears whole (written, synced, renamed), so the texts that are done are those that the files have. They are
read back with plain reads, some rows at a time.
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

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32

PLAN, LOCK = "plan.json", "lock"
FORMAT = 1
LARGEST = 4 << 20
"""Bytes of rows that are held before they are written."""
PATIENCE = 10.0
"""Seconds of work that a kill may cost, at most."""
_ROWS = re.compile(r"rows-(\d+)\.f32")


class Working:
    """The folder, and the rows that are not in it yet. ``plan`` has ``layers``, ``hidden`` and ``texts``."""

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        self.folder = folder
        self.layers: tuple[int, ...] = tuple(plan["layers"])
        self.hidden: int = plan["hidden"]
        self._row = 4 * self.hidden
        self._files: list[tuple[int, int, Path]] = []  # first row, rows, path
        self._held: list[Float32] = []
        self._since = time.monotonic()
        self._find()

    @property
    def kept(self) -> int:
        """How many texts are on disk."""
        return self._files[-1][0] + self._files[-1][1] if self._files else 0

    def append(self, rows: Float32) -> None:
        """The next texts, [layers, n, hidden]."""
        self._held.append(rows)
        size = sum(one.nbytes for one in self._held)
        if size >= LARGEST or time.monotonic() - self._since >= PATIENCE:
            self.flush()

    def flush(self) -> None:
        """Make durable what was appended."""
        import numpy as np

        if self._held:
            rows = np.ascontiguousarray(np.concatenate(self._held, axis=1), "<f4")
            path = self.folder / f"rows-{self.kept:08}.f32"
            files.write_file(path, rows.tobytes())
            self._files.append((self.kept, rows.shape[1], path))
            self._held = []
        self._since = time.monotonic()

    def rows(self, layer: int, places: Any) -> Float32:
        """What some texts (by their places in the order of capture) have at a layer: [n, hidden]."""
        import numpy as np

        at = self.layers.index(layer)
        found = np.empty((len(places), self.hidden), "<f4")
        starts = [first for first, _, _ in self._files]
        by_file: dict[int, list[int]] = {}
        for row, place in enumerate(places):
            by_file.setdefault(bisect_right(starts, place) - 1, []).append(row)
        for number, wanted in by_file.items():
            self._fill(found, self._files[number], at, wanted, places)
        return found

    def _fill(self, found: Float32, file: tuple[int, int, Path], at: int, wanted: list[int], places: Any) -> None:
        first, count, path = file
        with files.translated(path), path.open("rb") as opened:
            for row in wanted:
                opened.seek((at * count + int(places[row]) - first) * self._row)
                if opened.readinto(memoryview(found[row]).cast("B")) != self._row:
                    raise Storage(f"{path} is cut short", f"Delete {self.folder}, and run the command again.")

    def _find(self) -> None:
        """The files that follow each other from the first text on; what comes after a gap is captured again."""
        numbered = {int(m[1]): path for path in self.folder.iterdir() if (m := _ROWS.fullmatch(path.name))}
        while (path := numbered.get(self.kept)) is not None:
            rows, rest = divmod(path.stat().st_size, self._row * len(self.layers))
            if rest or not rows:
                return
            self._files.append((self.kept, rows, path))


class LayerRows:
    """Some texts at one layer, read when they are asked for: ``Rows`` of the aggregators."""

    def __init__(self, working: Working, layer: int, places: Any) -> None:
        self._working, self._layer, self.places = working, layer, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: Any) -> Float32:
        return self._working.rows(self._layer, [self.places[int(row)] for row in rows])


def folder_of(out: Path) -> Path:
    """The working folder of what will be ``out``."""
    return out.with_name(f"{out.name}.partial")


@contextmanager
def working(folder: Path, plan: Mapping[str, Any]) -> Iterator[Working]:
    """The folder that has what ``plan`` says, made or found; whatever happens, what is captured is written to it."""
    said = {"format": FORMAT, **plan}
    _check_room(folder, plan)
    if not folder.is_dir():
        files.make_folder(folder)
    elif not (folder / PLAN).is_file() and not all(_begun(one.name) for one in folder.iterdir()):
        raise Refusal(f"{folder} is there, and was not made by 'persona readout train'", "Give another -o OUT.")
    lock = files.open_lock(folder / LOCK)
    if lock is None:
        raise Locked(f"another run is writing {folder}", "Wait for it, or give another -o OUT.")
    try:
        _take(folder, said)
        work = Working(folder, plan)
        try:
            yield work
        finally:
            work.flush()
    finally:
        files.close_lock(lock)


def _begun(name: str) -> bool:
    """Whether a file may be there before the plan is: the lock, and a plan that a kill left unfinished."""
    return name == LOCK or name.startswith(f".{PLAN}.tmp-")


def _take(folder: Path, said: dict[str, Any]) -> None:
    path = folder / PLAN
    text = json.dumps(said, indent=1, sort_keys=True) + "\n"
    if not path.is_file():
        files.write_file(path, text.encode())
        return
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        found = {}
    now = json.loads(text)
    unlike = (
        sorted(key for key in {*now, *found} if now.get(key) != found.get(key)) if isinstance(found, dict) else ["all"]
    )
    if unlike:
        raise Refusal(
            f"{folder} has the work of another run, with other {', '.join(unlike)}",
            f"Run it as before to go on with it, give another -o OUT, or delete {folder} to begin anew.",
        )


def _check_room(folder: Path, plan: Mapping[str, Any]) -> None:
    """Raise before the work if there is no room for its rows."""
    needed = 4 * plan["rows"] * len(plan["layers"]) * plan["hidden"]
    there = next(one for one in folder.parents if one.is_dir())
    if folder.is_dir():
        needed -= sum(one.stat().st_size for one in folder.iterdir())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise Storage(
            f"{folder} needs {needed / 1e9:,.1f} GB for activations, and {free / 1e9:,.1f} GB are free",
            "Free some space, name fewer --layers, or give -o OUT on another disk.",
        )


def finish(folder: Path) -> None:
    """Delete the folder: the readout is there."""
    files.remove_tree(folder)
