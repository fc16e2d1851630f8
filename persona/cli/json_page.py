"""``docs/json.md``: what ``--json`` prints, as tables for people, written from the schema.

python -m persona.cli.json_page > docs/json.md
"""

from __future__ import annotations

import json
import re
from typing import Any

import click

from persona.cli.schemas import ALIASES, Schema, anchor, classes, commands, schema

INTRODUCTION = """\
# JSON

Every command takes `--json` and then prints one line of JSON on stdout, whether it succeeds or fails:

```json
{"schema": 1, "command": "tag", "result": {"name": "v1", "commit": "d98c…", "subject": "softer voice"}}
{"schema": 1, "error": {"kind": "UsageError", "message": "no vector 'listning'", "hint": "Did you mean 'listening'?", "exit_code": 2}}
```

[`schema.json`](schema.json) says the same in JSON Schema, draft 2020-12. It is made, by `python -m persona.cli.schemas`, from
the types that the [verbs](guide.md#use-it-from-python) return in Python, and so is this page, by
`python -m persona.cli.json_page`. A test runs every command and holds what it prints to it.

- A line with `result` may come with exit code 1, where the answer is no: `verify` found a difference, `merge` a conflict. An
  error is a line with `error`, and `exit_code` is that of the process. `excerpt` is there only if one place of what was
  typed is wrong.
- A field of a class is always there; `null`, an empty list or an empty table where there is nothing to say.
- New fields may come at any time, so ignore what you do not know. `schema` grows when a field changes its meaning or goes.
- A number that is not finite is `null`. Ids are whole: 64 hexadecimal digits. Paths are as the command saw them.
- Fields of *any* type hold what a person or a trainer wrote: values of a recipe, facts of a run.

To check a line of `persona log --json`, for instance, with Python's `jsonschema`:

```python
import json
import subprocess

from jsonschema import Draft202012Validator

schema = json.load(open("docs/schema.json"))
wanted = {"$ref": "#/$defs/persona-log", "$defs": schema["$defs"]}
said = subprocess.run(["persona", "log", "--json"], capture_output=True, text=True, check=True).stdout
Draft202012Validator(wanted).validate(json.loads(said))
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
