"""Sums of vectors as people write them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona.errors import ExpressionError
from persona.recipe import expressions
from persona.recipe.expressions import Name, NumberToken, Product, Sum, combine, meant, names, parse, said

CASES: dict[str, dict[str, float]] = {
    "b - a + c": {"b": 1, "a": -1, "c": 1},
    "b -a": {"b": 1, "a": -1},
    "b-a": {"b-a": 1},
    "b-a - b--a": {"b-a": 1, "b--a": -1},
    "0.5 * (calm + warm) − harsh@main~3": {"calm": 0.5, "warm": 0.5, "harsh@main~3": -1},
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
    "XX - X": {"XX": 1, "X": -1},
    "(2 - 3 + 5) * a": {"a": 4},
    "a - (b - c)": {"a": 1, "b": -1, "c": 1},
    "a / 2 / 4 * 3": {"a": 0.375},
    "6 / 4 * a": {"a": 1.5},
    "+a +b": {"a": 1, "b": 1},
    "2*a*3": {"a": 6},
    "1.5E1 * a": {"a": 15},
}


def itself(name: Name) -> dict[str, Fraction]:
    return {name.text: Fraction(1)}


@pytest.mark.parametrize("text", CASES)
def test_what_a_sum_means(text: str) -> None:
    wanted = CASES[text]
    found = combine(text, itself)
    assert found == wanted
    assert list(found) == list(wanted), "in order of first appearance"


LIKE = "A sum of vectors looks like 'b - a + 0.5 * c'."
HELP = "See 'persona derive --help'."
OPERATOR = "Write 0.5 * a, a + b or a - b."
NUMBER = "Multiply a vector by it: 0.5 * a."
RANGE = "Use 0, or a number from 1e-30 to 1e+09."
COEFFICIENTS = "Coefficients go from 1e-30 to 1e+09, with either sign."
NOTHING = "The result would change nothing, so there is nothing to derive."
STEPS = "Derive it in several steps."
NESTED = "nested more than 50 levels deep"

WRONG = [
    ("", 1, "an empty expression", LIKE),
    ("   ", 4, "an empty expression", LIKE),
    ("a *", 4, "unexpected end", LIKE),
    ("a +  ", 6, "unexpected end", LIKE),
    ("a + * b", 5, "unexpected '*'", LIKE),
    ("a ÷ ÷ b", 5, "unexpected '/'", LIKE),
    ("a & b", 3, "unexpected '&'", HELP),
    ("a b", 3, "missing operator", OPERATOR),
    ("a X b", 3, "missing operator", OPERATOR),
    ("0.5a", 4, "missing operator", OPERATOR),
    ("2 (a)", 3, "missing operator", OPERATOR),
    ("(a)(", 4, "missing operator", OPERATOR),
    ("a .5", 3, "missing operator", OPERATOR),
    ("a 'b'", 3, "missing operator", OPERATOR),
    ('a "b"', 3, "missing operator", OPERATOR),
    ("(a + b", 7, "missing ')'", "The '(' is in column 1."),
    ("c - (a & b)", 8, "missing ')'", "The '(' is in column 5."),
    ("a + b)", 6, "unmatched ')'", HELP),
    ("a * b", 3, "cannot multiply two vectors", "Multiply a vector by a number: 0.5 * a."),
    ("2 * a * 3 * b", 11, "cannot multiply two vectors", "Multiply a vector by a number: 0.5 * a."),
    ("2 * (a + 1)", 10, "a number cannot be added to vectors", NUMBER),
    ("3 - a", 1, "a number cannot be added to vectors", NUMBER),
    ("1 / a", 5, "cannot divide by a vector", "Divide a vector by a number: a / 2."),
    ("a / (1 - 1)", 6, "division by 0", "Divide by another number."),
    ("2 + 3", 1, "no vector in the expression", LIKE),
    ("  2", 3, "no vector in the expression", LIKE),
    ("a - a", 1, "everything cancels out", NOTHING),
    ("  0 * a", 3, "everything cancels out", NOTHING),
    ("1e30 * a", 1, "1e30 is out of range", RANGE),
    ("a * 1e400", 5, "1e400 is out of range", RANGE),
    ("1e-400 * a", 1, "1e-400 is out of range", RANGE),
    ("1000000001 * a", 1, "1000000001 is out of range", RANGE),
    ("1e9 * 10 * a", 1, "a coefficient is out of range", COEFFICIENTS),
    ("b + 1e-20 * 1e-20 * a", 1, "a coefficient is out of range", COEFFICIENTS),
    ("  -10 * 1e9 * a", 3, "a coefficient is out of range", COEFFICIENTS),
    ("a + " + "(" * 60 + "b" + ")" * 60, 56, NESTED, STEPS),
    ("-" * 60 + "b", 52, NESTED, STEPS),
    ("(-" * 25 + "(b" + ")" * 26, 52, NESTED, STEPS),
    ("''", 1, "empty name", "Put a vector's name between the quotes."),
    ('a - ""', 5, "empty name", "Put a vector's name between the quotes."),
    ("'a", 1, "unexpected '''", LIKE),
    ("a@{1", 3, "unexpected '{'", HELP),
]


@pytest.mark.parametrize(("text", "column", "what", "hint"), WRONG)
def test_what_is_no_sum_is_pointed_at(text: str, column: int, what: str, hint: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        combine(text, itself)
    assert caught.value.at == column - 1
    assert caught.value.hint == hint
    if text:
        assert caught.value.message == f"column {column}: {what}"
        assert caught.value.excerpt == f"{text}\n{' ' * (column - 1)}^"
    else:
        assert caught.value.message == what


def test_a_very_long_one_is_read_and_a_longer_one_is_not() -> None:
    text = " + ".join(["a", "b"] * 200)
    assert combine(text, itself) == {"a": 200, "b": 200}
    assert combine("a".rjust(2000), itself) == {"a": 1}
    with pytest.raises(ExpressionError) as caught:
        combine("a".rjust(2001), itself)
    assert caught.value.message == "the expression has 2001 characters"
    assert caught.value.hint == "The limit is 2000: use several steps."
    assert (caught.value.at, caught.value.excerpt) == (0, ""), "a line that long would not help"


def test_the_limits_themselves_are_allowed() -> None:
    for text, value in {
        "1e9 * a": 1e9,
        "-1e9 * a": -1e9,
        "1e-30 * a": 1e-30,
        "-a * 1E-15 / 1e9 / 1e6": -1e-30,
        "(" * 50 + "a" + ")" * 50: 1,
        "-" * 50 + "a": 1,
    }.items():
        assert combine(text, itself) == {"a": value}


def test_zero_is_zero_whatever_its_exponent() -> None:
    for zero in ("0", "0.00", ".0", "0e5", "0E5", "0e-400", "0e999999999"):
        assert combine(f"{zero} * a + b", itself) == {"b": 1}


def test_a_tree_says_where_everything_stands() -> None:
    two, half = NumberToken(Fraction(2), 5), NumberToken(Fraction(1, 2), 20)
    product = Product((("*", 5, two), ("*", 6, Name("x y@main", 7)), ("/", 18, half)), 5)
    assert parse(" b - 2*'x y'@main / .5") == Sum(((1, Name("b", 1)), (-1, product)), 1)
    assert parse("(a)") == parse(" a") == Name("a", 1), "brackets around one thing leave no trace"
    assert parse("+ -X") == Sum(((1, Sum(((-1, Name("X", 3)),), 2)),), 0)


def test_names_are_listed_as_often_as_they_occur() -> None:
    found = names(parse("a - 2 * (b@HEAD~1 + a) / 3"))
    assert found == [Name("a", 0), Name("b@HEAD~1", 9), Name("a", 20)]
    assert names(parse("2 * 3")) == []


def test_a_name_may_stand_for_a_sum_of_its_own() -> None:
    means = {"a": {"x": Fraction(1), "y": Fraction(-1)}, "b": {"x": Fraction(1), "y": Fraction(1)}}
    assert combine("a + b", lambda name: means[name.text]) == {"x": 2}
    assert combine("0.5 * b - a / 4", lambda name: means[name.text]) == {"x": 0.25, "y": 0.75}
    with pytest.raises(ExpressionError, match="everything cancels out"):
        combine("a + b - 2 * x", lambda name: means.get(name.text, {"x": Fraction(1)}))


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


def test_a_sum_in_words() -> None:
    assert said({"listening": 1, "rushing": -1, "voice": 0.5}) == "listening − rushing + 0.5 × voice"
    assert said({"a": -1, "b": -1 / 3, "c": 2}) == "−a − 0.333333 × b + 2 × c"
    assert said({"a": -1.5}) == "−1.5 × a"
    assert said({"a": 0.0, "b": 0.0}) == "0 × a + 0 × b"
    assert said({}) == ""


def test_what_was_meant_by_a_word_that_is_no_name() -> None:
    known = ["b", "a", "b-c", "3d"]
    difference = "The '-' is part of the name. For the difference write '{}', with spaces."
    for word, wanted in {
        "b-a": difference.format("b - a"),
        "b-c-a": difference.format("b-c - a"),
        "a-b-c": difference.format("a - b-c"),
        "2a": "For 2 times 'a' write '2 * a'.",
        "12b-c": "For 12 times 'b-c' write '12 * b-c'.",
        "x": "",
        "2x": "",
        "a-x": "",
        "x-a": "",
        "a2": "",
        "b+a": "",
        "2": "",
    }.items():
        assert meant(word, known) == wanted
