"""A JSONL export, with an object on each line: ``{"id", "text", "tags", "links"}``.

``key`` or ``name`` may stand for ``id``, and ``content`` for ``text``. The optional ``tags`` are a table of scores or a
list of names, and ``links`` a list of ids. The file name ends in ``.jsonl`` or ``.ndjson``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from persona.errors import UsageError
from persona.files import opened, translated
from persona.graph.sources import LARGEST_TEXT, SourceGraph, SourceOptions

SUMMARY = "a .jsonl file with an id and a text on each line"
ENDINGS = (".jsonl", ".ndjson")
LONGEST_LINE = 8 * LARGEST_TEXT
"""In bytes; JSON may write a character as an escape of six bytes or more."""

NAMES = ("id", "key", "name")
TEXTS = ("text", "content")


def accepts(place: str) -> bool:
    """Return whether it is a JSONL file."""
    return place.lower().endswith(ENDINGS) and Path(place).is_file()


def read(place: str, options: SourceOptions) -> Iterator[SourceGraph]:
    """Yield a node for each line that is not blank."""
    path = Path(place)
    with translated(path), opened(path) as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            where = f"{path}:{number}"
            if len(line) > LONGEST_LINE:
                raise UsageError(f"{where}: the line is longer than {LONGEST_LINE:,} bytes", "Split the node.")
            if line.strip():
                yield node_of(_object(line, where), where)


def _object(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        fields = json.loads(line.decode().removeprefix("\ufeff"))
    except UnicodeDecodeError:
        raise UsageError(f"{where} is not UTF-8", "Save the file as UTF-8.") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}", 'Write {"id": "…", "text": "…"} on each line.') from None
    if not isinstance(fields, dict):
        raise UsageError(f"{where} is not a JSON object", 'Write {"id": "…", "text": "…"} on each line.')
    return fields


def node_of(fields: Mapping[str, Any], where: str, text: str | None = None) -> SourceGraph:
    """Return a node from an object of an export or server.

    Args:
        where: Place of the object, for error messages.
        text: The node's text, if it does not come from ``fields``.

    Raises:
        UsageError: The id or text is missing or not a string.
    """
    name = next((fields[key] for key in NAMES if key in fields), None)
    body = text if text is not None else next((fields[key] for key in TEXTS if key in fields), None)
    for what, value, keys in (("id", name, NAMES), ("text", body, TEXTS)):
        if not isinstance(value, str):
            problem = f"no {what}" if value is None else f"the {what} is not a string"
            raise UsageError(f"{where}: {problem}", f"Give it as {' or '.join(keys)}, in quotes.")
    return SourceGraph(str(name), str(body), where, fields.get("tags", ()), fields.get("links", ()))
