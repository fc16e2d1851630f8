"""Read sums of vectors: ``b - a + c``, ``0.5 * (calm + warm) - harsh@main~3``, ``-a / 3``.

    sum       = product { ("+" | "-") product }
    product   = factor { ("*" | "/") factor }
    factor    = [ "+" | "-" ] factor | "(" sum ")" | number | vector
    vector    = (word | "quoted" | 'quoted') [ "@" revision ]
    word      = letters, digits and "_"; a "-" between two of them is part of the word

So ``b-a`` is one vector, while ``b - a`` and ``b -a`` are differences. A name that ends in "-", or looks like a number,
must be quoted. A revision ends at a space, a bracket, ``*`` or ``+``, and may contain ``@{yesterday}``. The signs −, ×,
· and ÷ are accepted, too.

``parse`` makes a tree, and ``combine`` computes the sum: exact fractions as coefficients, in order of first appearance,
without those that cancel out. Errors point at the column.
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
"""Maximum length of an expression, in characters."""

_LIKE = "A sum of vectors looks like 'b - a + 0.5 * c'."

_DEEPEST = 50
"""Maximum nesting of brackets and signs."""

_SIGNS = {"−": "-", "–": "-", "×": "*", "·": "*", "÷": "/"}  # typed or pasted from elsewhere
_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_WORD = re.compile(r"\w+(?:-+\w+)*", re.ASCII)
_QUOTED = re.compile(r""""([^"]*)"|'([^']*)'""")
_REVISION = re.compile(r"""@((?:\{[^{}]*\}|[^\s(){}*×·÷+−"'])*)""")

K = TypeVar("K")


@dataclass(frozen=True)
class NumberToken:
    """A number, exactly as written."""

    value: Fraction
    at: int


@dataclass(frozen=True)
class Name:
    """A vector, with ``@`` and its revision if there is one; ``at`` is its offset in the text."""

    text: str
    at: int


@dataclass(frozen=True)
class Sum:
    """Terms with their signs, 1 or -1."""

    terms: tuple[tuple[int, Node], ...]
    at: int


@dataclass(frozen=True)
class Product:
    """Factors, each with the sign before it (``*`` for the first) and the offset of that sign."""

    factors: tuple[tuple[str, int, Node], ...]
    at: int


Node = NumberToken | Name | Sum | Product


def parse(text: str) -> Node:
    """Parse an expression.

    Raises:
        ExpressionError: `text` is not an expression.
    """
    if len(text) > LONGEST:
        raise ExpressionError(
            f"the expression has {len(text)} characters", f"The limit is {LONGEST}: use several steps."
        )
    reader = _Reader(text)
    node = reader.sum(0)
    if reader.sign:
        reader.fail(
            "unmatched ')'" if reader.sign == ")" else f"unexpected '{reader.sign}'", "See 'persona derive --help'."
        )
    return node


