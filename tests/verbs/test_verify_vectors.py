"""``verify-vectors``: each vector alone, beside noise of its size."""

from __future__ import annotations

from dataclasses import replace

import pytest

import persona
from persona.cli.main import invoke
from persona.errors import UsageError
from persona.history.evaluations import number_called
from persona.verbs.verify_vectors import stored_vectors
from tests.verbs.conftest import BAD, GOOD

pytestmark = pytest.mark.usefixtures("one_thread")  # small models run fastest on one


def test_each_vector_alone_and_noise_of_its_size(tuned: persona.Repository) -> None:
    found = persona.verify_vectors(tuned, alpha=1.0)
    assert (found.vectors, found.alphas) == ((*GOOD[:2], BAD, *GOOD[2:]), (1.0,) * 5)
    loss = found.columns[0]
    cells = {cell.vector: cell for cell in loss.cells}
    for name in GOOD:
        assert cells[name].effect.verdict == "better"
        assert cells[name].beyond.verdict == "better"
        assert abs(cells[name].control.value) < abs(cells[name].effect.value) / 2
    assert cells[BAD].effect.verdict == "worse"
    assert found.measured == 1 + 2 * 5
    assert persona.verify_vectors(tuned, suites=["calm"], alpha=1.0).measured == 0
    assert stored_vectors(tuned, alpha=1.0) == replace(found, measured=0)
    assert stored_vectors(tuned, alpha=0.5).columns[0].cells == ()


def test_the_price_of_a_vector_is_plain(tuned: persona.Repository, capsys: pytest.CaptureFixture[str]) -> None:
    """What it makes worse in any suite stands in one place."""
    assert invoke(["-C", str(tuned.root), "verify-vectors", "--alpha", "1"]) == 0
    _, table = capsys.readouterr().out.split("What each vector alone gains, and its price")
    found = persona.verify_vectors(tuned, alpha=1.0)
    for at, vector in enumerate(found.vectors):
        gain, price = table[table.index(f"  {vector} ") :].splitlines()[:2]
        for column in found.columns:
            effect, name = column.cells[at].effect, number_called(column.measure, column.name)
            assert (f"{name} " in gain) == (effect is not None and effect.verdict == "better")
            assert (f"{name} " in price) == (effect is not None and effect.verdict == "worse")


def test_wrong_uses_are_named(tuned: persona.Repository) -> None:
    for call, said in (
        (lambda: persona.verify_vectors(tuned, alpha=float("nan")), "alpha nan is not a finite number"),
        (lambda: persona.verify_vectors(tuned, alpha=float("inf")), "alpha inf is not a finite number"),
    ):
        with pytest.raises(UsageError, match=said):
            call()
