"""Generates ``docs/cli.md``, the reference of commands and options, from the commands.

python -m docs.tools.reference > docs/cli.md
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from persona.cli.main import GROUPS, cli

INTRODUCTION = """\
# Commands

This page is generated from the commands by `python -m docs.tools.reference`; `persona COMMAND --help` shows the same. For how to
use them, see the [tutorial](tutorial.md) and the [guide](guide.md).

Results go to stdout, everything else to stderr. REV is a revision as in git: `HEAD`, a branch, a tag, or a commit id or a prefix of it
(at least four characters), optionally followed by `~N`, `^` or `^N`. NAME is the name of a vector in the recipe.
"""

EXIT_CODES = """\
## Exit codes

| code | meaning |
|---|---|
| 0 | success |
| 1 | the answer is no: refused (nothing was changed), different, not verified |
| 2 | usage error: an option, a name, `persona.toml`, a folder that is not a checkpoint, a run of another base |
| 10 | no repository here or in a parent folder |
| 11 | another process holds the lock |
| 12 | stored data is damaged or missing |
| 69 | a server cannot be reached or gives no usable answer |
| 70 | a bug in persona; a log is written and its name is printed |
| 74 | the operating system refused: disk full, permission denied |
| 130, 143 | interrupted; terminated |
| 141 | the reader of the output closed it, as in `persona log \\| head` |

An error is two lines on stderr: what is wrong, and what to do about it. With `--json` it is an object on stdout:

```json
{"schema": 2, "error": {"kind": "NoRepository", "message": "…", "hint": "…", "exit_code": 10}}
```

For the output of `--json` on success, see [json.md](json.md).
"""


def reference() -> str:
    """The page as Markdown."""
    context = click.Context(cli, info_name="persona", **cli.context_settings)
    parts = [INTRODUCTION, _contents(), _section(context, level=2)]
    for heading, names in GROUPS.items():
        parts.append(f"## {heading.capitalize()}\n")
        for name in names:
            command = cli.get_command(context, name)
            assert command is not None, name
            parts += _sections(click.Context(command, context, name), level=3)
    return "\n".join([*parts, EXIT_CODES])


def _contents() -> str:
    rows = ["| | |", "|---|---|"]
    for heading, names in GROUPS.items():
        rows.append(f"| {heading} | {' · '.join(f'[{name}](#persona-{name})' for name in names)} |")
    return "\n".join(rows) + "\n"


def _sections(context: click.Context, level: int) -> Iterator[str]:
    """A command and its subcommands."""
    yield _section(context, level)
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None, name
            yield from _sections(click.Context(command, context, name), level + 1)


def _section(context: click.Context, level: int) -> str:
    """One command: heading, synopsis, help, examples, options."""
    path = context.command_path
    synopsis = " ".join([path, *context.command.collect_usage_pieces(context)])
    text, examples = _help(context.command)
    parts = [f"{'#' * level} {path}\n", f"```text\n{synopsis}\n```\n", f"{text}\n"]
    if examples:
        parts.append(f"```sh\n{examples}\n```\n")
    if rows := list(_options(context)):
        parts.append("\n".join(["| option | |", "|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _help(command: click.Command) -> tuple[str, str]:
    """A command's help text, and the examples below click's ``\\b`` mark."""
    text, _, examples = inspect.cleandoc(command.help or "").partition("\b\n")
    paragraphs = (" ".join(part.split()) for part in text.strip().split("\n\n"))
    return "\n\n".join(paragraphs), inspect.cleandoc(examples)


def _options(context: click.Context) -> Iterator[str]:
    for param in context.command.get_params(context):
        if context.parent and "--help" in param.opts:  # listed once, for persona itself
            continue
        if isinstance(param, click.Option) and (record := param.get_help_record(context)):
            names, text = (part.replace("|", "\\|") for part in record)
            yield f"| `{names}` | {' '.join(text.split())} |"


if __name__ == "__main__":
    click.echo(reference(), nl=False)
