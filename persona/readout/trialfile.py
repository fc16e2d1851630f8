"""A search and its trials as one JSON file, written whole after each trial, from which the search can go on.

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
"""How far, relatively, the figures of trial 0 may be from those in the file: devices round differently."""


@dataclass(frozen=True)
class Question:
    """What the trials of a file are about, as JSON has it."""

    search: dict[str, Any]
    readout: str
    prompts: str


def question(search: SteeringSearch, readout: Readout, prompts: Tokens) -> Question:
    """Of a search."""
    return Question(asdict(search), file_digest(encode(readout).values()), file_digest([json.dumps(prompts).encode()]))


def write_trials(path: Path, asked: Question, trials: Sequence[SteeringTrial]) -> None:
    """Write the file whole or not at all."""
    found = {"format": FORMAT, **asdict(asked), "trials": [asdict(one) for one in trials]}
    files.write_file(path, (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode())


def read_trials(path: Path, asked: Question) -> tuple[SteeringTrial, ...]:
    """The trials of a file, none if there is no such file; raises where they are of another search."""
    if not path.exists():
        return ()
    with files.translated(path):
        data = path.read_bytes()
    try:
        said = json.loads(data)
        there = Question(**{one.name: said[one.name] for one in fields(Question)})
        found = tuple(SteeringTrial(**{**one, "broken": tuple(one["broken"])}) for one in said["trials"])
        assert said["format"] == FORMAT
        assert [one.number for one in found] == list(range(len(found)))
    except (ValueError, TypeError, KeyError, AssertionError, RecursionError):
        raise UsageError(f"{path} is no file of trials", "It was left alone; name another with -o.") from None
    for name in ("readout", "prompts"):
        if getattr(there, name) != getattr(asked, name):
            raise Refusal(f"the trials in {path} are of other {name}", "Name another file with -o.")
    for name, value in asked.search.items():
        if there.search.get(name) != value:
            raise Refusal(
                f"the trials in {path} are of another search: '{name}' was {there.search.get(name)!r}, and is {value!r}",
                "Name another file with -o, or give the options that it was begun with.",
            )
    return found


def same_start(path: Path, known: Sequence[SteeringTrial], plain: SteeringTrial) -> None:
    """Raise if the model does not reply, without steering, as it did when the file was begun."""
    for name in ("perplexity", "repetition", "special") if known else ():
        if not math.isclose(getattr(known[0], name), getattr(plain, name), rel_tol=ALIKE, abs_tol=ALIKE):
            raise Refusal(
                f"without steering the model replies otherwise than when {path} was begun: its {name} was "
                f"{getattr(known[0], name):.4g}, and is {getattr(plain, name):.4g}",
                "Is it another model, or another --batch-size? Name another file with -o.",
            )
