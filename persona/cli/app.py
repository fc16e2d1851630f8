"""What all commands share: the repository they run in, shared options, printing a result, printing an error.

Printing never fails because of the text: characters that the output cannot encode are replaced (escaped in JSON), and
newlines in an error become spaces. A full output raises its own `Storage` error.
"""

from __future__ import annotations

import contextlib
import functools
import shlex
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast

import click

from persona.cli import hints, pager
from persona.cli.output import Unheard, as_json, is_text, note, plain, silence_stdout, stdout, utf8, visible, writing
from persona.errors import PersonaError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from persona.progress import Progress
    from persona.repository import Repository
    from persona.workspace.record import RecordedCommit

SCHEMA = 2
"""Version of the `--json` output. It grows when a field is removed or changes meaning, or a type is renamed."""

F = TypeVar("F", bound=Callable[..., Any])
V = TypeVar("V")


class Recording(TypedDict):
    """Arguments of every verb that makes a commit."""

    message: str | None
    author: str
    command: str


@dataclass
class App:
    """One run of the command line: its global options and the repository that it opened."""

    argv: list[str] = field(default_factory=list)
    folder: str = "."
    json: bool = False
    traceback: bool = False
    pages: bool = True
    _opened: Repository | None = None

    @property
    def command(self) -> str:
        """The command line, as recorded in the operation log."""
        return utf8(shlex.join(self.argv))

    def repository(self) -> Repository:
        """Open the repository at or above the current folder (`-C`)."""
        from persona.cli import userconfig
        from persona.repository import open_at

        opened = open_at(Path(self.folder))
        userconfig.check_owner(opened.folder, opened.root)
        self._opened = opened
        return opened

    def path(self, text: str) -> Path:
        """Resolve a path that the user typed: `~` is expanded, relative paths start from `-C`."""
        try:
            return Path(self.folder, Path(text).expanduser())
        except RuntimeError:
            user = utf8(text).partition("/")[0]
            raise UsageError(f"no home folder for '{user}'", f"For a folder of that name, write ./{user}") from None

    def optional_path(self, text: str | None) -> Path | None:
        """Like `path`, for an option that may be left out."""
        return None if text is None else self.path(text)

    def author(self, repo: Repository) -> str:
        """Return the author of a new commit: from `config.toml`, git's configuration or the login name."""
        return repo.author

    def recording(self, repo: Repository, message: str | None) -> Recording:
        """Return the arguments of a verb that makes a commit."""
        return {"message": message, "author": self.author(repo), "command": self.command}

    def progress(self) -> Progress:
        """Progress bars on a terminal, otherwise a line now and then; nothing with `--json`."""
        from persona.progress import SILENT

        if self.json:
            return SILENT
        from persona.cli.progress import Bars, Lines

        return Bars() if sys.stderr.isatty() else Lines()

    def show(self, command: str, result: Any, render: Callable[[Console], None], hint: str = "") -> None:
        """Print a command's result, then its hint.

        Args:
            command: Full name of the command, such as `graph status`.
            result: Dataclass, or list of them, to print with `--json`.
            render: Prints the result for people, through the pager if it is long.
            hint: Key of its hint in `hints.NEXT`, if it is not the command.
        """
        with writing():
            if self.json:
                click.echo(as_json({"schema": SCHEMA, "command": command, "result": plain(result)}))
            elif self.pages and pager.wanted():
                pager.show(stdout(), render, self._pager)
            else:
                render(stdout())
        if not self.json:
            hints.say(hint or command, result, self._hints)

    def _pager(self) -> str | None:
        """`[ui] pager` from the user's own configuration, if set: a repository's is somebody else's command."""
        from persona.cli import userconfig

        pager = userconfig.table("ui").get("pager")
        return pager if isinstance(pager, str) else None

    def _hints(self) -> bool:
        """Whether hints are on."""
        from persona.cli import userconfig

        try:
            return False not in (self._ui().get("hints"), userconfig.table("ui").get("hints"))
        except PersonaError:  # the command has succeeded: do not fail now because of an unreadable configuration
            return False

    def _ui(self) -> dict[str, Any]:
        """The `[ui]` table of the opened repository."""
        ui = self._opened.config.get("ui", {}) if self._opened is not None else {}
        return ui if isinstance(ui, dict) else {}


def fail(app: App, error: PersonaError, code: int) -> None:
    """Print an error: its message, the excerpt of the input that it points into, and its hint.

    With `--json` it goes to stdout as JSON, else to stderr. Never raises.
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
        click.echo(f"{click.style('error:', fg='red', bold=True)} {visible(_one_line(message))}", err=True)
        for line in utf8(error.excerpt).splitlines():
            click.echo(f"  {visible(line)}", err=True)
        if hint:
            click.echo(f"{click.style('hint:', fg='cyan')} {visible(_one_line(hint))}", err=True)


def _one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def json_option(function: F) -> F:
    """Add `--json` to a command, and check that its arguments other than paths are valid UTF-8.

    Arguments end up in commits and in the operation log, which hold only UTF-8.
    """

    @functools.wraps(function)
    def checked(*args: Any, **values: Any) -> Any:
        _check_text(click.get_current_context())
        return function(*args, **values)

    def remember(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        ctx.obj.json = ctx.obj.json or value

    return click.option(
        "--json", is_flag=True, expose_value=False, callback=remember, help="Print the result as JSON."
    )(cast("F", checked))


message_option = click.option("-m", "--message", metavar="MSG", help="Commit message.")
"""`--message`, for commands that make a commit."""


def warn_if_detached(app: App, recorded: RecordedCommit | None) -> None:
    """Say how to keep a commit, if one was made on a detached HEAD."""
    if recorded is not None and recorded.branch is None and not app.json:
        note("HEAD is detached: keep this commit on a branch with 'persona switch -c NAME'.")


def _check_text(ctx: click.Context) -> None:
    for param in ctx.command.params:
        value = ctx.params.get(param.name or "")
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and not isinstance(param.type, click.Path) and not is_text(text):
                what = param.opts[-1] if isinstance(param, click.Option) else param.human_readable_name
                raise UsageError(
                    f"{what} '{utf8(text)}' is not valid UTF-8", "Set the terminal to UTF-8 and try again."
                )


def once(pairs: Iterable[tuple[str, V]], what: str) -> dict[str, V]:
    """Collect `pairs` into a dict.

    Args:
        what: What the names are, for the error message.

    Raises:
        UsageError: a name is given twice.
    """
    values: dict[str, V] = {}
    for name, value in pairs:
        if name in values:
            raise UsageError(f"{what} '{name}' is given twice", "Give it once.")
        values[name] = value
    return values
