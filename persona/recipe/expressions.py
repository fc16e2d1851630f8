"""Sums of vectors as people write them: ``b - a + c``, ``0.5 * (calm + warm) - harsh@main~3``, ``-a / 3``.

    sum       = product { ("+" | "-") product }
    product   = factor { ("*" | "/") factor }
    factor    = [ "+" | "-" ] factor | "(" sum ")" | number | vector
    vector    = (word | "quoted" | 'quoted') [ "@" revision ]
    word      = letters, digits and "_"; a "-" between two of them belongs to the word

So ``b-a`` is the vector of that name and ``b - a`` is a difference, as ``b -a`` is; a name that ends in "-", or could be
read as a number, is quoted. A revision ends at a space, a bracket, ``*`` or ``+``, and may hold ``@{yesterday}``. For
``-``, ``*`` and ``/`` the signs −, × (or ·) and ÷ are as good.

``parse`` makes a tree, ``combine`` the sum that it means: coefficients are exact fractions, in order of first
appearance, those that come to 0 left out. What is no sum of vectors is an error that points at its column.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, NoReturn, TypeVar

from persona.errors import ExpressionError
from persona.store.nouns import LARGEST, SMALLEST

LONGEST = 2000
"""Characters of an expression."""

_LIKE = "A sum of vectors looks like 'b - a + 0.5 * c'."

_DEEPEST = 50
"""Brackets and signs inside each other."""

_SIGNS = {"−": "-", "–": "-", "×": "*", "·": "*", "÷": "/"}  # signs that people type or paste
_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_WORD = re.compile(r"\w+(?:-+\w+)*", re.ASCII)
_QUOTED = re.compile(r""""([^"]*)"|'([^']*)'""")
_REVISION = re.compile(r"""@((?:\{[^{}]*\}|[^\s(){}*×·÷+−"'])*)""")

K = TypeVar("K")


@dataclass(frozen=True)
class NumberToken:
    """A number as it was written."""

    value: Fraction
    at: int


@dataclass(frozen=True)
class Name:
    """A vector, with ``@`` and a revision where there is one; ``at`` is where it stands in the text."""

    text: str
    at: int


@dataclass(frozen=True)
class Sum:
    """Terms with their signs, 1 or -1."""

    terms: tuple[tuple[int, Node], ...]
    at: int


@dataclass(frozen=True)
class Product:
    """Factors, each with the sign that stands before it (``*`` before the first) and its place."""

    factors: tuple[tuple[str, int, Node], ...]
    at: int


Node = NumberToken | Name | Sum | Product


def parse(text: str) -> Node:
    """The tree of ``text``; ExpressionError if it is none."""
    if len(text) > LONGEST:
        raise ExpressionError(f"it has {len(text)} characters", f"At most {LONGEST} are read: derive it in steps.")
    reader = _Reader(text)
    node = reader.sum(0)
    if reader.sign:
        what = "there is no '(' for this ')'" if reader.sign == ")" else f"'{reader.sign}' says nothing here"
        reader.fail(what, "See 'persona derive --help'.")
    return node


