"""What is wrong with a dataset is found, counted and placed."""

from __future__ import annotations

from typing import Any

import pytest

from persona.errors import UsageError
from persona.training.examples import TrainingExample
from persona.training.problems import DataProblem, DataSummary, prepare
from persona.training.settings import Settings


def asked(number: int, prompt: str, answer: str) -> TrainingExample:
    return TrainingExample(f"d:{number}", pieces=((f"{prompt} ", False), (answer, True)))


def test_a_clean_dataset(words: Any) -> None:
    found = prepare(words, [asked(1, "hi", "yes"), asked(2, "hi there you", "no ok")], Settings(), None)
    assert found.summary == DataSummary(2, 2, tokens=9, learnt=5, shortest=3, median=3, longest=6)


def test_every_problem_is_told(words: Any) -> None:
    rows = [
        asked(1, "hi", "yes"), asked(2, "hi", "yes"), asked(3, "HI", "  Yes"), TrainingExample("d:4", pieces=((" ", True),)),
        asked(5, "one two three four five", "ok"),
    ]  # fmt: skip
    found = prepare(words, rows, Settings(max_length=4), None)
    assert found.summary.problems == (
        DataProblem("empty", 1, "left out", ("d:4",)),
        DataProblem("duplicate", 1, "kept", ("d:2",)),
        DataProblem("near duplicate", 1, "kept", ("d:3",)),
        DataProblem("longer than 4 tokens", 1, "cut", ("d:5",)),
    )
    assert (found.summary.examples, found.summary.used, len(found.rows[-1].tokens)) == (5, 4, 4)
    dropped = prepare(words, rows, Settings(duplicates="drop", too_long="skip", max_length=4), None)
    assert [one.where for one in dropped.rows] == ["d:1"]


def test_too_long_may_be_an_error_and_the_model_has_a_say(words: Any) -> None:
    with pytest.raises(UsageError, match="d:1 has 4 tokens, above the limit of 3"):
        prepare(words, [asked(1, "hi there", "yes")], Settings(too_long="error"), 3)


def test_a_cut_that_leaves_nothing_to_learn_is_told(words: Any) -> None:
    row = TrainingExample("d:1", pieces=(("hi ", True), ("one two three", False)), ends=False)
    (problem,) = prepare(words, [row], Settings(max_length=2), None).summary.problems[1:]
    assert (problem.what, problem.where) == ("nothing to learn", ("d:1",))


def test_leaks_are_named_once_for_the_worst(words: Any) -> None:
    trained = [asked(1, "hi", "yes"), asked(2, "hi there", "no")]
    held = [asked(1, "Hi", "YES"), asked(2, "hi", "ok"), asked(3, "one", "no"), asked(4, "two", "sure")]
    found = prepare(words, held, Settings(), None, trained).summary.problems
    assert [(one.what, one.where) for one in found] == [
        ("also in the training data", ("d:1",)),
        ("prompt in the training data", ("d:2",)),
        ("answer in the training data", ("d:3",)),
    ]
