"""Read text files and JSON Lines; errors name the file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from persona.errors import UsageError
from persona.files import translated


def read_text(path: Path) -> str:
    """Read a UTF-8 file, with or without a byte order mark.

    Raises:
        UsageError: The file is not UTF-8.
    """
    with translated(path):
        data = path.read_bytes()
    return decoded(path, data)


def decoded(path: Path, data: bytes) -> str:
    """Decode the bytes of a file as UTF-8; ``path`` is only for the error message."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(f"{path}:{line} is not UTF-8: {error.reason}", "Save it as UTF-8.") from None


def lines_of(path: Path, text: str) -> Iterator[tuple[str, str]]:
    """Yield each line that is not blank, after its place: ``FILE:LINE``."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{path}:{number}", line


_LINE = "Write one JSON object per line."


def json_in(where: str, line: str, hint: str = _LINE) -> Any:
    """Parse a line as JSON; ``where`` is its place, for the error message."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}", hint) from None


def object_in(where: str, line: str, form: str, hint: str = _LINE) -> dict[str, Any]:
    """Parse a line as a JSON object.

    Args:
        where: Place of the line, for error messages.
        form: Hint if the line is JSON but not an object.
        hint: Hint if the line is not JSON.
    """
    fields = json_in(where, line, hint)
    if not isinstance(fields, dict):
        raise UsageError(f"{where} is not a JSON object", form)
    return fields
