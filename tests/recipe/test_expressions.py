"""Sums of vectors as people write them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona.errors import ExpressionError
from persona.recipe import expressions
from persona.recipe.expressions import Name, combine, meant, said

CASES = {
    "b - a + c": {"b": 1, "a": -1, "c": 1},
    "b -a": {"b": 1, "a": -1},
    "b-a": {"b-a": 1},
    "b-a - b--a": {"b-a": 1, "b--a": -1},
    "0.5 * (calm + warm) − harsh@main~3": {"calm": 0.5, "warm": 0.5, "harsh@main~3": -1},
    "(a)(": None,
    "-a/3": {"a": -1 / 3},
    "a@{2 days ago} – 'b-' + \"7\"": {"a@{2 days ago}": 1, "b-": -1, "7": 1},
    "a@x/y-1*2 + a@v1.2^2~3": {"a@x/y-1": 2, "a@v1.2^2~3": 1},
    "'b-a'@HEAD~1": {"b-a@HEAD~1": 1},
    "3 × 3f2a9c + 1e1·a ÷ 2": {"3f2a9c": 3, "a": 5},
    "a - -a": {"a": 2},
    "--a": {"a": 1},
    "2 * 3 * (1 - 0.5) * a * 2": {"a": 6},
    "0.1*a + 0.2*a": {"a": 0.3},
    "a + b - a": {"b": 1},
    "0 * a + b": {"b": 1},
    "c + b + c": {"c": 2, "b": 1},
    ".5*a + 1.*b + 1e-3*c": {"a": 0.5, "b": 1, "c": 0.001},
    "  a  ": {"a": 1},
}


def itself(name: Name) -> dict[str, Fraction]:
    return {name.text: Fraction(1)}


@pytest.mark.parametrize("text", [text for text, wanted in CASES.items() if wanted])
def test_what_a_sum_means(text: str) -> None:
    wanted = CASES[text]
    assert wanted is not None
    found = combine(text, itself)
    assert found == wanted
    assert list(found) == list(wanted), "in order of first appearance"


WRONG = [
    ("", 1, "an empty expression"),
    ("   ", 4, "an empty expression"),
    ("a *", 4, "unexpected end"),
    ("a + * b", 5, "unexpected '*'"),
    ("a & b", 3, "unexpected '&'"),
    ("a b", 3, "missing operator"),
    ("0.5a", 4, "missing operator"),
    ("2 (a)", 3, "missing operator"),
    ("(a + b", 7, "missing ')'"),
    ("a + b)", 6, "unmatched ')'"),
    ("a * b", 3, "cannot multiply two vectors"),
    ("2 * (a + 1)", 10, "a number cannot be added"),
    ("3 - a", 1, "a number cannot be added"),
    ("1 / a", 5, "divide by a vector"),
    ("a / (1 - 1)", 6, "division by 0"),
    ("2 + 3", 1, "no vector in the expression"),
    ("a - a", 1, "cancels out"),
    ("1e30 * a", 1, "is out of range"),
    ("1e400 * a", 1, "is out of range"),
    ("1e-400 * a", 1, "is out of range"),
    ("1e9 * 10 * a", 1, "a coefficient is out of range"),
    ("1e-20 * 1e-20 * a", 1, "a coefficient is out of range"),
    ("a + " + "(" * 60 + "b" + ")" * 60, 56, "nested more than"),
    ("-" * 60 + "b", 52, "nested more than"),
    ("''", 1, "empty name"),
    ("'a", 1, "unexpected"),
    ("a@{1", 3, "unexpected"),
]


@pytest.mark.parametrize(("text", "column", "what"), WRONG)
def test_what_is_no_sum_is_pointed_at(text: str, column: int, what: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        combine(text, itself)
    assert what in caught.value.message
    assert caught.value.hint
    assert caught.value.at == column - 1
    if text:
        assert caught.value.message.startswith(f"column {column}: ")
        assert caught.value.excerpt == f"{text}\n{' ' * (column - 1)}^"


def test_a_very_long_one_is_read_and_a_longer_one_is_not() -> None:
    text = " + ".join(["a", "b"] * 200)
    assert combine(text, itself) == {"a": 200, "b": 200}
    with pytest.raises(ExpressionError, match="characters"):
        combine(" " * expressions.LONGEST + "a", itself)


NUMBERS = st.integers(0, 99).map(str) | st.decimals("0.01", "9.99", places=2).map(str)
NAMES = st.sampled_from(["a", "b", "c"])


def sums(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Sums of vectors, larger by one step."""
    return (
        st.tuples(children, st.sampled_from(["+", "-"]), children).map(" ".join)
        | st.tuples(NUMBERS, children).map(lambda p: f"{p[0]} * ({p[1]})")
        | st.tuples(children, NUMBERS.filter(lambda n: float(n) > 0)).map(lambda p: f"({p[0]}) / {p[1]}")
        | children.map(lambda one: f"-({one})")
        | children.map(lambda one: f"({one})")
    )


@given(st.recursive(NAMES, sums, max_leaves=12))
def test_the_same_as_pythons_own_arithmetic(text: str) -> None:
    """With every number a fraction, and a vector as its coordinates: Python reads the same text."""
    if len(text) > expressions.LONGEST:
        return
    wrapped = "".join(f"F('{part}')" if part[:1].isdigit() else part for part in _split_numbers(text))
    wanted = {}
    for one in "abc":
        values = {name: Fraction(name == one) for name in "abc"}
        if value := eval(wrapped, {"F": Fraction, **values}):  # its own text
            wanted[one] = value
    try:
        assert combine(text, itself) == {name: float(value) for name, value in wanted.items()}
    except ExpressionError as error:
        small = any(not 1e-30 <= abs(value) <= 1e9 for value in wanted.values())
        assert not wanted or small or "nested more than" in error.message


def _split_numbers(text: str) -> list[str]:
    import re

    return [part for part in re.split(r"(\d+(?:\.\d+)?)", text) if part]


@given(st.text("ab01-+*/().@{}~^ \t'\"−×éx", max_size=40))
def test_any_text_means_something_or_is_an_error(text: str) -> None:
    try:
        found = combine(text, itself)
    except ExpressionError as error:
        assert 0 <= error.at <= len(text)
    else:
        assert found
        assert all(found.values())


@given(st.dictionaries(st.sampled_from(["listening", "b-a", "x_1"]), st.integers(-99, 99).filter(bool), min_size=1))
def test_what_is_said_of_a_sum_can_be_typed(sums: dict[str, int]) -> None:
    assert combine(said({name: n / 4 for name, n in sums.items()}), itself) == {n: v / 4 for n, v in sums.items()}


def test_what_was_meant_by_a_word_that_is_no_name() -> None:
    known = ["b", "a", "b-c"]
    assert "'b - a', with spaces" in meant("b-a", known)
    assert "'b-c - a'" in meant("b-c-a", known)
    assert "'2 * a'" in meant("2a", known)
    assert meant("x", known) == ""
