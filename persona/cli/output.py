"""Write results to stdout, as text or JSON, and notes to stderr.

Writing never fails because of the text: characters that the output cannot encode are replaced (escaped in JSON). A full
output raises its own `Storage` error.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import click

from persona.errors import Storage
from persona.visible import HIDDEN
from persona.visible import visible as visible

if TYPE_CHECKING:
    from rich.console import Console


_SURROGATE = re.compile("[\ud800-\udfff]")


def utf8(text: str) -> str:
    """Replace what is not valid UTF-8: undecodable bytes of the command line, which Python passes as surrogates, and those of JSON."""
    return text if is_text(text) else _SURROGATE.sub("\ufffd", text)


def is_text(text: str) -> bool:
    """Whether `text` can be encoded as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_json(value: Any) -> str:
    """Return `value` as one line of JSON that stdout can encode."""
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
            f"cannot write to standard output: {reason[:1].lower()}{reason[1:]}",
            "The command itself was completed; only its output is lost.",
        )


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Turn errors of writing to stdout into `Unheard`; a closed pipe passes through to `invoke`."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Unheard(error) from None


def silence_stdout() -> None:
    """Discard all further output, so that the interpreter does not complain about it at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stdout() -> Console:
    """Return a console for stdout: no wrapping in a pipe, NO_COLOR and COLUMNS respected on a terminal."""
    if sys.stdout.isatty():
        return console(highlight=False, emoji=False)
    return console(highlight=False, emoji=False, width=10_000, no_color=True, soft_wrap=True)


def console(**settings: Any) -> Console:
    """Return a console that prints every text as :func:`visible` has it; its own colours are not texts."""
    from rich.console import Console
    from rich.segment import Segment

    class Border(Console):
        def render(self, *arguments: Any, **options: Any) -> Iterator[Segment]:
            for segment in super().render(*arguments, **options):
                hidden = segment.control is None and HIDDEN.search(segment.text)
                yield Segment(visible(segment.text), segment.style) if hidden else segment

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError from None  # rich would exit with 1

    return Border(**settings)


def note(text: str) -> None:
    """Print a line to stderr."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(visible(text), err=True)


def plain(value: Any) -> Any:
    """Convert a result for JSON: dataclasses become tables, paths strings, and NaN or infinity null."""
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
