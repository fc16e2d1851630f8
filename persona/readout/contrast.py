"""Hand-written contrasts: statements that are near to identical but for the concept.

A file of JSON lines, each of which may be any of

    {"concept": "optimism", "positive": "His outlook is positive.", "negative": "His outlook is negative."}
    {"concept": "optimism", "text": "Today was a good day.", "label": 1}          1 has the concept, -1 has it not
    {"concept": "optimism", "text": "Today was a good day.", "label": 5}          1 … 5: how much of it a text has

or, in a file that ends in ``.json``, one object with a label for each statement:

    {"Today was a good day.": 1, "Today was a bad day.": -1}                      about the one concept that is asked for
    {"optimism": {"Today was a good day.": 1, "Today was a bad day.": -1}}        about several

The labels of a file are all of one kind. Of those from 1 to 5, 5 has the concept and 1 has it not; the others are left out.
Where the statements of a concept take turns, one of each side and then the next two, each two are a pair.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from persona.errors import UsageError
from persona.jsonlines import lines_of, object_in, read_text
from persona.readout.extract import concept_name, key_of
from persona.readout.pairs import LabelledText, is_text

SIGNED = {1: True, -1: False}
GRADED = {5: True, 1: False}
LABELS = (-1, 1, 2, 3, 4, 5)
FORMS = 'Write {"concept": …, "positive": …, "negative": …} or {"concept": …, "text": …, "label": 1 or -1}.'

_BLANK = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True)
class Contrasts:
    """Examples without a node; ``left_out`` statements were labelled 2, 3 or 4."""

    examples: tuple[LabelledText, ...]
    left_out: int


@dataclass(frozen=True)
class _Labelled:
    """A statement with its label, and where that stands."""

    where: str
    concept: str
    text: str
    label: int


@dataclass(frozen=True)
class _Pair:
    """Two statements that differ in the concept, and where they stand."""

    where: str
    concept: str
    positive: str
    negative: str


def read_contrasts(paths: Iterable[Path], concept: str | None = None) -> Contrasts:
    """Read files of contrasts; statements that do not say what they are about are about ``concept``."""
    numbers = count(1)
    found: list[tuple[str, LabelledText]] = []
    left_out = 0
    for path in paths:
        rows = list(_rows(path, concept))
        labelled = [row for row in rows if isinstance(row, _Labelled)]
        scale = _scale(labelled)
        kept = [
            (row.where, LabelledText(row.concept, scale[row.label], row.text)) for row in labelled if row.label in scale
        ]
        left_out += len(labelled) - len(kept)
        found += _of_pairs((row for row in rows if isinstance(row, _Pair)), numbers)
        for name in dict.fromkeys(one.concept for _, one in kept):
            found += _in_turns([(where, one) for where, one in kept if one.concept == name], numbers)
    _check_sides(found)
    return Contrasts(tuple(one for _, one in found), left_out)


def _of_pairs(rows: Iterable[_Pair], numbers: Iterator[int]) -> Iterator[tuple[str, LabelledText]]:
    for row, number in zip(rows, numbers, strict=False):
        yield row.where, LabelledText(row.concept, True, row.positive, pair=number)
        yield row.where, LabelledText(row.concept, False, row.negative, pair=number)


def _scale(rows: Sequence[_Labelled]) -> Mapping[int, bool]:
    """Which labels of a file mean that a statement has the concept, and which that it has not."""
    signed = next((row for row in rows if row.label == -1), None)
    graded = next((row for row in rows if row.label > 1), None)
    if signed and graded:
        raise UsageError(
            f"{graded.where}: the label {graded.label} is one from 1 to 5, and {signed.where} has -1",
            "Put statements with labels of the other kind into a file of their own.",
        )
    if rows and not signed and not graded:
        raise UsageError(
            f"{rows[0].where}: every label is 1, which may be the highest of two or the lowest of five",
            "Add statements that have -1, or 5.",
        )
    return SIGNED if signed else GRADED


def _in_turns(found: list[tuple[str, LabelledText]], numbers: Iterator[int]) -> list[tuple[str, LabelledText]]:
    """The statements of one concept, each two of them a pair if all of them take turns."""
    sides = [one.positive for _, one in found]
    if len(sides) % 2 or any(first == second for first, second in zip(sides[::2], sides[1::2], strict=True)):
        return found
    pair = [next(numbers) for _ in range(len(found) // 2)]
    return [(where, replace(one, pair=pair[number // 2])) for number, (where, one) in enumerate(found)]


def _check_sides(found: Sequence[tuple[str, LabelledText]]) -> None:
    """Raise for a statement that is on both sides, and for a concept that has statements of one side alone."""
    seen: dict[tuple[str, str], tuple[bool, str]] = {}
    sides: dict[str, set[bool]] = {}
    for where, one in found:
        positive, before = seen.setdefault((one.concept, key_of(one.text)), (one.positive, where))
        sides.setdefault(one.concept, set()).add(one.positive)
        if positive != one.positive:
            raise UsageError(
                f"{where}: '{one.text[:60]}' has '{one.concept}' and has it not, as {before} says", "Decide on a side."
            )
    where, lone = next(((where, one) for where, one in found if len(sides[one.concept]) == 1), ("", None))
    if lone is not None:
        other = "has it not" if lone.positive else "has it"
        raise UsageError(f"{where}: no statement {other}, of '{lone.concept}'", "A contrast has both sides: add some.")


def _rows(path: Path, concept: str | None) -> Iterator[_Labelled | _Pair]:
    text = read_text(path)
    if path.suffix.lower() == ".json":
        return _of_object(path, text, concept)
    return (_of_line(where, line, concept) for where, line in lines_of(path, text))


def _of_line(where: str, line: str, concept: str | None) -> _Labelled | _Pair:
    fields = object_in(where, line, FORMS, FORMS)
    name = _about(where, fields.get("concept", concept))
    if "positive" in fields or "negative" in fields:
        positive, negative = (_statement(where, key, fields.get(key)) for key in ("positive", "negative"))
        return _Pair(where, name, positive, negative)
    if "label" not in fields:
        raise UsageError(f"{where} has neither 'label' nor 'positive' and 'negative'", FORMS)
    return _Labelled(where, name, _statement(where, "text", fields.get("text")), _label(where, fields["label"]))


def _of_object(path: Path, text: str, concept: str | None) -> Iterator[_Labelled]:
    """Statements and labels of one object, each with the line on which it stands."""
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}:{error.lineno} is not JSON: {error.msg}", 'Write {"a statement": 1, …}.') from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}", 'Write {"a statement": 1, …}.') from None
    if not isinstance(whole, dict):
        raise UsageError(f"{path}:1 is not a JSON object", "Name a file of JSON lines .jsonl, not .json.")
    for at, key, begin, value in _members(text, 0):
        inner = _members(text, begin) if isinstance(value, dict) else [(at, key, begin, value)]
        for place, statement, _, label in inner:
            where = f"{path}:{text.count(chr(10), 0, place) + 1}"
            name = _about(where, key if isinstance(value, dict) else concept)
            yield _Labelled(where, name, _statement(where, "a statement", statement), _label(where, label))


def _members(text: str, at: int) -> Iterator[tuple[int, str, int, Any]]:
    """Place and key, place and value of each member of the object at ``at`` in ``text``, which is known to be JSON."""
    decoder = json.JSONDecoder()

    def skip(at: int) -> int:
        return _BLANK.match(text, at).end()  # type: ignore[union-attr]  # it matches anywhere

    at = skip(skip(at) + 1)
    while text[at] != "}":
        start = at
        key, at = decoder.raw_decode(text, at)
        begin = skip(skip(at) + 1)  # after the colon
        value, at = decoder.raw_decode(text, begin)
        yield start, key, begin, value
        at = skip(at)
        at = skip(at + 1) if text[at] == "," else at


def _about(where: str, concept: Any) -> str:
    if concept is None:
        raise UsageError(f"{where} does not say which concept it is about", "Add --concept NAME, just one.")
    if not isinstance(concept, str) or not concept.strip():
        raise UsageError(f"{where}: 'concept' is {concept!r}", "Give its name, in quotes.")
    return concept_name(concept)


def _statement(where: str, key: str, text: Any) -> str:
    if not isinstance(text, str) or not text.strip():
        what = "is missing" if text is None else "is no text" if not isinstance(text, str) else "is empty"
        raise UsageError(f"{where}: '{key}' {what}", FORMS)
    if not is_text(text):
        raise UsageError(f"{where}: '{key}' is {text[:40]!a}, which is half of a character", "Write it again.")
    return text.strip()


def _label(where: str, label: Any) -> int:
    if isinstance(label, bool) or not isinstance(label, int | float) or label not in LABELS:
        raise UsageError(
            f"{where}: the label is {json.dumps(label)[:40]}", "It is 1 or -1, or a whole number from 1 to 5."
        )
    return int(label)
