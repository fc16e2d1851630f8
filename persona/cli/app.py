"""What every command shares: where it runs, how it speaks, and the words of an error."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from persona.errors import PersonaError

if TYPE_CHECKING:
    from rich.console import Console

    from persona.progress import Progress
    from persona.repository import Repository

SCHEMA = 1
"""Of ``--json``: grows only when a field changes its meaning or goes."""

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class App:
    """One invocation."""

    argv: list[str] = field(default_factory=list)
    folder: str = "."
    json: bool = False
    traceback: bool = False

    @property
    def command(self) -> str:
        """The command line, as the operation log keeps it."""
        return shlex.join(self.argv)

    def repository(self) -> Repository:
        """The repository at or above the folder we run in."""
        from persona.repository import open_at

        return open_at(Path(self.folder))

    def path(self, text: str) -> Path:
        """A path as the user meant it: relative to ``-C``."""
        return Path(self.folder, Path(text).expanduser())

    def optional_path(self, text: str | None) -> Path | None:
        """As :meth:`path`, for an option that may be left out."""
        return None if text is None else self.path(text)

    def author(self, repo: Repository) -> str:
        """Who commits: ``config.toml``, else git's configuration, else the login."""
        user = repo.config.get("user", {})
        name, email = user.get("name") or _git("user.name"), user.get("email") or _git("user.email")
        if not name:
            import getpass

            try:
                name = getpass.getuser()
            except (OSError, KeyError):
                name = "unknown"
        return f"{name} <{email}>" if email else str(name)

    def progress(self) -> Progress:
        """Bars on a terminal, nothing elsewhere."""
        from persona.progress import SILENT

        if self.json or not sys.stderr.isatty():
            return SILENT
        from persona.cli.progress import Bars

        return Bars()

    def show(self, command: str, result: Any, render: Callable[[Console], None]) -> None:
        """Print a result: as JSON if asked for, else as ``render`` draws it."""
        if self.json:
            click.echo(json.dumps({"schema": SCHEMA, "command": command, "result": plain(result)}, ensure_ascii=False))
        else:
            render(stdout())


def stdout() -> Console:
    """A console that wraps nothing when piped and honours NO_COLOR and COLUMNS on a terminal."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=10_000, no_color=True, soft_wrap=True)


def note(text: str) -> None:
    """Say something beside the result."""
    click.echo(text, err=True)


def fail(app: App, error: PersonaError, code: int) -> None:
    """Two lines: what is wrong, and what to do; as JSON on stdout if that was asked for."""
    if app.json or "--json" in app.argv:
        kind = type(error).__name__
        fields = {"kind": kind, "message": error.message, "hint": error.hint, "exit_code": code}
        click.echo(json.dumps({"schema": SCHEMA, "error": fields}, ensure_ascii=False))
        return
    click.echo(f"{click.style('error:', fg='red', bold=True)} {error.message}", err=True)
    if error.hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {error.hint}", err=True)


def plain(value: Any) -> Any:
    """A result as JSON has it: dataclasses become tables, paths strings, floats that are no numbers null."""
    if is_dataclass(value) and not isinstance(value, type):
        table = {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        ok = getattr(value, "ok", None)
        return {**table, "ok": ok} if isinstance(ok, bool) else table
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return str(value)


def json_option(function: F) -> F:
    """``--json`` on a command."""

    def remember(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        ctx.obj.json = ctx.obj.json or value

    return click.option(
        "--json", is_flag=True, expose_value=False, callback=remember, help="Print the result as JSON."
    )(function)


def _git(key: str) -> str | None:
    import shutil
    import subprocess

    if shutil.which("git") is None:
        return None
    done = subprocess.run(["git", "config", "--get", key], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
