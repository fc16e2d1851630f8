"""The model card of a build, ``README.md``: front matter for model hubs, how to load it, the recipe, and what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from persona.recipe import alphas

TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")
"""Files of which a folder with a tokenizer has one."""

HERE = "path/to/this/folder"


@dataclass(frozen=True)
class CardRow:
    """A number that was measured on the weights of a build: its suite, its name, its value and its 95 % interval."""

    suite: str
    name: str
    value: str
    interval: str


def model_card(
    recipe: Mapping[str, Any],
    commit: str | None,
    edited: bool,
    readouts: Mapping[str, str] | None = None,
    *,
    usage: str = "",
    measured: Sequence[CardRow] = (),
) -> bytes:
    """Make ``README.md``.

    Args:
        recipe: The recipe as an object's fields.
        commit: The commit that is built, if any.
        edited: Whether uncommitted edits are part of the build.
        readouts: By name, what the recipe's readouts measure, in words.
        usage: Python code that loads the model.
        measured: What was measured on these weights.
    """
    state = f"commit `{commit[:12]}`" if commit else "no commit"
    base = recipe["base_name"]
    lines = [
        "---",
        "library_name: transformers",
        *([f"base_model: {json.dumps(base, ensure_ascii=False)}"] if base else []),  # a JSON string is one of YAML
        "tags:",
        "- persona",
        "- task-arithmetic",
        "---",
        "",
        f"# {base or 'model'}, with {len(recipe['vectors'])} task vector(s)",
        "",
        f"Built by persona from {state}{', with uncommitted edits' if edited else ''}: base "
        f"`{base}` (`{recipe['base'][:12]}`), method `{recipe['method']}`"
        f"{_in_brackets(recipe['parameters'])}, scale {recipe['scale']:g}.",
        *(["", "```python", *usage.splitlines(), "```"] if usage else []),
        "",
        "| vector | α | id | node |",
        "|---|---|---|---|",
    ]
    for v in recipe["vectors"]:
        lines.append(f"| {v['name']} | {_strength(v)} | `{v['id'][:12]}` | {v['node'] or ''} |")
    lines += [*_readouts(recipe, readouts or {}), *_measured(measured)]
    lines += [
        "",
        "`persona.json` has the whole recipe and the hash of every tensor; `persona verify` checks them.",
        "",
    ]
    return "\n".join(lines).encode()


def usage_of_model(config: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
    """Return code that loads a build.

    Args:
        config: Its ``config.json``.
        files: Its small files.
    """
    kind = _class_of(config)
    tokenizer = any(name in files for name in TOKENIZERS)
    lines = [f"from transformers import {', '.join(sorted([kind, *(['AutoTokenizer'] if tokenizer else [])]))}", ""]
    if tokenizer:
        lines.append(f'tokenizer = AutoTokenizer.from_pretrained("{HERE}")')
    return "\n".join([*lines, f'model = {kind}.from_pretrained("{HERE}", dtype="auto")'])


def usage_of_adapter(config: Mapping[str, Any]) -> str:
    """Return code that loads an adapter on its base, whose ``config.json`` is given."""
    kind = _class_of(config)
    return "\n".join(
        [
            "from peft import PeftModel",
            f"from transformers import {kind}",
            "",
            f'base = {kind}.from_pretrained("path/to/the/base", dtype="auto")',
            f'model = PeftModel.from_pretrained(base, "{HERE}")',
        ]
    )


def _class_of(config: Mapping[str, Any]) -> str:
    """The class of transformers that loads a model: the one for its kind if there is one, else its own."""
    named = config.get("architectures")
    name = named[0] if isinstance(named, list) and named and isinstance(named[0], str) else ""
    if name.endswith("ForCausalLM"):
        return "AutoModelForCausalLM"
    return name if name.isidentifier() and name.isascii() else "AutoModel"


def _readouts(recipe: Mapping[str, Any], measures: Mapping[str, str]) -> Iterator[str]:
    """The lines of a table of the recipe's readouts, if it has any."""
    if recipe.get("readouts"):
        yield from ("", "| readout | measures | id | files |", "|---|---|---|---|")
    for readout in recipe.get("readouts", ()):
        name = readout["name"]
        yield f"| {name} | {_cell(measures.get(name, ''))} | `{readout['id'][:12]}` | `readouts/{name}/` |"


def _measured(rows: Sequence[CardRow]) -> Iterator[str]:
    """The lines of a table of measures, if there are any."""
    if rows:
        yield from ("", "| suite | measure | value | 95 % interval |", "|---|---|---|---|")
    for row in rows:
        yield f"| {_cell(row.suite)} | {_cell(row.name)} | {row.value} | {row.interval} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())


def _strength(vector: Mapping[str, Any]) -> str:
    """A vector's alpha and parameters as a table cell; patterns are code, or their asterisks would be emphasis."""
    alpha = alphas.decode(vector["alpha"])
    text = alphas.alpha_text(alpha).replace("|", "\\|")
    return (f"`{text}`" if alphas.is_patterns(alpha) else text) + _in_brackets(vector.get("parameters", {}))


def _in_brackets(parameters: Mapping[str, Any]) -> str:
    return f" ({', '.join(f'{name} {value}' for name, value in sorted(parameters.items()))})" if parameters else ""
