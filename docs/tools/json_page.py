"""``docs/json.md``: what ``--json`` prints, as tables for people, written from the schema.

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

Every command takes `--json`, and then prints one line of JSON on stdout, whether it succeeds or fails:

```json
{"schema": 2, "command": "convert", "result": {"folder": "safe", "tensors": 21, "nbytes": 45448, "files": ["config.json"]}}
{"schema": 2, "error": {"kind": "UsageError", "message": "no vector 'listning'", "hint": "Did you mean 'listening'?", "exit_code": 2}}
```

[schema.json](schema.json) says in JSON Schema (draft 2020-12) what such a line may be. `python -m docs.tools.schema` makes it
from the types that the [verbs return in Python](guide.md#use-it-from-python), and `python -m docs.tools.json_page` makes this
page from it. The tests run every command, in every shape that its result may have, and hold what it prints to the schema.

- **Exit codes** are [those of the commands](cli.md#exit-codes). A `result` may come with 1, where the answer is no: `verify` found a
  difference, `merge` a conflict. With an `error`, `exit_code` is the same number; `excerpt` is there if one place of what
  was typed is wrong.
- **All fields of a class are there**, `null` or empty where there is nothing to say.
- **New fields may come** at any time, so ignore what you do not know. `schema` grows when a field changes its meaning or goes.
- **Ids** are whole: 64 hexadecimal digits. **Paths** are as the command saw them. A **number** that is not finite is `null`.
- Fields of *any* type hold what a person or a trainer wrote: values of a recipe, facts of a run.

A program of your own can check what it reads, with the package jsonschema:

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
    """The whole page, as Markdown."""
    known = schema()["$defs"]
    named = sorted({*classes().values(), *ALIASES})
    return "\n".join([INTRODUCTION, _commands(known), "## Classes\n", *(_class(name, known[name]) for name in named)])


def _commands(known: dict[str, Schema]) -> str:
    rows = ["## Commands\n", "| command | result |", "|---|---|"]
    for command in commands():
        result = known[anchor(command)]["properties"]["result"]
        rows.append(f"| [`{command}`](cli.md#{anchor(command)}) | {said(result)} |")
    return "\n".join(rows) + "\n"


def _class(name: str, one: Schema) -> str:
    description = re.sub(r"``([^`]+)``", r"`\1`", one["description"])
    parts = [f"### {name}\n", f"{description}\n"]
    if "properties" in one:
        rows = [f"| `{field}` | {said(kind)} |" for field, kind in one["properties"].items()]
        parts.append("\n".join(["| field | |", "|---|---|", *rows]) + "\n")
    else:
        parts.append(f"{said(one)[:1].upper()}{said(one)[1:]}.\n")
    return "\n".join(parts)


def said(kind: Schema) -> str:
    """A schema in words."""
    if "$ref" in kind:
        name = kind["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower().replace('.', '')})"
    if "anyOf" in kind:
        return " or ".join(said(one) for one in kind["anyOf"])
    if "enum" in kind:
        return " or ".join(f"`{json.dumps(one)}`" for one in kind["enum"])
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
        return f"list of just {' and '.join(_inner(one) for one in kind['prefixItems'])}"
    return f"list of {_inner(kind['items'])}"


def _inner(kind: Schema) -> str:
    text = said(kind)
    return f"({text})" if " " in text else text


if __name__ == "__main__":
    click.echo(page(), nl=False)
