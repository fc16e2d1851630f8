"""Readers of an object's fields: each returns a field that is what it must be, or raises ValueError naming it.

A right hash says that bytes are intact, not who wrote them, so an object is believed only as far as these go. Writers use the
same classes that decode with them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from persona.ids import Id

I = TypeVar("I", bound=Id)  # noqa: E741

LARGEST = 1 << 63
"""Whole numbers are below this."""

_YEARS = range(1900, 9990)
"""Years that every time zone and calendar can show."""


def shown(value: object) -> str:
    """A value for a message: not all of it, if it is long."""
    text = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}…"


def text(value: object, what: str) -> str:
    """A string that can be written."""
    if not isinstance(value, str):
        raise ValueError(f"{what} is {shown(value)} and not a string")
    return value


def table(value: object, what: str) -> dict[str, Any]:
    """A table."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} is {shown(value)} and not a table")
    return value


def rows(value: object, what: str, length: int | None = None) -> list[Any]:
    """A list, of this length if there is one."""
    if not isinstance(value, list):
        raise ValueError(f"{what} is {shown(value)} and not a list")
    if length is not None and len(value) != length:
        raise ValueError(f"{what} has {len(value)} parts and not {length}")
    return value


def texts(value: object, what: str) -> tuple[str, ...]:
    """A list of strings."""
    return tuple(text(item, what) for item in rows(value, what))


def flag(value: object, what: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{what} is {shown(value)} and not true or false")
    return value


def count(value: object, what: str) -> int:
    """A whole number from 0 that has 63 bits at most."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < LARGEST:
        raise ValueError(f"{what} is {shown(value)} and not a number of things")
    return value


def whole(value: object, what: str) -> int:
    """A whole number of 64 bits."""
    if not isinstance(value, int) or isinstance(value, bool) or not -LARGEST <= value < 2 * LARGEST:
        raise ValueError(f"{what} is {shown(value)} and not a whole number")
    return value


def number(value: object, what: str) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{what} is {shown(value)} and not a number")
    try:
        finite = math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        finite = False
    if not finite:
        raise ValueError(f"{what} is {shown(value)} and not a finite number")
    return value


def ident(kind: type[I], value: object, what: str) -> I:
    """An id."""
    try:
        return kind(text(value, what))
    except ValueError:
        raise ValueError(f"{what} is {shown(value)} and not an id") from None


def moment(value: object, what: str) -> str:
    """A time with its offset from UTC, as RFC 3339 has it."""
    said = text(value, what)
    try:
        when = datetime.fromisoformat(said)
    except ValueError:
        raise ValueError(f"{what} is {shown(said)} and not a time") from None
    if when.tzinfo is None or when.year not in _YEARS:
        raise ValueError(f"{what} is {shown(said)} and not a time with an offset")
    return said


def one_of(value: object, known: Mapping[str, Any] | frozenset[str], what: str) -> str:
    """One of the known strings."""
    said = text(value, what)
    if said not in known:
        raise ValueError(f"{what} is {shown(said)}, which is none that persona knows")
    return said
