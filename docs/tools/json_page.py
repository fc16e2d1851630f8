"""Generates ``docs/json.md``, the output of ``--json`` as tables, from the schema.

python -m docs.tools.json_page > docs/json.md
"""

from __future__ import annotations

import json
import re
from typing import Any

import click

from docs.tools.schema import ALIASES, Schema, anchor, classes, commands, schema

INTRODUCTION = """\
# JSON

Every command has `--json`, and then prints one line of JSON on stdout, whether it succeeds or fails:

```json
{"schema": 2, "command": "convert", "result": {"folder": "safe", "tensors": 21, "nbytes": 45448, "files": ["config.json"], "notes": []}}
{"schema": 2, "error": {"kind": "UsageError", "message": "no vector 'listning'", "hint": "Did you mean 'listening'?", "exit_code": 2}}
```

[schema.json](schema.json) is the JSON Schema (draft 2020-12) of such a line. `python -m docs.tools.schema` generates it from the
types that the [verbs return in Python](guide.md#use-it-from-python), and `python -m docs.tools.json_page` generates this page from
it. The tests run every command with every shape that its result may have, and validate the output.

- **Exit codes** are [those of the commands](cli.md#exit-codes). A `result` comes with exit code 1 if the answer is no: `verify` found
  a difference, or `merge` a conflict. In an `error`, `exit_code` is the same number; `excerpt` is present if the error is at one place of
  the input.
- **All fields of a class are present**, and `null` or empty if they do not apply.
- **New fields may be added** at any time, so ignore unknown ones. `schema` increases if a field is removed or changes its meaning.
- **Ids** are complete: 64 hexadecimal digits. **Paths** are as given to the command. A non-finite **number** is `null`.
- Fields of type *any* contain what a person or a trainer wrote: values of a recipe, facts about a run.

To validate the output in your own program, use the package jsonschema:

```python
import json
import sys

from jsonschema import Draft202012Validator

with open("docs/schema.json") as file:
    schema = json.load(file)
wanted = {"$ref": "#/$defs/persona-convert", "$defs": schema["$defs"]}
Draft202012Validator(wanted).validate(json.load(sys.stdin))
```
"""

NAMES = {
    "string": "text",
    "number": "number",
    "integer": "integer",
    "boolean": "true or false",
    "null": "null",
    "any": "*any*",
}


def page() -> str:
    """The page as Markdown."""
    known = schema()["$defs"]
    named = sorted({*classes().values(), *ALIASES})
    return "\n".join([INTRODUCTION, _commands(known), "## Classes\n", *(_class(name, known[name]) for name in named)])


def _commands(known: dict[str, Schema]) -> str:
    rows = ["## Commands\n", "| command | result |", "|---|---|"]
    for command in commands():
        result = known[anchor(command)]["properties"]["result"]
        rows.append(f"| [`{command}`](cli.md#{anchor(command)}) | {in_words(result)} |")
    return "\n".join(rows) + "\n"


def _class(name: str, definition: Schema) -> str:
    description = re.sub(r"``([^`]+)``", r"`\1`", definition["description"])
    parts = [f"### {name}\n", f"{description}\n"]
    if "properties" in definition:
        rows = [f"| `{field}` | {in_words(kind)} |" for field, kind in definition["properties"].items()]
        parts.append("\n".join(["| field | |", "|---|---|", *rows]) + "\n")
    else:
        text = in_words(definition)
        parts.append(f"{text[:1].upper()}{text[1:]}.\n")
    return "\n".join(parts)


def in_words(kind: Schema) -> str:
    """Describe a schema in words."""
    if "$ref" in kind:
        name = kind["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower().replace('.', '')})"
    if "anyOf" in kind:
        return " or ".join(in_words(option) for option in kind["anyOf"])
    if "enum" in kind:
        return " or ".join(f"`{json.dumps(value)}`" for value in kind["enum"])
    if "pattern" in kind:
        return "text of 64 hexadecimal digits"
    names: Any = kind.get("type", "any")
    return _whole(kind) if names in ("array", "object") else _scalar(names)


def _scalar(names: str | list[str]) -> str:
    return " or ".join(NAMES.get(name, name) for name in ([names] if isinstance(names, str) else names))


def _whole(kind: Schema) -> str:
    if kind["type"] == "object":
        return f"table of {_inner(kind['additionalProperties'])}"
    if "prefixItems" in kind:
        return f"list of exactly {' and '.join(_inner(item) for item in kind['prefixItems'])}"
    return f"list of {_inner(kind['items'])}"


def _inner(kind: Schema) -> str:
    text = in_words(kind)
    return f"({text})" if " " in text else text


if __name__ == "__main__":
    click.echo(page(), nl=False)
