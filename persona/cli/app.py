"""What every command shares: where it runs, how it speaks, and the words of an error.

Nothing that is said here may fail for what it says: text that the output cannot encode is replaced (escaped, in
JSON), an error's newlines become spaces, and an output that is full is a ``Storage`` error of its own.
"""

from __future__ import annotations

import contextlib
import functools
import shlex
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from persona.cli import hints, pager
from persona.cli.output import Unheard, as_json, is_text, plain, silence_stdout, stdout, utf8, writing
from persona.errors import PersonaError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from persona.progress import Progress
    from persona.repository import Repository

SCHEMA = 2
"""Version of ``--json``. It grows when a field is removed or changes its meaning, or a type its name."""

F = TypeVar("F", bound=Callable[..., Any])
V = TypeVar("V")


@dataclass
class App:
    """One invocation."""

    argv: list[str] = field(default_factory=list)
    folder: str = "."
    json: bool = False
    traceback: bool = False
    pages: bool = True
    _opened: Repository | None = None

    @property
    def command(self) -> str:
        """The command line, as the operation log keeps it."""
        return utf8(shlex.join(self.argv))

    def repository(self) -> Repository:
        """The repository at or above the folder we run in."""
        from persona.repository import open_at

        self._opened = open_at(Path(self.folder))
        return self._opened

    def path(self, text: str) -> Path:
        """A path as the user meant it: relative to ``-C``."""
        try:
            return Path(self.folder, Path(text).expanduser())
        except RuntimeError:
            user = utf8(text).partition("/")[0]
            raise UsageError(
                f"there is no home folder of '{user}'", f"Write ./{user} for a folder of that name."
            ) from None

    def optional_path(self, text: str | None) -> Path | None:
        """As :meth:`path`, for an option that may be left out."""
        return None if text is None else self.path(text)

    def author(self, repo: Repository) -> str:
        """Who commits: ``config.toml``, else git's configuration, else the login."""
        user = repo.user
        name, email = user.get("name") or _git("user.name"), user.get("email") or _git("user.email")
        if not name:
            import getpass

            try:
                name = getpass.getuser()
            except (OSError, KeyError):
                name = "unknown"
        return utf8(f"{name} <{email}>" if email else name)

    def progress(self) -> Progress:
        """Bars on a terminal, nothing elsewhere."""
        from persona.progress import SILENT

        if self.json or not sys.stderr.isatty():
            return SILENT
        from persona.cli.progress import Bars

        return Bars()

    def show(self, command: str, result: Any, render: Callable[[Console], None]) -> None:
        """Print a result: as JSON if asked for, else as ``render`` draws it."""
        with writing():
            if self.json:
                click.echo(as_json({"schema": SCHEMA, "command": command, "result": plain(result)}))
            elif self.pages and pager.wanted():
                pager.show(stdout(), render, self._pager)
            else:
                render(stdout())
        if not self.json:
            hints.say(command, result, self._hints)

    def _pager(self) -> str | None:
        """``[ui] pager`` of the repository that was opened, if it says so."""
        said = self._ui().get("pager")
        return said if isinstance(said, str) else None

    def _hints(self) -> bool:
        """Whether hints are wanted; a configuration that cannot be read is no reason to fail after the work."""
        try:
            return self._ui().get("hints") is not False
        except PersonaError:
            return False

    def _ui(self) -> dict[str, Any]:
        """``[ui]`` of the repository that was opened."""
        ui = self._opened.config.get("ui", {}) if self._opened is not None else {}
        return ui if isinstance(ui, dict) else {}


def fail(app: App, error: PersonaError, code: int) -> None:
    """Two lines: what is wrong, and what to do; between them what was typed, where one place of it is wrong.

    As JSON on stdout if that was asked for. It never raises.
    """
    message, hint = utf8(error.message), utf8(error.hint)
    if (app.json or "--json" in app.argv) and not isinstance(error, Unheard):
        fields = {"kind": type(error).__name__, "message": message, "hint": hint, "exit_code": code}
        fields |= {"excerpt": utf8(error.excerpt)} if error.excerpt else {}
        try:
            click.echo(as_json({"schema": SCHEMA, "error": fields}))
            return
        except (OSError, ValueError):
            silence_stdout()
    with contextlib.suppress(OSError, ValueError):
        click.echo(f"{click.style('error:', fg='red', bold=True)} {_one_line(message)}", err=True)
        for line in utf8(error.excerpt).splitlines():
            click.echo(f"  {line}", err=True)
        if hint:
            click.echo(f"{click.style('hint:', fg='cyan')} {_one_line(hint)}", err=True)


def _one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def json_option(function: F) -> F:
    """``--json`` on a command. What a person typed, paths aside, must then be text: it is kept for good."""

    @functools.wraps(function)
    def checked(*args: Any, **values: Any) -> Any:
        _check_text(click.get_current_context())
        return function(*args, **values)

    def remember(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        ctx.obj.json = ctx.obj.json or value

    return click.option(
        "--json", is_flag=True, expose_value=False, callback=remember, help="Print the result as JSON."
    )(cast("F", checked))


def _check_text(ctx: click.Context) -> None:
    for param in ctx.command.params:
        value = ctx.params.get(param.name or "")
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and not isinstance(param.type, click.Path) and not is_text(text):
                what = param.opts[-1] if isinstance(param, click.Option) else param.human_readable_name
                raise UsageError(f"{what} '{utf8(text)}' is not UTF-8", "Type it again in a terminal that sends UTF-8.")


def once(pairs: Iterable[tuple[str, V]], what: str) -> dict[str, V]:
    """``pairs`` as a table; a name that is given twice is a mistake."""
    found: dict[str, V] = {}
    for name, value in pairs:
        if name in found:
            raise UsageError(f"{what} '{name}' is given twice", "Give it once.")
        found[name] = value
    return found


def _git(key: str) -> str | None:
    import shutil
    import subprocess

    if shutil.which("git") is None:
        return None
    command = ["git", "config", "--get", key]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    return done.stdout.strip() or None
