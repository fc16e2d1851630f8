"""Read hand-written contrasts: statements that are nearly identical except for the concept.

A file of JSON lines, in any of these forms:

    {"concept": "optimism", "positive": "His outlook is positive.", "negative": "His outlook is negative."}
    {"concept": "optimism", "text": "Today was a good day.", "label": 1}          1 has the concept, -1 does not
    {"concept": "optimism", "text": "Today was a good day.", "label": 5}          1 to 5: how strongly

or a `.json` file with one object that maps statements to labels:

    {"Today was a good day.": 1, "Today was a bad day.": -1}                      one concept, named by --concept
    {"optimism": {"Today was a good day.": 1, "Today was a bad day.": -1}}        any number of concepts

A file uses one kind of label. On the scale from 1 to 5, 5 has the concept, 1 does not, and 2 to 4 are left out.
If the statements of a concept alternate between the two sides, each two consecutive ones form a pair.
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
from persona.jsonlines import check_characters, objects_in, read_text, refuse_tables
from persona.readout.extract import concept_name, key_of
from persona.readout.pairs import POLARITIES, LabelledText

SIGNED = {1: True, -1: False}
GRADED = {5: True, 1: False}
LABELS = (-1, 1, 2, 3, 4, 5)
FORMS = 'Write {"concept": …, "positive": …, "negative": …} or {"concept": …, "text": …, "label": 1 or -1}.'

_BLANK = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True)
class Contrasts:
    """Examples without a node; `left_out` counts statements labelled 2, 3 or 4."""

    examples: tuple[LabelledText, ...]
    left_out: int


@dataclass(frozen=True)
class _Labelled:
    """A labelled statement, and the file and line it is from."""

    where: str
    concept: str
    text: str
    label: int


@dataclass(frozen=True)
class _Pair:
    """Two statements that differ in the concept, and the file and line they are from."""

    where: str
    concept: str
    positive: str
    negative: str


def read_contrasts(paths: Iterable[Path], concept: str | None = None) -> Contrasts:
    """Read files of contrasts.

    Args:
        concept: Concept of the statements that do not name one.

    Raises:
        UsageError: a line is malformed, a statement is on both sides, or a concept has one side only.
    """
    numbers = count(1)
    examples: list[tuple[str, LabelledText]] = []
    left_out = 0
    for path in paths:
        rows = list(_rows(path, concept))
        labelled = [row for row in rows if isinstance(row, _Labelled)]
        scale = _scale(labelled)
        kept = [
            (row.where, LabelledText(row.concept, scale[row.label], row.text)) for row in labelled if row.label in scale
        ]
        left_out += len(labelled) - len(kept)
        examples += _of_pairs((row for row in rows if isinstance(row, _Pair)), numbers)
        for name in dict.fromkeys(example.concept for _, example in kept):
            examples += _alternating([entry for entry in kept if entry[1].concept == name], numbers)
    _check_sides(examples)
    return Contrasts(tuple(example for _, example in examples), left_out)


def _of_pairs(rows: Iterable[_Pair], numbers: Iterator[int]) -> Iterator[tuple[str, LabelledText]]:
    for row, number in zip(rows, numbers, strict=False):
        yield row.where, LabelledText(row.concept, True, row.positive, pair=number)
        yield row.where, LabelledText(row.concept, False, row.negative, pair=number)


def _scale(rows: Sequence[_Labelled]) -> Mapping[int, bool]:
    """Map the labels of a file to sides: True has the concept, False does not."""
    signed = next((row for row in rows if row.label == -1), None)
    graded = next((row for row in rows if row.label > 1), None)
    if signed and graded:
        raise UsageError(
            f"{graded.where}: label {graded.label} is on the scale from 1 to 5, but {signed.where} has -1",
            "Use one kind of label per file.",
        )
    if rows and not signed and not graded:
        raise UsageError(
            f"{rows[0].where}: every label is 1, which is ambiguous: the highest of -1 and 1, or the lowest of 1 to 5",
            "Add statements labelled -1, or 5.",
        )
    return SIGNED if signed else GRADED


def _alternating(examples: list[tuple[str, LabelledText]], numbers: Iterator[int]) -> list[tuple[str, LabelledText]]:
    """Pair up the statements of one concept if they alternate between the sides."""
    sides = [example.positive for _, example in examples]
    if len(sides) % 2 or any(first == second for first, second in zip(sides[::2], sides[1::2], strict=True)):
        return examples
    pair = [next(numbers) for _ in range(len(examples) // 2)]
    return [(where, replace(example, pair=pair[at // 2])) for at, (where, example) in enumerate(examples)]


def _check_sides(examples: Sequence[tuple[str, LabelledText]]) -> None:
    """Raise if a statement is on both sides, or a concept has statements of one side only."""
    seen: dict[tuple[str, str], tuple[bool, str]] = {}
    sides: dict[str, set[bool]] = {}
    for where, example in examples:
        positive, before = seen.setdefault((example.concept, key_of(example.text)), (example.positive, where))
        sides.setdefault(example.concept, set()).add(example.positive)
        if positive != example.positive:
            raise UsageError(
                f"{where}: '{example.text[:60]}' is on both sides of '{example.concept}'; the other is in {before}",
                "Remove one of them.",
            )
    for where, example in examples:
        if len(sides[example.concept]) == 1:
            missing = POLARITIES[example.positive]
            raise UsageError(
                f"{where}: '{example.concept}' has no {missing} statement",
                f"A contrast needs both sides: add {missing} ones.",
            )


def _rows(path: Path, concept: str | None) -> Iterator[_Labelled | _Pair]:
    refuse_tables(path)
    text = read_text(path)
    if path.suffix.lower() == ".json":
        return _of_object(path, text, concept)
    return (_of_row(where, fields, concept) for where, fields in objects_in(path, text, FORMS, FORMS))


def _of_row(where: str, fields: dict[str, Any], concept: str | None) -> _Labelled | _Pair:
    name = _about(where, fields.get("concept", concept))
    if "positive" in fields or "negative" in fields:
        positive, negative = (_statement(where, key, fields.get(key)) for key in ("positive", "negative"))
        return _Pair(where, name, positive, negative)
    if "label" not in fields:
        raise UsageError(f"{where}: missing 'label', or 'positive' and 'negative'", FORMS)
    return _Labelled(where, name, _statement(where, "text", fields.get("text")), _label(where, fields["label"]))


def _of_object(path: Path, text: str, concept: str | None) -> Iterator[_Labelled]:
    """Yield the statements and labels of one JSON object, each with its line number."""
    try:
        contents = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}:{error.lineno} is not JSON: {error.msg}", 'Write {"a statement": 1, …}.') from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}", 'Write {"a statement": 1, …}.') from None
    if not isinstance(contents, dict):
        raise UsageError(f"{path}:1 is not a JSON object", "If it is a file of JSON lines, rename it to .jsonl.")
    for at, key, begin, value in _members(text, 0):
        inner = _members(text, begin) if isinstance(value, dict) else [(at, key, begin, value)]
        for place, statement, _, label in inner:
            where = f"{path}:{text.count(chr(10), 0, place) + 1}"
            check_characters(where, [key, statement])
            name = _about(where, key if isinstance(value, dict) else concept)
            yield _Labelled(where, name, _statement(where, "a statement", statement), _label(where, label))


def _members(text: str, at: int) -> Iterator[tuple[int, str, int, Any]]:
    """Yield offset and key, offset and value of each member of the JSON object at `at`; `text` is valid JSON."""
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
        raise UsageError(f"{where} does not name a concept", "Give it with exactly one --concept NAME.")
    if not isinstance(concept, str) or not concept.strip():
        raise UsageError(f"{where}: 'concept' is {concept!r}, not a name", "Write a non-empty string.")
    return concept_name(concept)


def _statement(where: str, key: str, text: Any) -> str:
    if not isinstance(text, str) or not text.strip():
        what = "is missing" if text is None else "is not a string" if not isinstance(text, str) else "is empty"
        raise UsageError(f"{where}: '{key}' {what}", FORMS)
    return text.strip()


def _label(where: str, label: Any) -> int:
    if isinstance(label, bool) or not isinstance(label, int | float) or label not in LABELS:
        raise UsageError(
            f"{where}: invalid label {json.dumps(label)[:40]}", "Use 1 or -1, or a whole number from 1 to 5."
        )
    return int(label)
