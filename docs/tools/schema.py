"""Generates ``docs/schema.json``, the JSON Schema of the output of ``--json``, from the result types.

python -m docs.tools.schema > docs/schema.json

A command's result is what its verb returns, converted to JSON by :func:`persona.cli.output.plain`. New fields of results
appear in the schema automatically.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import click

from persona.cli.app import SCHEMA
from persona.cli.lazy import python_name
from persona.cli.main import cli
from persona.ids import Id
from persona.recipe.alphas import Alpha

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

VERBS = {
    "bisect start": ("persona.verbs.bisect", "start"),
    "bisect good": ("persona.verbs.bisect", "mark"),
    "bisect bad": ("persona.verbs.bisect", "mark"),
    "bisect skip": ("persona.verbs.bisect", "mark"),
    "bisect run": ("persona.verbs.bisect", "run"),
    "bisect status": ("persona.verbs.bisect", "state"),
    "bisect reset": ("persona.verbs.bisect", "reset"),
    "commit": ("persona", "commit", "commit_readout"),
    "branch": ("persona.verbs.branch", "branches", "branch", "rename_branch", "delete_branches"),
    "tag": ("persona.verbs.tag", "tags", "tag", "delete_tags"),
    "stash": ("persona.verbs.stash", "stash", "stashes", "pop", "drop"),
    "merge": ("persona.verbs.merge", "merge", "go_on", "abort"),
    "methods": ("persona.verbs.merge_methods", "merge_methods"),
    "eval": ("persona", "eval", "eval_init"),
    "train": ("persona", "train", "train_nodes"),
    "demo": ("persona.demo.story", "tell"),
    "ui": ("persona.ui.serve", "address_of"),
    "completion": ("persona.cli.commands.completion", "made_for"),
    "help": ("persona.cli.commands.help", "help_of"),
}
"""Module and functions of commands whose verb has another name; by default ``graph status`` is ``graph_status``."""

ALIASES: dict[str, tuple[Any, str]] = {
    "Alpha": (
        Alpha,
        "The strength of a vector: one number, numbers by depth, or numbers by pattern, of which the first match counts.",
    )
}
"""Types that are not classes but have a definition because many fields use them."""

SCALARS = {str: "string", bool: "boolean", int: "integer", NoneType: "null"}

JSON = {"None": "null", "True": "true", "False": "false"}

ERROR = {
    "type": "object",
    "properties": {
        "kind": {"type": "string", "description": "Name of the class in persona.errors."},
        "message": {"type": "string", "description": "What is wrong."},
        "hint": {"type": "string", "description": "What to do about it; may be empty."},
        "exit_code": {"type": "integer"},
        "excerpt": {"type": "string", "description": "The input, with a mark below the place of the error."},
    },
    "required": ["kind", "message", "hint", "exit_code"],
}


def commands(group: click.Group = cli, above: str = "") -> Iterator[str]:
    """Every command, including subcommands: ``log``, ``op log``."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{above}{name} ")
        else:
            yield f"{above}{name}"


def results(command: str) -> list[Any]:
    """The types of a command's result."""
    verb = python_name(command.replace(" ", "_"))
    module, *names = VERBS.get(command, ("persona", verb))
    returned = (_hints(getattr(importlib.import_module(module), name))["return"] for name in names)
    return list(dict.fromkeys(kind for each in returned for kind in _alternatives(each)))


def anchor(command: str) -> str:
    """The name of a command's definition, which is also the anchor of its heading in ``docs/cli.md``: ``persona-op-log``."""
    return f"persona-{command.replace(' ', '-')}"


@functools.cache
def classes() -> Mapping[type, str]:
    """All classes in results, with their unique names."""
    found: dict[type, None] = {}
    for command in commands():
        for kind in results(command):
            _collect(kind, found)
    names = {kind: kind.__name__ for kind in found}
    assert len(set(names.values())) == len(names), "two result types have the same name"
    return dict(sorted(names.items(), key=lambda item: item[1]))


def schema() -> Schema:
    """The whole schema: a definition for each command, for errors, and for each class."""
    answers = {anchor(command): _answer(command) for command in commands()}
    error = _object({"schema": {"const": SCHEMA}, "error": ERROR}, "The output of a command that fails.")
    return {
        "$schema": DIALECT,
        "title": "Output of persona with --json",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in (*answers, "error")],
        "$defs": {
            **answers,
            "error": error,
            **_aliases(),
            **{name: class_schema(one) for one, name in classes().items()},
        },
    }


