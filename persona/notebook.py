"""How results look in a Python session: short in a terminal, a table in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from html import escape
from typing import Any

from persona.ids import SHORT, is_id

WIDEST = 60
"""Characters of a text that the short form shows."""


class Shown:
    """A dataclass with a short ``repr``, and with tables for notebooks. What is empty or None is left out of both."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={_short(value)}' for name, value in _filled(self))})"

    def _repr_html_(self) -> str:
        return _html(self)


def _filled(shown: Any) -> Iterator[tuple[str, Any]]:
    """The fields of a dataclass that have something to show."""
    for field in fields(shown):
        value = getattr(shown, field.name)
        if value is not None and value != () and value != "" and value != {}:
            yield field.name, value


def _short(value: Any) -> str:
    if is_id(value):
        return str(value[:SHORT])
    if isinstance(value, str):
        return repr(value if len(value) <= WIDEST else f"{value[:WIDEST]}…")
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple) and all(isinstance(item, str) for item in value) and len(value) <= 4:
        return f"({', '.join(map(_short, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, tuple | list | dict):
        return f"<{len(value)}>"
    if is_dataclass(value):
        return f"<{type(value).__name__}>"
    return str(value)


def _html(value: Any) -> str:
    """A table of a dataclass's fields, or with a row for each of several dataclasses; else the value as text."""
    if is_dataclass(value):
        rows = (f"<tr><th>{escape(name)}</th><td>{_html(item)}</td></tr>" for name, item in _filled(value))
        return f"<table>{''.join(rows)}</table>"
    if isinstance(value, tuple) and value and all(is_dataclass(item) for item in value):
        return _rows(value)
    if isinstance(value, tuple):
        return ", ".join(map(_html, value))
    if isinstance(value, dict):
        return ", ".join(f"{escape(str(key))} {_html(item)}" for key, item in value.items())
    return escape(_short(value) if is_id(value) or isinstance(value, float) else str(value))


def _rows(items: tuple[Any, ...]) -> str:
    names = dict.fromkeys(name for item in items for name, _ in _filled(item))
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = []
    for item in items:
        filled = dict(_filled(item))
        rows.append("".join(f"<td>{_html(filled[name]) if name in filled else ''}</td>" for name in names))
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
