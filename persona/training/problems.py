"""What is wrong with a dataset, found before anything is trained on it.

Two examples are *the same* if their texts are, and *alike* if they are after case and white space are levelled. An
evaluation example *leaks* if its text, its prompt or its answer is alike one that is trained on.
"""

from __future__ import annotations

import statistics
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from persona.errors import UsageError
from persona.training.examples import TrainingExample
from persona.training.settings import Settings
from persona.training.tokens import Tokenized, tokenize

NAMED = 5
"""Places that a problem names."""


@dataclass(frozen=True)
class DataProblem:
    """One kind of mistake: how many examples have it, what was done about them, and where the first of them are."""

    what: str
    count: int
    done: str
    where: tuple[str, ...]


@dataclass(frozen=True)
class DataSummary:
    """Examples that are used of those there are; lengths in tokens; ``learnt`` are the tokens that the loss is over."""

    examples: int
    used: int
    tokens: int = 0
    learnt: int = 0
    shortest: int = 0
    median: int = 0
    longest: int = 0
    problems: tuple[DataProblem, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """A dataset, ready to be trained on."""

    rows: tuple[Tokenized, ...]
    summary: DataSummary


def prepare(
    tokenizer: Any,
    examples: Sequence[TrainingExample],
    settings: Settings,
    most: int | None,
    against: Sequence[TrainingExample] = (),
) -> Prepared:
    """Tokenise examples and sort out what cannot be learnt from; ``most`` is the model's own limit.

    ``against`` are examples that are trained on, where these are to be evaluated on.
    """
    limit = min(settings.max_length, most) if most else settings.max_length
    problems: list[DataProblem] = []
    kept = _without(examples, [one for one in examples if not one.whole.strip()], "empty", "left out", problems)
    kept = _duplicates(kept, settings, problems)
    rows = tokenize(tokenizer, kept)
    rows = _lengths(rows, limit, settings, problems)
    rows = _without(rows, [one for one in rows if not one.counted], "nothing to learn", "left out", problems)
    _note("a token lies across where an answer begins", [one for one in rows if one.straddles], "learnt", problems)
    for what, leaking in _leaks(kept, against):
        _note(what, leaking, "kept", problems)
    return Prepared(tuple(rows), _summary(len(examples), rows, problems))


def _without(items: Sequence[Any], bad: Sequence[Any], what: str, done: str, problems: list[DataProblem]) -> list[Any]:
    _note(what, bad, done, problems)
    gone = {id(one) for one in bad}
    return [one for one in items if id(one) not in gone]


def _note(what: str, bad: Sequence[Any], done: str, problems: list[DataProblem]) -> None:
    if bad:
        problems.append(DataProblem(what, len(bad), done, tuple(one.where for one in bad[:NAMED])))


def _duplicates(
    examples: Sequence[TrainingExample], settings: Settings, problems: list[DataProblem]
) -> list[TrainingExample]:
    """Note those that came before, and leave them out if that is asked for."""
    exact, alike = set[Any](), set[Any]()
    same, similar = [], []
    for one in examples:
        text, levelled = one.whole, level(one.whole)
        if text in exact:
            same.append(one)
        elif levelled in alike:
            similar.append(one)
        exact.add(text)
        alike.add(levelled)
    drop = settings.duplicates == "drop"
    done = "left out" if drop else "kept"
    _note("the same as one before", same, done, problems)
    _note("alike one before", similar, done, problems)
    gone = {id(one) for one in (*same, *similar)} if drop else set()
    return [one for one in examples if id(one) not in gone]


def level(text: str) -> str:
    """A text without differences of case, white space and Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _lengths(rows: Sequence[Tokenized], limit: int, settings: Settings, problems: list[DataProblem]) -> list[Tokenized]:
    long = [one for one in rows if len(one.tokens) > limit]
    if long and settings.too_long == "error":
        raise UsageError(
            f"{long[0].where} has {len(long[0].tokens)} tokens, and at most {limit} are read"
            + (f"; so have {len(long) - 1} others" if len(long) > 1 else ""),
            "Shorten it, raise max_length if the model reads more, or: --set too_long=cut, --set too_long=skip",
        )
    what = f"longer than {limit} tokens"
    if settings.too_long == "skip":
        return _without(rows, long, what, "left out", problems)
    _note(what, long, "cut", problems)
    return [one.cut(limit) for one in rows]


def _leaks(
    examples: Sequence[TrainingExample], against: Sequence[TrainingExample]
) -> list[tuple[str, list[TrainingExample]]]:
    """Evaluation examples by what of them is trained on; each is named once, for the worst."""
    if not against:
        return []
    wholes, prompts, answers = ({level(text(one)) for one in against} for text in (_whole, _prompt, _answer))
    found: dict[str, list[TrainingExample]] = {
        "trained on": [],
        "with a prompt trained on": [],
        "with an answer trained on": [],
    }
    for one in examples:
        if level(one.whole) in wholes:
            found["trained on"].append(one)
        elif (prompt := level(one.prompt)) and prompt in prompts:
            found["with a prompt trained on"].append(one)
        elif level(one.answer) in answers:
            found["with an answer trained on"].append(one)
    return list(found.items())


def _whole(example: TrainingExample) -> str:
    return example.whole


def _prompt(example: TrainingExample) -> str:
    return example.prompt


def _answer(example: TrainingExample) -> str:
    return example.answer


def _summary(count: int, rows: Sequence[Tokenized], problems: Sequence[DataProblem]) -> DataSummary:
    found = DataSummary(count, len(rows), problems=tuple(problems))
    if not rows:
        return found
    sizes = sorted(len(one.tokens) for one in rows)
    return replace(
        found,
        tokens=sum(sizes),
        learnt=sum(one.counted for one in rows),
        shortest=sizes[0],
        median=int(statistics.median_low(sizes)),
        longest=sizes[-1],
    )
