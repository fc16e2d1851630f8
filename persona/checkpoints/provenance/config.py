"""``config.json``: the version of transformers that saved it."""

from __future__ import annotations

from typing import Any

from persona.checkpoints.provenance.reading import chosen, json_object

FILE = "config.json"


def read(data: bytes) -> dict[str, Any]:
    """The facts in the file."""
    table = json_object(data)
    versions = chosen({"transformers": table.get("transformers_version")}, ("transformers",))
    return {"versions": versions} if versions else {}
