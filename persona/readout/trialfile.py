"""A search and its trials in a JSON file, which is replaced after each trial so that the search can be resumed.

{"format": 1, "search": {…}, "readout": BLAKE3 of its two files, "prompts": BLAKE3 of their tokens,
 "trials": [{"number": 0, …}, …]}
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from persona import files
from persona.errors import Refusal, UsageError
from persona.ids import file_digest
from persona.readout.folder import encode
from persona.readout.model import Readout
from persona.readout.replies import Tokens
from persona.readout.tuning import SteeringSearch, SteeringTrial

FORMAT = 1

ALIKE = 1e-3
"""Tolerance, relative and absolute, for the figures of trial 0 in the file: devices round differently."""


@dataclass(frozen=True)
class Question:
    """What identifies a search: its settings, the readout and the prompts."""

    search: dict[str, Any]
    readout: str
    prompts: str


def question(search: SteeringSearch, readout: Readout, prompts: Tokens) -> Question:
    """Identify a search."""
    return Question(asdict(search), file_digest(encode(readout).values()), file_digest([json.dumps(prompts).encode()]))


def write_trials(path: Path, asked: Question, trials: Sequence[SteeringTrial]) -> None:
    """Replace the file atomically."""
    content = {"format": FORMAT, **asdict(asked), "trials": [asdict(trial) for trial in trials]}
    files.write_file(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def read_trials(path: Path, asked: Question) -> tuple[SteeringTrial, ...]:
    """Read the trials of a file; none if it does not exist.

    Raises:
        UsageError: the file is not a file of trials.
        Refusal: its trials belong to another search.
    """
    if not path.exists():
        return ()
    with files.translated(path):
        data = files.read_bytes(path)
    try:
        content = json.loads(data)
        stored = Question(**{item.name: content[item.name] for item in fields(Question)})
        trials = tuple(SteeringTrial(**{**trial, "broken": tuple(trial["broken"])}) for trial in content["trials"])
        assert content["format"] == FORMAT
        assert [trial.number for trial in trials] == list(range(len(trials)))
    except (ValueError, TypeError, KeyError, AssertionError, RecursionError):
        raise UsageError(f"{path} is not a file of trials", "It was not changed; name another file with -o.") from None
    for name in ("readout", "prompts"):
        if getattr(stored, name) != getattr(asked, name):
            raise Refusal(f"the trials in {path} were made with different {name}", "Name another file with -o.")
    for name, value in asked.search.items():
        if stored.search.get(name) != value:
            raise Refusal(
                f"the trials in {path} belong to another search: '{name}' was {stored.search.get(name)!r}, now {value!r}",
                "Name another file with -o, or use the same options as before.",
            )
    return trials


def same_start(path: Path, known: Sequence[SteeringTrial], plain: SteeringTrial) -> None:
    """Raise Refusal if the unsteered replies differ from those of the trials in the file."""
    for name in ("perplexity", "repetition", "special") if known else ():
        if not math.isclose(getattr(known[0], name), getattr(plain, name), rel_tol=ALIKE, abs_tol=ALIKE):
            raise Refusal(
                f"the unsteered replies differ from those in {path}: their {name} was {getattr(known[0], name):.4g}, "
                f"now {getattr(plain, name):.4g}",
                "The model or --batch-size may have changed: name another file with -o.",
            )