class _Reader:
    """Reads an expression from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._skip()

    @property
    def sign(self) -> str:
        """The next character, mathematical signs as ASCII; "" at the end."""
        char = self._text[self._at : self._at + 1]
        return _SIGNS.get(char, char)

    def fail(self, problem: str, hint: str) -> NoReturn:
        """Raise an error that points at the next character."""
        raise ExpressionError(problem, hint, self._text, self._at)

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
            self.fail("missing operator", "Write 0.5 * a, a + b or a - b.")
        return factors[0][2] if len(factors) == 1 else Product(tuple(factors), at)

    def _factor(self, depth: int) -> Node:
        if depth > _DEEPEST:
            self.fail(f"nested more than {_DEEPEST} levels deep", "Derive it in several steps.")
        sign, at = self.sign, self._at
        if sign and sign in "+-":
            self._skip(1)
            return Sum(((-1 if sign == "-" else 1, self._factor(depth + 1)),), at)
        if sign == "(":
            self._skip(1)
            node = self.sum(depth + 1)
            if self.sign != ")":
                self.fail("missing ')'", f"The '(' is in column {at + 1}.")
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
            self.fail(f"{match[0]} is out of range", f"Use 0, or a number from {SMALLEST:.0e} to {LARGEST:.0e}.")
        number = NumberToken(Fraction(0 if zero else match[0]), self._at)
        self._skip(len(match[0]))
        return number

    def _name(self) -> Name:
        at = self._at
        match = _WORD.match(self._text, at) or _QUOTED.match(self._text, at)
        if match is None:
            problem = f"unexpected '{self.sign}'" if self.sign else "unexpected end"
            self.fail(problem if self._text.strip() else "an empty expression", _LIKE)
        name = (match[1] or match[2] or "") if match.re is _QUOTED else match[0]
        if not name:
            self.fail("empty name", "Put a vector's name between the quotes.")
        self._at = match.end()
        revision = _REVISION.match(self._text, self._at)
        self._skip(len(revision[0]) if revision else 0)
        return Name(name + (revision[0] if revision else ""), at)


def names(node: Node) -> list[Name]:
    """Return every vector in a tree, from left to right."""
    if isinstance(node, NumberToken | Name):
        return [node] if isinstance(node, Name) else []
    children = [child for _, child in node.terms] if isinstance(node, Sum) else [child for _, _, child in node.factors]
    return [name for child in children for name in names(child)]


def combine(text: str, mean: Callable[[Name], Mapping[K, Fraction]]) -> dict[K, float]:
    """Compute the coefficients of a sum.

    Args:
        mean: Returns the sum that a name stands for.

    Raises:
        ExpressionError: `text` is not a sum of vectors, or a coefficient is out of range.
    """
    node = parse(text)
    total = _Combiner(text, mean).of(node)
    if isinstance(total, Fraction):
        raise ExpressionError("no vector in the expression", _LIKE, text, node.at)
    left = {key: value for key, value in total.items() if value}
    if not left:
        hint = "The result would change nothing, so there is nothing to derive."
        raise ExpressionError("everything cancels out", hint, text, node.at)
    smallest, largest = Fraction(str(SMALLEST)), Fraction(str(LARGEST))  # exact: as a float, 1e-30 is above 10 ** -30
    if not all(smallest <= abs(value) <= largest for value in left.values()):
        bounds = f"Coefficients go from {SMALLEST:.0e} to {LARGEST:.0e}, with either sign."
        raise ExpressionError("a coefficient is out of range", bounds, text, node.at)
    return {key: float(value) for key, value in left.items()}


@dataclass(frozen=True)
class _Combiner(Generic[K]):
    text: str
    mean: Callable[[Name], Mapping[K, Fraction]]

    def of(self, node: Node) -> Fraction | dict[K, Fraction]:
        """Evaluate a node to a number or a sum of vectors."""
        if isinstance(node, NumberToken):
            return node.value
        if isinstance(node, Name):
            return dict(self.mean(node))
        return self._sum(node) if isinstance(node, Sum) else self._product(node)

    def _fail(self, problem: str, hint: str, at: int) -> NoReturn:
        raise ExpressionError(problem, hint, self.text, at)

    def _sum(self, node: Sum) -> Fraction | dict[K, Fraction]:
        values = [(sign, self.of(term), term.at) for sign, term in node.terms]
        number, total = Fraction(0), dict[K, Fraction]()
        vectors = sum(isinstance(value, dict) for _, value, _ in values)
        for sign, value, at in values:
            if isinstance(value, Fraction):
                if vectors:
                    self._fail("a number cannot be added to vectors", "Multiply a vector by it: 0.5 * a.", at)
                number += sign * value
                continue
            for key, coefficient in value.items():
                total[key] = total.get(key, Fraction(0)) + sign * coefficient
        return total if vectors else number

    def _product(self, node: Product) -> Fraction | dict[K, Fraction]:
        total: Fraction | dict[K, Fraction] = Fraction(1)
        for sign, place, factor in node.factors:
            value = self.of(factor)
            if sign == "/":
                if isinstance(value, dict):
                    self._fail("cannot divide by a vector", "Divide a vector by a number: a / 2.", factor.at)
                if not value:
                    self._fail("division by 0", "Divide by another number.", factor.at)
                value = 1 / value
            if isinstance(total, dict) and isinstance(value, dict):
                self._fail("cannot multiply two vectors", "Multiply a vector by a number: 0.5 * a.", place)
            if isinstance(value, dict):
                total, value = value, total
            assert isinstance(value, Fraction)
            total = (
                {k: coefficient * value for k, coefficient in total.items()}
                if isinstance(total, dict)
                else total * value
            )
        return total


def said(sums: Mapping[str, float]) -> str:
    """Format coefficients by name as a sum: listening − rushing + 0.5 × voice."""
    text = ""
    for name, value in sums.items():
        sign = "−" if value < 0 else "+"
        size = "" if abs(value) == 1 else f"{abs(value):.6g} × "
        text += f" {sign} {size}{name}" if text else f"{'−' if value < 0 else ''}{size}{name}"
    return text


def meant(word: str, known: Collection[str]) -> str:
    """Return a hint for an unknown name that would be a difference or product if it had spaces; else ""."""
    for at in (at for at, sign in enumerate(word) if sign == "-"):
        left, right = word[:at], word[at + 1 :]
        if left in known and right in known:
            return f"The '-' is part of the name. For the difference write '{left} - {right}', with spaces."
    match = re.match(r"\d+", word)
    if match is not None and word[match.end() :] in known:
        return f"For {match[0]} times '{word[match.end() :]}' write '{match[0]} * {word[match.end() :]}'."
    return ""
