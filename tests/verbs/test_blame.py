"""``blame`` finds the vector, or the commit, that was planted to be bad."""

from __future__ import annotations

from typing import Any

import pytest

import persona
from persona import MeasureOptions
from persona.errors import UsageError
from tests.verbs.conftest import BAD, GOOD

pytestmark = pytest.mark.usefixtures("one_thread")  # small models run fastest on one


def test_blame_finds_the_planted_vector_by_the_numbers(tuned: persona.Repository) -> None:
    found = persona.blame(tuned, suite="calm")
    loss = found.verdicts[0]
    assert (loss.measure, loss.name) == ("answers", "loss")
    assert loss.vectors[0].vector == BAD
    worst, *others = loss.vectors
    assert worst.effect.verdict == "worse"
    assert worst.effect.low > 0
    assert worst.without == pytest.approx(loss.value - worst.effect.value, abs=1e-6)
    assert {one.vector for one in others} == set(GOOD)
    assert all(one.effect.verdict == "better" for one in others)
    assert [one.effect.value for one in loss.vectors] == sorted(
        (one.effect.value for one in loss.vectors), reverse=True
    )
    assert found.measured == 1 + 5  # the whole recipe, and five that lack a vector
    assert persona.blame(tuned).measured == 0  # of the only suite


@pytest.mark.parametrize("verb", [persona.blame, persona.verify_vectors])
def test_a_function_must_name_its_numbers_alike_for_every_build(tuned: persona.Repository, verb: Any) -> None:
    evals = tuned.root / "evals"
    (evals / "namer.py").write_text(
        "def named(live, rows, seed):\n"
        "    total = float(sum(one.double().sum() for one in live.model.parameters()))\n"
        "    return {f'total {total:.9f}': [1.0] * len(rows)}\n"
    )
    measure = '[[measures]]\nkind = "python"\nfunction = "namer:named"\ndata = "named.jsonl"\n'
    (evals / "named.toml").write_text(measure)
    (evals / "named.jsonl").write_text('{"prompt": "one"}\n')
    options = MeasureOptions(allow_code=True)
    with pytest.raises(
        UsageError, match=r"named: 'python total .*' was measured for one build but not for another"
    ) as caught:
        verb(tuned, options=options, **{"suite": "named"} if verb is persona.blame else {"suites": ["named"]})
    assert "the same names" in caught.value.hint


def test_blame_finds_the_commit(tuned: persona.Repository) -> None:
    persona.sweep(tuned, "one", [0.3], suite="calm", write=True)  # an edit, which is no commit
    done = persona.blame(tuned, suite="calm", history=True)
    assert done.of == persona.blame(tuned, "HEAD", suite="calm", history=True).of
    loss = done.verdicts[0]
    assert loss.commits[0].changes[0].name == BAD
    assert loss.commits[0].commit == tuned.resolve("HEAD~2")
    assert len(loss.commits) == 5
    newest = persona.blame(tuned, suite="calm", history=True, most=2)
    assert {one.commit for one in newest.verdicts[0].commits} == {tuned.resolve("HEAD"), tuned.resolve("HEAD~1")}
    assert newest.measured == 0


def test_wrong_uses_are_named(tuned: persona.Repository) -> None:
    for call, said in (
        (lambda: persona.blame(tuned, "HEAD~5", suite="calm"), "no vector is active"),
        (lambda: persona.blame(tuned, "one", suite="calm"), "'one' is a vector"),
        (lambda: persona.blame(tuned, suite="calm", history=True, most=-1), "number of commits: -1"),
    ):
        with pytest.raises(UsageError, match=said):
            call()
