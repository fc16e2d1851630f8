"""The log of a run: a line of JSON for each step, to follow while it trains (`tail -f RUN/log.jsonl`).

    {"phase": "before", "time": "…", "loss": 3.1}
    {"phase": "training", "step": 1, "steps": 36, "loss": 3.0, "lr": 0.0002, "tokens": 412, "time": "…"}
    {"phase": "after", "time": "…", "loss": 1.2}

`loss` is per token of the batch's data, `tokens` counts those of the data so far. Steps with anchors also have `anchor`, the
loss on them. A run that resumes continues the log after the step of its checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from persona import files
from persona.repository import now

LOG = "log.jsonl"
TRAINING = "training"


class RunLog:
    """Appends to the log in a run folder, from which lines after `step` are removed first."""

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / LOG
        kept = [line for line in _lines(self._path) if line["phase"] != TRAINING or line["step"] <= step]
        kept = [line for line in kept if line["phase"] != "after"]
        self._seen = {line["phase"] for line in kept}
        self.tokens = max((line["tokens"] for line in kept if line["phase"] == TRAINING), default=0)
        files.write_file(self._path, b"".join(map(_encoded, kept)))

    def write(self, phase: str, **numbers: Any) -> None:
        """Append a line. A phase other than training has only one."""
        if phase == TRAINING or phase not in self._seen:
            self._seen.add(phase)
            files.append(self._path, _encoded({"phase": phase, **numbers, "time": now()}))


def _encoded(line: dict[str, Any]) -> bytes:
    return (json.dumps(line) + "\n").encode()


def _lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a log, up to the first that is not one: a kill may cut the last."""
    lines: list[dict[str, Any]] = []
    if not path.is_file():
        return lines
    with files.translated(path):
        data = files.read_bytes(path)
    for text in data.splitlines():
        try:
            line = json.loads(text)
            known = isinstance(line["phase"], str) and (line["phase"] != TRAINING or _is_step(line))
        except (ValueError, KeyError, TypeError):
            break
        if not known:
            break
        lines.append(line)
    return lines


def _is_step(line: dict[str, Any]) -> bool:
    return isinstance(line["step"], int) and isinstance(line["tokens"], int)
