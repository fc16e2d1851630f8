"""Read text files, and JSON with one object per row; errors name the file and line.

Rows are JSON Lines, one JSON array, or objects that follow each other and may span lines (``jq .``, ``indent=2``).
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from persona.errors import UsageError
from persona.files import read_bytes, translated


def read_text(path: Path) -> str:
    """Read a UTF-8 file, with or without a byte order mark.

    Raises:
        UsageError: The file is not UTF-8.
    """
    with translated(path):
        data = read_bytes(path)
    return decoded(path, data)


def decoded(path: Path, data: bytes) -> str:
    """Decode the bytes of a file as UTF-8; ``path`` is only for the error message."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UsageError(f"{path} is UTF-16, not UTF-8", "Save it as UTF-8, for example: iconv -f UTF-16 -t UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(f"{path}:{line} is not UTF-8: {error.reason}", "Save it as UTF-8.") from None


def lines_of(text: str) -> list[str]:
    """The lines of a text; unlike ``splitlines``, other separators such as U+2028 are characters of a line."""
    return _ENDS.split(text)


_ENDS = re.compile(r"\r\n|\r|\n")
_LOADS = {
    ".parquet": "Dataset.from_parquet('{}')",
    ".csv": "Dataset.from_csv('{}')",
    ".tsv": "Dataset.from_csv('{}', sep='\\t')",
    ".arrow": "Dataset.from_file('{}')",
}
"""How datasets reads a table, by the ending of its file."""

_UNPACKS = {".gz": "gunzip", ".zst": "unzstd", ".bz2": "bunzip2", ".xz": "unxz", ".zip": "unzip"}


def refuse_tables(path: Path) -> None:
    """Raise for a file of rows that is a table or compressed, by its ending, or a folder; the hint converts it.

    Raises:
        UsageError: It is one of these.
    """
    ending = path.suffix.lower()
    load = "load_from_disk('{}')" if path.is_dir() else _LOADS.get(ending, "")
    if load:
        new = path.with_suffix(".jsonl")
        code = f"from datasets import {load.partition('.')[0].partition('(')[0]}; {load.format(path)}.to_json('{new}')"
        raise UsageError(
            f"{path} is a {'folder' if path.is_dir() else 'table'}, not JSON Lines", f'Convert it: python -c "{code}"'
        )
    if ending in _UNPACKS:
        raise UsageError(f"{path} is compressed", f"Unpack it: {_UNPACKS[ending]} '{path}'")


_LINE = "Write one JSON object per line."
_BLANK = re.compile(r"[ \t\r\n]*")
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_DECODER = json.JSONDecoder()


def objects_in(path: Path, text: str, form: str, hint: str = _LINE) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each JSON object of a file after its place, ``FILE:LINE``.

    Args:
        path: Names the file in errors.
        text: The contents of the file.
        form: Hint if a row is JSON but not an object.
        hint: Hint if a row is not JSON.

    Raises:
        UsageError: A row is not a JSON object, or has half of a surrogate pair.
    """
    for where, value in _values(path, text, hint):
        if not isinstance(value, dict):
            raise UsageError(f"{where} is not a JSON object", form)
        yield where, value


def check_characters(where: str, value: Any) -> None:
    r"""Raise if a string of a JSON value has half of a surrogate pair (``"\ud83d"``), which no encoding can write.

    Args:
        where: Place of the value, for the error message.
        value: The value.
    """
    half = half_in(value)
    if half:
        raise UsageError(
            f"{where} has {half} alone, which is half of a character",
            "Write both halves of the surrogate pair, or remove it.",
        )


def half_in(value: Any) -> str:
    """The first half of a surrogate pair that stands alone in a JSON value, as JSON writes it; empty if there is none."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        return f"\\u{ord(error.object[error.start]):04x}"
    return ""


def _values(path: Path, text: str, hint: str) -> Iterator[tuple[str, Any]]:
    begin = _skip(text, 0)
    if text.startswith("[", begin):
        return _of_array(path, text, begin, hint)
    if text.startswith("{", begin) and _spans_lines(text, begin):
        return _in_sequence(path, text, begin, hint)
    return _of_lines(path, text, hint)


def _spans_lines(text: str, begin: int) -> bool:
    """Whether the object that begins there is more than its line."""
    line = text[begin:].split("\n", 1)[0].strip()
    if line == "{":
        return True
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        try:
            _DECODER.raw_decode(text, begin)
        except (ValueError, RecursionError):
            return False  # an error of this line
        return True
    return False


def _of_lines(path: Path, text: str, hint: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{path}:{number}"
            yield where, _parsed(where, line, hint)


def _parsed(where: str, line: str, hint: str) -> Any:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{where} is not JSON: {error.msg} at column {error.colno}", hint) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {_limit(error)}", hint) from None
    if _HALF.search(line) is not None:
        check_characters(where, value)
    return value


def _in_sequence(path: Path, text: str, at: int, hint: str) -> Iterator[tuple[str, Any]]:
    line, counted = 1, 0
    while at < len(text):
        line, counted = line + text.count("\n", counted, at), at
        where = f"{path}:{line}"
        value, end = _decoded(path, text, at, hint)
        if _HALF.search(text, at, end) is not None:
            check_characters(where, value)
        yield where, value
        at = _skip(text, end)


def _of_array(path: Path, text: str, begin: int, hint: str) -> Iterator[tuple[str, Any]]:
    line, counted, number = 1, 0, 0
    in_one_line = "\n" not in text[begin:].rstrip()
    at = _skip(text, begin + 1)
    more = not text.startswith("]", at)
    while more:
        number += 1
        line, counted = line + text.count("\n", counted, at), at
        where = f"{path}:{line} row {number}" if in_one_line else f"{path}:{line}"
        value, end = _decoded(path, text, at, hint)
        if _HALF.search(text, at, end) is not None:
            check_characters(where, value)
        yield where, value
        at = _skip(text, end)
        more = text.startswith(",", at)
        if more:
            at = _skip(text, at + 1)
        elif not text.startswith("]", at):
            raise _broken(path, text, at, "Expecting ',' or ']'", hint)
    at = _skip(text, at + 1)
    if at < len(text):
        raise _broken(path, text, at, "something follows the array", hint)


def _decoded(path: Path, text: str, at: int, hint: str) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise _broken(path, text, error.pos, error.msg, hint) from None
    except (ValueError, RecursionError) as error:
        raise _broken(path, text, at, _limit(error), hint) from None


def _limit(error: Exception) -> str:
    """What is too much for Python's JSON reader."""
    return "too deeply nested" if isinstance(error, RecursionError) else "a number with too many digits"


def _broken(path: Path, text: str, at: int, problem: str, hint: str) -> UsageError:
    line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
    return UsageError(f"{path}:{line} is not JSON: {problem} at column {column}", hint)


def _skip(text: str, at: int) -> int:
    return _BLANK.match(text, at).end()  # type: ignore[union-attr]  # it matches anywhere