class _Reader:
    """Takes an expression apart from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._skip()

    @property
    def sign(self) -> str:
        """The character that is next, with the signs of mathematics as those of a keyboard; "" at the end."""
        one = self._text[self._at : self._at + 1]
        return _SIGNS.get(one, one)

    def fail(self, what: str, hint: str) -> NoReturn:
        """Raise, pointing at what is next."""
        raise ExpressionError(what, hint, self._text, self._at)

    def _skip(self, count: int = 0) -> None:
        match = _SPACE.match(self._text, self._at + count)
        self._at = match.end() if match else self._at

    def sum(self, depth: int) -> Node:
        at, terms = self._at, [(1, self._product(depth))]
        while self.sign and self.sign in "+-":
            sign = -1 if self.sign == "-" else 1
            self._skip(1)
            terms.append((sign, self._product(depth)))
        return terms[0][1] if len(terms) == 1 else Sum(tuple(terms), at)

    def _product(self, depth: int) -> Node:
        at, factors = self._at, [("*", self._at, self._factor(depth))]
        while self.sign and self.sign in "*/":
            sign, place = self.sign, self._at
            self._skip(1)
            factors.append((sign, place, self._factor(depth)))
        if self.sign and (self.sign in "(\"'." or self.sign.isalnum()):
            self.fail("there is no sign before this", "Write 0.5 * a, a + b or a - b.")
        return factors[0][2] if len(factors) == 1 else Product(tuple(factors), at)

    def _factor(self, depth: int) -> Node:
        if depth > _DEEPEST:
            self.fail(f"more than {_DEEPEST} brackets and signs inside each other", "Derive it in steps.")
        sign, at = self.sign, self._at
        if sign and sign in "+-":
            self._skip(1)
            return Sum(((-1 if sign == "-" else 1, self._factor(depth + 1)),), at)
        if sign == "(":
            self._skip(1)
            node = self.sum(depth + 1)
            if self.sign != ")":
                self.fail("a ')' is missing", f"The '(' is in column {at + 1}.")
            self._skip(1)
            return node
        return self._number() or self._name()

    def _number(self) -> NumberToken | None:
        match = _NUMBER.match(self._text, self._at)
        word = _WORD.match(self._text, self._at)
        if match is None or (word is not None and word.end() > match.end()):
            return None
        zero = not re.search("[1-9]", re.split("[eE]", match[0])[0])
        if not zero and not SMALLEST <= float(match[0]) <= LARGEST:
            self.fail(f"{match[0]} is no number for this", f"Give 0, or one from {SMALLEST:.0e} to {LARGEST:.0e}.")
        number = NumberToken(Fraction(0 if zero else match[0]), self._at)
        self._skip(len(match[0]))
        return number

    def _name(self) -> Name:
        at = self._at
        match = _WORD.match(self._text, at) or _QUOTED.match(self._text, at)
        if match is None:
            what = f"'{self.sign}' says nothing here" if self.sign else "something is missing at the end"
            self.fail(what if self._text.strip() else "an empty expression", _LIKE)
        name = (match[1] or match[2] or "") if match.re is _QUOTED else match[0]
        if not name:
            self.fail("a name of nothing", "Put a vector's name between the quotes.")
        self._at = match.end()
        revision = _REVISION.match(self._text, self._at)
        self._skip(len(revision[0]) if revision else 0)
        return Name(name + (revision[0] if revision else ""), at)


def names(node: Node) -> list[Name]:
    """Every vector in a tree, from left to right."""
    if isinstance(node, NumberToken | Name):
        return [node] if isinstance(node, Name) else []
    children = [child for _, child in node.terms] if isinstance(node, Sum) else [child for _, _, child in node.factors]
    return [name for child in children for name in names(child)]


def combine(text: str, mean: Callable[[Name], Mapping[K, Fraction]]) -> dict[K, float]:
    """Coefficients of the sum that ``text`` is; ``mean`` says of a name what sum it is itself."""
    node = parse(text)
    found = _Combiner(text, mean).of(node)
    if isinstance(found, Fraction):
        raise ExpressionError("there is no vector in it", _LIKE, text, node.at)
    left = {key: value for key, value in found.items() if value}
    if not left:
        what = "everything cancels out, and nothing is left"
        raise ExpressionError(what, "A vector of nothing changes nothing: leave it out.", text, node.at)
    if not all(SMALLEST <= abs(value) <= LARGEST for value in left.values()):
        bounds = f"They go from {SMALLEST:.0e} to {LARGEST:.0e}, with either sign."
        raise ExpressionError("a coefficient comes to more, or less, than a build can use", bounds, text, node.at)
    return {key: float(value) for key, value in left.items()}


@dataclass(frozen=True)
class _Combiner(Generic[K]):
    text: str
    mean: Callable[[Name], Mapping[K, Fraction]]

    def of(self, node: Node) -> Fraction | dict[K, Fraction]:
        """A number, or a sum of vectors."""
        if isinstance(node, NumberToken):
            return node.value
        if isinstance(node, Name):
            return dict(self.mean(node))
        return self._sum(node) if isinstance(node, Sum) else self._product(node)

    def _fail(self, what: str, hint: str, at: int) -> NoReturn:
        raise ExpressionError(what, hint, self.text, at)

    def _sum(self, node: Sum) -> Fraction | dict[K, Fraction]:
        values = [(sign, self.of(one), one.at) for sign, one in node.terms]
        number, total = Fraction(0), dict[K, Fraction]()
        vectors = sum(isinstance(value, dict) for _, value, _ in values)
        for sign, value, at in values:
            if isinstance(value, Fraction):
                if vectors:
                    self._fail("a number cannot be added to vectors", "Write what it is a share of: 0.5 * a.", at)
                number += sign * value
                continue
            for key, coefficient in value.items():
                total[key] = total.get(key, Fraction(0)) + sign * coefficient
        return total if vectors else number

    def _product(self, node: Product) -> Fraction | dict[K, Fraction]:
        total: Fraction | dict[K, Fraction] = Fraction(1)
        for sign, place, one in node.factors:
            value = self.of(one)
            if sign == "/":
                if isinstance(value, dict):
                    self._fail("nothing can be divided by a vector", "Divide a vector by a number: a / 2.", one.at)
                if not value:
                    self._fail("a division by 0", "Divide by another number.", one.at)
                value = 1 / value
            if isinstance(total, dict) and isinstance(value, dict):
                self._fail("two vectors cannot be multiplied", "Multiply a vector by a number: 0.5 * a.", place)
            if isinstance(value, dict):
                total, value = value, total
            assert isinstance(value, Fraction)
            total = {k: one * value for k, one in total.items()} if isinstance(total, dict) else total * value
        return total


def said(sums: Mapping[str, float]) -> str:
    """Coefficients by name, as a person writes a sum: listening − rushing + 0.5 × voice."""
    text = ""
    for name, value in sums.items():
        sign = "−" if value < 0 else "+"
        size = "" if abs(value) == 1 else f"{abs(value):.6g} × "
        text += f" {sign} {size}{name}" if text else f"{'−' if value < 0 else ''}{size}{name}"
    return text


def meant(word: str, known: Collection[str]) -> str:
    """A hint for a word that is no vector's name, and would be a difference or a product with spaces; else ""."""
    for at in (at for at, sign in enumerate(word) if sign == "-"):
        left, right = word[:at], word[at + 1 :]
        if left in known and right in known:
            return f"The '-' is part of the name. For the difference write '{left} - {right}', with spaces."
    match = re.match(r"\d+", word)
    if match is not None and word[match.end() :] in known:
        return f"For {match[0]} times '{word[match.end() :]}' write '{match[0]} * {word[match.end() :]}'."
    return ""
