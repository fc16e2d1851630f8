"""The published schema, made strict: a new field may come at any time for a reader, but not for a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from docs.tools.schema import anchor

PUBLISHED = json.loads((Path(__file__).parents[2] / "docs" / "schema.json").read_text())


def closed(schema: Any) -> Any:
    """The schema without room for fields that it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    return {**inner, "additionalProperties": False} if isinstance(schema.get("required"), list) else inner


def check(command: str, said: str) -> None:
    """One line of JSON is what the schema says of a command, or of an error."""
    (line,) = said.splitlines()
    printed = json.loads(line)
    name = "error" if "error" in printed else anchor(command)
    wanted = {"$ref": f"#/$defs/{name}", "$defs": closed(PUBLISHED["$defs"])}
    Draft202012Validator(wanted).validate(printed)
