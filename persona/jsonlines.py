"""Texts from files of anyone's making, and JSON with an object on each line: what is wrong is named by file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from persona.errors import UsageError
from persona.files import translated


def read_text(path: Path) -> str:
    """A file of UTF-8, with or without a byte order mark."""
    with translated(path):
        data = path.read_bytes()
    return decoded(path, data)


def decoded(path: Path, data: bytes) -> str:
    """The text in the bytes of a file."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(f"{path}:{line} is not UTF-8: {error.reason}", "Save it as UTF-8.") from None


def lines_of(path: Path, text: str) -> Iterator[tuple[str, str]]:
    """Each line that is not blank, and where it stands: ``FILE:LINE``."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{path}:{number}", line


_LINE = "Write one JSON object a line."


def json_in(where: str, line: str, hint: str = _LINE) -> Any:
    """What a line says."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}", hint) from None


def object_in(where: str, line: str, form: str, hint: str = _LINE) -> dict[str, Any]:
    """The object on a line. ``form`` is the hint where it is JSON and no object."""
    fields = json_in(where, line, hint)
    if not isinstance(fields, dict):
        raise UsageError(f"{where} is not a JSON object", form)
    return fields
