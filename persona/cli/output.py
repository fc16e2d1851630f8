"""What a command writes: stdout as text or JSON, notes on stderr.

Nothing that is written here may fail for what it says: text that the output cannot encode is replaced (escaped, in
JSON), and an output that is full is a ``Storage`` error of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import click

from persona.errors import Storage

if TYPE_CHECKING:
    from rich.console import Console


def utf8(text: str) -> str:
    """``text`` with what is not UTF-8 (bytes of a command line, as Python hands them on) replaced."""
    return os.fsencode(text).decode(errors="replace") if not is_text(text) else text


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_json(value: Any) -> str:
    """JSON that stdout can encode."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return json.dumps(value)
    return text


class Unheard(Storage):
    """Standard output cannot be written."""

    def __init__(self, error: OSError) -> None:
        silence_stdout()
        reason = os.strerror(error.errno) if error.errno else str(error)
        super().__init__(
            f"standard output cannot be written: {reason[:1].lower()}{reason[1:]}",
            "The command itself was carried out; only what it had to say is lost.",
        )


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Around what writes to stdout: that it is full is no bug. A closed pipe is for ``invoke`` to see."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Unheard(error) from None


def silence_stdout() -> None:
    """Send what is still to come nowhere, so that the interpreter does not complain at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stdout() -> Console:
    """A console that wraps nothing when piped and honours NO_COLOR and COLUMNS on a terminal."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False, emoji=False)
    return Console(highlight=False, emoji=False, width=10_000, no_color=True, soft_wrap=True)


def note(text: str) -> None:
    """Say something beside the result."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(text, err=True)


def plain(value: Any) -> Any:
    """A result as JSON has it: dataclasses become tables, paths strings, floats that are no numbers null."""
    if is_dataclass(value) and not isinstance(value, type):
        table = {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        ok = getattr(value, "ok", None)
        return {**table, "ok": ok} if isinstance(ok, bool) else table
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return str(value)