def properties(one: type) -> dict[str, Any]:
    """The printed fields of a class and their types."""
    hints = _hints(one)
    if issubclass(one, Id):
        return {}
    found = {field.name: hints[field.name] for field in fields(one)}  # type: ignore[arg-type]
    return found | ({"ok": bool} if isinstance(getattr(one, "ok", None), property) else {})


def words(one: type) -> str:
    """A class's docstring, one line per paragraph, with Python's constants as in JSON."""
    text = re.sub(r"\b(None|True|False)\b", lambda match: JSON[match[0]], inspect.cleandoc(one.__doc__ or ""))
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _answer(command: str) -> Schema:
    result = _any([schema_of(kind) for kind in results(command)])
    parts = {"schema": {"const": SCHEMA}, "command": {"const": command}, "result": result}
    return _object(parts, f"The output of 'persona {command} --json'.")


def _aliases() -> Schema:
    return {
        name: {"description": meaning, **_any([schema_of(one) for one in get_args(kind)])}
        for name, (kind, meaning) in ALIASES.items()
    }


def class_schema(one: type) -> Schema:
    """The definition of a class."""
    if issubclass(one, Id):
        return {"description": words(one), "type": "string", "pattern": "^[0-9a-f]{64}$"}
    return _object({name: schema_of(kind) for name, kind in properties(one).items()}, words(one))


def _object(parts: Schema, description: str) -> Schema:
    return {"description": description, "type": "object", "properties": parts, "required": list(parts)}


def schema_of(kind: Any) -> Schema:
    """The schema of values of a type, as ``plain`` converts them."""
    if isinstance(kind, type) and kind in classes():
        return {"$ref": f"#/$defs/{classes()[kind]}"}
    if kind in SCALARS:
        return {"type": SCALARS[kind]}
    if kind is float:
        return {"type": ["number", "null"]}  # null if not finite
    if kind is Any or kind is object:
        return {}
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return {"enum": [str(one) for one in kind]}
    if kind is Path:
        return {"type": "string"}
    return _composed(kind, get_origin(kind), get_args(kind))


def _composed(kind: Any, origin: Any, args: tuple[Any, ...]) -> Schema:
    if origin in (Union, UnionType):
        return _union(args)
    if origin is Literal:
        return {"enum": list(args)}
    if origin is tuple and args[-1] is not Ellipsis:
        return {"type": "array", "prefixItems": [schema_of(one) for one in args], "items": False, "minItems": len(args)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": schema_of(args[1])}
    if isinstance(origin, type) and issubclass(origin, list | tuple | Sequence):
        return {"type": "array", "items": schema_of(args[0])}
    raise TypeError(f"{kind} is not supported in a schema; see persona.cli.output.plain")


def _union(args: tuple[Any, ...]) -> Schema:
    given = tuple(arg for arg in args if arg is not NoneType)
    for name, (kind, _) in ALIASES.items():
        if given == get_args(kind):
            null = [{"type": "null"}] if len(given) < len(args) else []
            return _any([{"$ref": f"#/$defs/{name}"}, *null])
    return _any([schema_of(one) for one in args])


def _any(options: list[Schema]) -> Schema:
    """One of several schemas; scalars become a list of types."""
    if all(set(one) == {"type"} for one in options) and len(options) > 1:
        named = (one["type"] if isinstance(one["type"], list) else [one["type"]] for one in options)
        return {"type": list(dict.fromkeys(name for each in named for name in each))}
    return options[0] if len(options) == 1 else {"anyOf": options}


def _collect(kind: Any, found: dict[type, None]) -> None:
    """Add the dataclasses and ids in a type to ``found``."""
    if isinstance(kind, type) and (is_dataclass(kind) or issubclass(kind, Id)):
        if kind not in found:
            found[kind] = None
            for one in properties(kind).values():
                _collect(one, found)
        return
    for one in get_args(kind):
        _collect(one, found)


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _hints(owner: Any) -> dict[str, Any]:
    module = sys.modules[owner.__module__]
    return get_type_hints(owner, localns={**vars(module), **_for_checkers(module)})


@functools.cache
def _for_checkers(module: ModuleType) -> Mapping[str, Any]:
    """The names that a module imports under ``if TYPE_CHECKING:``."""
    found: dict[str, Any] = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for line in node.body:
                if isinstance(line, ast.ImportFrom) and line.module:
                    home = importlib.import_module(line.module)
                    names = {alias.asname or alias.name: alias.name for alias in line.names}
                    found |= {ours: getattr(home, name) for ours, name in names.items() if hasattr(home, name)}
    return found


def page() -> str:
    """The file's content."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    click.echo(page(), nl=False)
