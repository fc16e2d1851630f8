"""What was measured is kept whole or not at all, at every file effect; what is damaged is measured again."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from persona import files
from persona.errors import Storage
from persona.history.evaluations import Evaluation, Evaluations, Figure
from persona.recipe.builds import build_digest
from persona.recipe.model import Entry, Recipe
from persona.store.objects import ObjectStore

BUILD, KEY = "b" * 64, "c" * 64


def evaluation(**changes: object) -> Evaluation:
    figures = (
        Figure("answers", "loss", "lower", "nats/token", 1.5, 1.25, 1.75, (3.0, 6.0), (2.0, 4.0)),
        Figure("speech", "length", None, "tokens", math.nan, None, None, (math.inf,), (1.0,)),
    )
    made = {"device": "cpu", "dtype": "float32"}
    one = Evaluation(BUILD, "calm", "d" * 64, 0, None, "2026-11-24T20:00:00+00:00", made, figures)
    return replace(one, **changes)  # type: ignore[arg-type]


def kept(folder: Path) -> Evaluations:
    return Evaluations(folder, ObjectStore(folder / "objects"))


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    store = kept(tmp_path)
    assert store.is_empty
    assert store.find(BUILD, KEY) is None
    assert store.of(BUILD) == ()
    name = store.keep(KEY, evaluation())
    assert store.keep(KEY, evaluation()) == name
    found = store.find(BUILD, KEY)
    assert found is not None
    assert repr(found) == repr(evaluation())  # NaN is not equal to itself
    assert found.figure(("answers", "loss")) == evaluation().figures[0]
    assert found.figure(("answers", "kl")) is None
    assert (tmp_path / "evaluations" / BUILD / KEY).read_text() == f"{name}\n"


def test_of_a_suite_the_newest_whole_one_counts(tmp_path: Path) -> None:
    store = kept(tmp_path)
    store.keep("1" * 64, evaluation(suite_digest="1" * 64, time="2026-11-24T20:00:02+00:00"))
    store.keep("2" * 64, evaluation(suite_digest="2" * 64, time="2026-11-24T20:00:01+00:00"))
    store.keep("3" * 64, evaluation(suite_digest="3" * 64, limit=2, time="2026-11-24T20:00:03+00:00"))
    store.keep("4" * 64, evaluation(suite="bold"))
    assert [(one.suite, one.suite_digest[0]) for one in store.of(BUILD)] == [("bold", "d"), ("calm", "1")]


def test_a_file_that_was_copied_to_another_build_is_not_its_result(tmp_path: Path) -> None:
    store = kept(tmp_path)
    store.keep(KEY, evaluation())
    other = "a" * 64
    (tmp_path / "evaluations" / BUILD).rename(tmp_path / "evaluations" / other)
    assert store.find(other, KEY) is None
    assert store.of(other) == ()
    store.keep(KEY, evaluation(build=other))
    assert store.find(other, KEY) is not None
    assert len(store.of(other)) == 1


def effects(folder: Path) -> list[str]:
    seen: list[str] = []
    files.observer = lambda effect, path: seen.append(effect)
    try:
        kept(folder).keep(KEY, evaluation())
    finally:
        files.observer = None
    return seen


def _raise(path: Path) -> None:
    raise OSError(5, "injected", str(path))


def _kill(path: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def failing(at: int, fault: Callable[[Path], None]) -> Callable[[str, Path], None]:
    count = iter(range(1, 10_000))
    return lambda effect, path: fault(path) if next(count) == at else None


def test_an_error_at_any_effect_leaves_all_or_nothing(tmp_path: Path) -> None:
    number = len(effects(tmp_path / "whole"))
    assert number >= 8
    for at in range(1, number + 1):
        folder = tmp_path / str(at)
        files.observer = failing(at, _raise)
        try:
            with pytest.raises(Storage):
                kept(folder).keep(KEY, evaluation())
        finally:
            files.observer = None
        check(folder)


def test_a_kill_at_any_effect_leaves_all_or_nothing(tmp_path: Path) -> None:
    for at in range(1, len(effects(tmp_path / "whole")) + 1):
        folder = tmp_path / str(at)
        child = os.fork()
        if child == 0:
            files.observer = failing(at, _kill)
            kept(folder).keep(KEY, evaluation())
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        check(folder)


def check(folder: Path) -> None:
    """None, or the whole one; and keeping it again works."""
    found = kept(folder).find(BUILD, KEY)
    assert found is None or repr(found) == repr(evaluation())
    kept(folder).keep(KEY, evaluation())
    assert repr(kept(folder).find(BUILD, KEY)) == repr(evaluation())


@pytest.mark.parametrize("data", [b"", b"{}", b"no", None])
def test_what_is_damaged_is_not_there_and_is_healed_by_measuring_again(tmp_path: Path, data: bytes | None) -> None:
    store = kept(tmp_path)
    path = store.objects.path(store.keep(KEY, evaluation()))
    path.unlink() if data is None else path.write_bytes(data)
    assert store.find(BUILD, KEY) is None
    assert store.of(BUILD) == ()
    store.keep(KEY, evaluation())
    assert store.find(BUILD, KEY) is not None
    (tmp_path / "evaluations" / BUILD / KEY).write_bytes(b"\xff\n")
    assert store.find(BUILD, KEY) is None


A, B = Entry("a", "a" * 64, 0.5), Entry("b", "b" * 64, (0.1, 0.9))
RECIPE = Recipe("0" * 64, "base", (A, B), "ties", 1.0, {"density": 0.2})


@pytest.mark.parametrize(
    "other",
    [
        replace(RECIPE, base_name="another name"),
        replace(RECIPE, vectors=(replace(A, name="x", node="a-node"), B)),
        replace(RECIPE, vectors=(A, Entry("c", "c" * 64, 0.0), B)),
    ],
    ids=["name of the base", "names of vectors", "a vector that does not act"],
)
def test_what_does_not_change_weights_does_not_change_a_build(other: Recipe) -> None:
    assert build_digest(other) == build_digest(RECIPE)


def test_whatever_changes_weights_does(tmp_path: Path) -> None:
    others = [
        replace(RECIPE, base="1" * 64),
        replace(RECIPE, method="linear"),
        replace(RECIPE, scale=2.0),
        replace(RECIPE, parameters={"density": 0.3}),
        replace(RECIPE, vectors=(B, A)),
        replace(RECIPE, vectors=(A,)),
        replace(RECIPE, vectors=(replace(A, alpha=0.6), B)),
        replace(RECIPE, vectors=(replace(A, only=("*mlp*",)), B)),
        replace(RECIPE, vectors=(replace(A, excepted=("*mlp*",)), B)),
        replace(RECIPE, vectors=(replace(A, parameters={"density": 0.1}), B)),
        replace(RECIPE, vectors=(replace(A, id="c" * 64), B)),
    ]
    digests = [build_digest(one) for one in (RECIPE, *others)]
    digests += [build_digest(RECIPE, "float32"), build_digest(RECIPE, control=0), build_digest(RECIPE, control=1)]
    assert len(set(digests)) == len(digests)


def test_bases_with_a_method_and_no_vector_are_one_build() -> None:
    assert build_digest(replace(RECIPE, vectors=())) == build_digest(Recipe("0" * 64, "base"))
