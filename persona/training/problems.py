"""Find problems of a dataset before training on it.

Two examples are *duplicates* if their texts are equal, and *near duplicates* if they differ only in case, whitespace and
Unicode form. An evaluation example *leaks* if its text, prompt or answer is a (near) duplicate of one that is trained on.
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
"""Maximum number of examples named per problem."""


@dataclass(frozen=True)
class DataProblem:
    """One kind of problem, the number of examples that have it, what was done about it, and where the first ones are."""

    what: str
    count: int
    done: str
    where: tuple[str, ...]


@dataclass(frozen=True)
class DataSummary:
    """Summary of a dataset.

    Of `examples` examples, `used` are trained on; a conversation that becomes several rows counts as several. They have
    `tokens` tokens, of which the loss includes `learnt`; `shortest`, `median` and `longest` are lengths in tokens.
    """

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
    """A dataset ready for training."""

    rows: tuple[Tokenized, ...]
    summary: DataSummary


def prepare(
    tokenizer: Any,
    examples: Sequence[TrainingExample],
    settings: Settings,
    most: int | None,
    against: Sequence[TrainingExample] = (),
) -> Prepared:
    """Tokenize examples, and drop those that nothing can be learnt from.

    Args:
        most: The model's context in tokens, None if unknown.
        against: For evaluation examples, the examples trained on, to find leaks.

    Raises:
        UsageError: an example is too long and `settings.too_long` is "error", or cannot be tokenized.
    """
    limit = min(settings.max_length, most) if most else settings.max_length
    problems: list[DataProblem] = []
    empty = [example for example in examples if not example.whole.strip()]
    kept = _without(examples, empty, "empty", "left out", problems)
    if settings.loss != "all":
        kept = _silences(kept, problems)
    kept = _duplicates(kept, settings, problems)
    rows = tokenize(tokenizer, kept)
    split = [row for row in rows if row.further]
    _note("the chat template changes earlier turns once others follow", split, "a row for each answer", problems)
    toolless = [row for row in rows if row.toolless]
    _note("the chat template leaves out the descriptions of tools", toolless, "kept", problems)
    partial, unasked = ([row for row in rows if getattr(row, key)] for key in ("partial", "unasked"))
    _note("the chat template leaves out part of an answer", partial, "learnt without it", problems)
    _note("the answer begins unlike the chat template's prompt", unasked, "learnt from where they differ", problems)
    count = len(examples) + sum(row.further for row in split)
    rows = _lengths(rows, limit, settings, problems)
    rows = _without(rows, [row for row in rows if not row.counted], "nothing to learn", "left out", problems)
    _note("a token spans the start of an answer", [row for row in rows if row.straddles], "learnt", problems)
    for what, leaking in _leaks(kept, against):
        _note(what, leaking, "kept", problems)
    return Prepared(tuple(rows), _summary(count, rows, problems))


def _silences(examples: Sequence[TrainingExample], problems: list[DataProblem]) -> list[TrainingExample]:
    """Note answers that say nothing, which are not learnt, and drop examples that have no other."""
    kept, silent, partly = [], [], []
    for example in examples:
        other = example.without_silence()
        if other == example:
            kept.append(example)
        elif other.answer:
            kept.append(other)
            partly.append(example)
        else:
            silent.append(example)
    _note("empty answer", silent, "left out", problems)
    _note("empty answer among others", partly, "not learnt", problems)
    return kept


def _without(items: Sequence[Any], bad: Sequence[Any], what: str, done: str, problems: list[DataProblem]) -> list[Any]:
    _note(what, bad, done, problems)
    dropped = {id(item) for item in bad}
    return [item for item in items if id(item) not in dropped]


def _note(what: str, bad: Sequence[Any], done: str, problems: list[DataProblem]) -> None:
    if bad:
        problems.append(DataProblem(what, len(bad), done, tuple(item.where for item in bad[:NAMED])))


def _duplicates(
    examples: Sequence[TrainingExample], settings: Settings, problems: list[DataProblem]
) -> list[TrainingExample]:
    """Note duplicates of earlier examples, and drop them if the settings say so."""
    texts, levelled_texts = set[str](), set[str]()
    same, similar = [], []
    for example in examples:
        text, levelled = example.whole, level(example.whole)
        if text in texts:
            same.append(example)
        elif levelled in levelled_texts:
            similar.append(example)
        texts.add(text)
        levelled_texts.add(levelled)
    drop = settings.duplicates == "drop"
    done = "left out" if drop else "kept"
    _note("duplicate", same, done, problems)
    _note("near duplicate", similar, done, problems)
    dropped = {id(example) for example in (*same, *similar)} if drop else set()
    return [example for example in examples if id(example) not in dropped]


def level(text: str) -> str:
    """Normalize case, whitespace and Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _lengths(rows: Sequence[Tokenized], limit: int, settings: Settings, problems: list[DataProblem]) -> list[Tokenized]:
    long = [row for row in rows if len(row.tokens) > limit]
    if long and settings.too_long == "error":
        raise UsageError(
            f"{long[0].where} has {len(long[0].tokens)} tokens, above the limit of {limit}"
            + (f"; so do {len(long) - 1} others" if len(long) > 1 else ""),
            "Shorten it, raise max_length if the model allows it, or use --set too_long=cut or --set too_long=skip.",
        )
    what = f"longer than {limit} tokens"
    if settings.too_long == "skip":
        return _without(rows, long, what, "left out", problems)
    _note(what, long, "cut", problems)
    return [row.cut(limit) for row in rows]


def _leaks(
    examples: Sequence[TrainingExample], against: Sequence[TrainingExample]
) -> list[tuple[str, list[TrainingExample]]]:
    """Find evaluation examples whose text, prompt or answer is trained on; each counts once, for the worst."""
    if not against:
        return []
    wholes, prompts, answers = (
        {level(getattr(example, part)) for example in against} for part in ("whole", "prompt", "answer")
    )
    whole, prompt, answer = "also in the training data", "prompt in the training data", "answer in the training data"
    leaks: dict[str, list[TrainingExample]] = {whole: [], prompt: [], answer: []}
    for example in examples:
        if level(example.whole) in wholes:
            leaks[whole].append(example)
        elif (levelled := level(example.prompt)) and levelled in prompts:
            leaks[prompt].append(example)
        elif level(example.answer) in answers:
            leaks[answer].append(example)
    return list(leaks.items())


def _summary(count: int, rows: Sequence[Tokenized], problems: Sequence[DataProblem]) -> DataSummary:
    summary = DataSummary(count, len(rows), problems=tuple(problems))
    if not rows:
        return summary
    sizes = sorted(len(row.tokens) for row in rows)
    return replace(
        summary,
        tokens=sum(sizes),
        learnt=sum(row.counted for row in rows),
        shortest=sizes[0],
        median=int(statistics.median_low(sizes)),
        longest=sizes[-1],
    )
