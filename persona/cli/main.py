"""The ``persona`` command: a group that loads commands when they are called, and the one error handler."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

import click

from persona.cli.app import App, fail
from persona.errors import PersonaError, UsageError, did_you_mean

GROUPS = {
    "start": ("init", "demo"),
    "record": ("commit", "alpha", "negate", "rm"),
    "look": ("status", "log", "show", "diff", "vectors"),
    "move": ("checkout", "restore", "undo", "redo", "op"),
    "deliver": ("build", "verify", "convert"),
}
"""Every command, by what it is for. ``persona NAME`` is ``cli/NAME.py``."""

COMMANDS = tuple(name for names in GROUPS.values() for name in names)

BUG, INTERRUPTED = 70, 130


class LazyGroup(click.Group):
    """Loads ``persona.cli.<command>`` when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of ``GROUPS``."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command's own file, imported now."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"persona.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a suggestion for a mistyped name."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            close = did_you_mean(args[0], COMMANDS)
            hint = close if close.startswith("Did") else ""
            raise UsageError(f"no command '{args[0]}'", f"{hint} See 'persona --help'.".strip())
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Commands under the headings of ``GROUPS``."""
        for heading, names in GROUPS.items():
            rows = []
            for name in names:
                command = self.get_command(ctx, name)
                rows.append((name, command.get_short_help_str(60) if command else ""))
            with formatter.section(heading.capitalize()):
                formatter.write_dl(rows)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="persona-vcs", prog_name="persona")
@click.option("-C", "folder", type=click.Path(readable=False), default=".", help="Run as if started in this folder.")
@click.option("--traceback", is_flag=True, help="Show where an error came from.")
@click.pass_context
def cli(ctx: click.Context, folder: str, traceback: bool) -> None:
    """Version control for a model's personality: a base, plus task vectors, times alphas.

    \b
    persona init --base PATH                  begin with a pretrained checkpoint
    persona commit RUN --as NAME -m MESSAGE   record a training run
    persona negate NAME --alpha 0.5           take a behaviour away
    persona build -o OUT                      make the model
    persona checkout HEAD~1                   go back
    """
    ctx.obj.folder = folder
    ctx.obj.traceback = traceback


def run(args: Sequence[str] | None = None) -> NoReturn:
    """The console script."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(invoke(sys.argv[1:] if args is None else args))


def invoke(args: Sequence[str]) -> int:
    """Run one command line; its exit code. Every error ends here, as two lines."""
    argv = list(args)
    app = App(argv=argv)
    try:
        result: Any = cli.main(argv, prog_name="persona", standalone_mode=False, obj=app)
        sys.stdout.flush()
    except PersonaError as error:
        return _explain(app, error)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        return 2
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "persona"
        return _explain(app, UsageError(error.format_message(), f"See '{command} --help'."))
    except (KeyboardInterrupt, click.Abort):
        fail(
            app,
            PersonaError("interrupted", "Nothing was left half-done; run the same command again."),
            INTERRUPTED,
        )
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away (a pager, head): stop quietly, and keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        return _report_bug(app, error)
    return result if isinstance(result, int) else 0


def _explain(app: App, error: PersonaError) -> int:
    if app.traceback:
        import traceback

        traceback.print_exception(error)
    fail(app, error, error.exit_code)
    return error.exit_code


def _report_bug(app: App, error: Exception) -> int:
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    if app.traceback:
        click.echo(text, err=True)
    with tempfile.NamedTemporaryFile("w", prefix="persona-bug-", suffix=".log", delete=False) as file:
        file.write(f"persona {' '.join(app.argv)}\n{text}")
    bug = PersonaError(
        f"this is a bug in persona: {type(error).__name__}: {error}",
        f"Nothing of yours was touched. The details are in {file.name}: please report them.",
    )
    fail(app, bug, BUG)
    return BUG


def _terminate(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    run()
