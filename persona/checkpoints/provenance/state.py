"""``trainer_state.json``: the progress of a transformers Trainer and the curves that it logged.

    trainer   {global_step, max_steps, epoch, num_train_epochs, best_metric, best_step, best_checkpoint, …}
    history   {loss: {count: 1200, points: [[1, 2.31], [25, 1.97], …]}, eval_loss: …}

A curve of more than ``POINTS`` points is thinned to its first, last, lowest and highest points and evenly spaced ones
in between. ``count`` is the original number of points.
"""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from typing import Any

from persona.checkpoints.provenance.reading import Unreadable, chosen, json_object, number, text

FILE = "trainer_state.json"

POINTS = 48
CURVES = 24
_STATE = ("global_step", "max_steps", "epoch", "num_train_epochs", "train_batch_size", "total_flos", "best_metric")
_BESIDE = frozenset({"step", "epoch", "total_flos"})
_SPEEDS = ("runtime", "per_second")

Point = list[Any]
"""[step, value]; the value is a number, or a string for NaN and infinity."""


def read(data: bytes) -> dict[str, Any]:
    """The facts in the file."""
    table = json_object(data)
    state = chosen(table, _STATE)
    best = table.get("best_global_step")
    if isinstance(best, int) and not isinstance(best, bool) and best > 0 and "best_metric" in state:
        state["best_step"] = best
    checkpoint = text(table.get("best_model_checkpoint"))
    if checkpoint:
        state["best_checkpoint"] = PurePosixPath(checkpoint.replace("\\", "/")).name
    history = _history(table.get("log_history"))
    if not state and not history:
        raise Unreadable("contains no state of a Trainer")
    return {topic: value for topic, value in (("trainer", state), ("history", history)) if value}


def _history(entries: Any) -> dict[str, Any]:
    curves: dict[str, list[Point]] = {}
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or not isinstance(step := number(entry.get("step")), int):
            continue
        for key, value in entry.items():
            if key in _BESIDE or key.endswith(_SPEEDS) or (value := number(value)) is None:
                continue
            if len(curves) < CURVES or key in curves:
                curves.setdefault(text(key) or "", []).append([step, value])
    return {name: {"count": len(points), "points": thinned(points)} for name, points in curves.items() if name}


def thinned(points: list[Point], most: int = POINTS) -> list[Point]:
    """At most ``most`` (4 or more) of the points, in order."""
    if len(points) <= most:
        return points
    sizes = {at: value for at, (_, value) in enumerate(points) if not isinstance(value, str)}
    kept = {0, len(points) - 1}
    if sizes:
        kept |= {min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)}
    room = most - len(kept)
    kept |= {math.floor((at + 1) * len(points) / (room + 1)) for at in range(room)}
    return [points[at] for at in sorted(kept)]
