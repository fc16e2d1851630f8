"""The ``persona`` command: a group that loads commands when they are called, and the one error handler."""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from persona import files
from persona.cli.app import App, fail
from persona.cli.lazy import LazyGroup, modules_of
from persona.cli.output import Unheard, note, silence_stdout, writing
from persona.errors import PersonaError, UsageError

GROUPS = {
    "start": ("init", "demo"),
    "record": ("train", "fisher", "commit", "import", "import-adapter", "alpha", "negate", "derive", "bake", "rm"),
    "look": ("status", "log", "show", "diff", "vectors", "methods"),
    "move": ("branch", "tag", "switch", "checkout", "merge", "revert", "restore", "undo", "redo", "op"),
    "find": ("bisect",),
    "specify": ("graph",),
    "measure": ("readout", "eval", "verify-vectors", "blame", "sweep", "tune"),
    "deliver": ("build", "export", "verify", "convert"),
    "keep": ("fsck", "gc", "completion"),
}
"""Every command, by what it is for. ``persona NAME`` is ``cli/commands/NAME.py``, as Python can say it."""

COMMANDS = tuple(name for names in GROUPS.values() for name in names)

BUG, INTERRUPTED = 70, 130


FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Errors of an output; those of files are translated where they arise."""


class Commands(LazyGroup):
    """All commands, listed by what they are for."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Commands under the headings of ``GROUPS``."""
        for heading, names in GROUPS.items():
            rows = []
            for name in names:
                command = self.get_command(ctx, name)
                rows.append((name, command.get_short_help_str(60) if command else ""))
            with formatter.section(heading.capitalize()):
                formatter.write_dl(rows)


@click.group(
    cls=Commands,
    modules=modules_of("persona.cli.commands", *COMMANDS),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="persona-vcs", prog_name="persona")
@click.option("-C", "folder", type=click.Path(readable=False), default=".", help="Run as if started in this folder.")
@click.option("--no-pager", is_flag=True, help="Do not show long output through a pager.")
@click.option("--traceback", is_flag=True, help="Show where an error came from.")
@click.pass_context
def cli(ctx: click.Context, folder: str, no_pager: bool, traceback: bool) -> None:
    """Version control for a model's personality: a base, plus task vectors, times alphas.

    \b
    persona init --base PATH                  begin with a pretrained checkpoint
    persona commit RUN --as NAME -m MESSAGE   record a training run
    persona negate NAME --alpha 0.5           take a behaviour away
    persona build -o OUT                      make the model
    persona checkout HEAD~1                   go back
    """
    from persona import files  # not for --help

    where = Path(folder)
    with files.translated(where):
        if not where.is_dir():
            raise UsageError(f"there is no folder {folder}", "Give -C a folder that exists.")
    ctx.obj.folder = folder
    ctx.obj.pages = not no_pager
    ctx.obj.traceback = traceback


def run(args: Sequence[str] | None = None) -> NoReturn:
    """The console script."""
    gc.set_threshold(50_000, 20, 20)  # importing numba or torch makes objects that stay; looking at them costs 0.1 s
    files.keep_freed_memory()
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, _terminate)
    _prepare_outputs()
    sys.exit(invoke(sys.argv[1:] if args is None else args))


def invoke(args: Sequence[str]) -> int:
    """Run one command line; its exit code. Every error ends here, as two lines."""
    argv = list(args)
    app = App(argv=argv)
    try:
        result: Any = cli.main(argv, prog_name="persona", standalone_mode=False, obj=app)
        with writing():
            pass
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
        silence_stdout()  # the reader went away (a pager, head): stop quietly
        return 141
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL and error.filename is None:  # help, and a story's lines
            return _explain(app, Unheard(error))
        return _report_bug(app, error)
    return result if isinstance(result, int) else 0


def _explain(app: App, error: PersonaError) -> int:
    if app.traceback:
        import traceback

        note("".join(traceback.format_exception(error)))
    fail(app, error, error.exit_code)
    return error.exit_code


def _report_bug(app: App, error: Exception) -> int:
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    if app.traceback:
        note(text)
    hint = "Nothing of yours was touched. Run it again with --traceback, and please report what it says."
    with (
        contextlib.suppress(OSError),
        tempfile.NamedTemporaryFile(
            "w", prefix="persona-bug-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file,
    ):
        file.write(f"persona {app.command}\n{text}")
        hint = f"Nothing of yours was touched. The details are in {file.name}: please report them."
    bug = PersonaError(f"this is a bug in persona: {type(error).__name__}: {error}", hint)
    fail(app, bug, BUG)
    return BUG


def _prepare_outputs() -> None:
    """Outputs that take any text: one that is closed becomes none, and what an encoding lacks is replaced."""
    for name, errors in (("stdout", "replace"), ("stderr", "backslashreplace")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  # until the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _terminate(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    run()
