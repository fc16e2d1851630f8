"""A JSONL export: an object on each line, ``{"id", "text", "tags", "links"}``.

``key`` or ``name`` will do for ``id``, and ``content`` for ``text``. ``tags`` is a table of scores or a list of names, and
``links`` a list of ids; both may be missing. A file may end in ``.jsonl`` or ``.ndjson``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from persona.errors import UsageError
from persona.files import translated
from persona.graph.sources import LARGEST_TEXT, SourceGraph, SourceOptions

SUMMARY = "a .jsonl file with an id and a text on each line"
ENDINGS = (".jsonl", ".ndjson")
LONGEST_LINE = 8 * LARGEST_TEXT
"""Bytes: a character may be written as six of them and more."""

NAMES = ("id", "key", "name")
TEXTS = ("text", "content")


def accepts(place: str) -> bool:
    """Whether it is such a file."""
    return place.lower().endswith(ENDINGS) and Path(place).is_file()


def read(place: str, options: SourceOptions) -> Iterator[SourceGraph]:
    """A node for each line that is not blank."""
    path = Path(place)
    with translated(path), path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            where = f"{path}:{number}"
            if len(line) > LONGEST_LINE:
                raise UsageError(f"{where}: a line of more than {LONGEST_LINE:,} bytes", "Divide the node.")
            if line.strip():
                yield node_of(_object(line, where), where)


def _object(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        fields = json.loads(line.decode().removeprefix("\ufeff"))
    except UnicodeDecodeError:
        raise UsageError(f"{where}: not UTF-8", "Save the file as UTF-8.") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not JSON: {error}", "Write an object with an id and a text on each line.") from None
    if not isinstance(fields, dict):
        raise UsageError(f"{where}: not a JSON object", 'Write {"id": "…", "text": "…"} on each line.')
    return fields


def node_of(fields: Mapping[str, Any], where: str, text: str | None = None) -> SourceGraph:
    """A node from an object, as exports and servers write it; ``text`` where it is known already."""
    name = next((fields[key] for key in NAMES if key in fields), None)
    body = text if text is not None else next((fields[key] for key in TEXTS if key in fields), None)
    for what, value, keys in (("id", name, NAMES), ("text", body, TEXTS)):
        if not isinstance(value, str):
            said = "no " + what if value is None else f"the {what} is no string"
            raise UsageError(f"{where}: {said}", f"Give it as {' or '.join(keys)}, in quotes.")
    return SourceGraph(str(name), str(body), where, fields.get("tags", ()), fields.get("links", ()))
