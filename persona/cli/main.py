"""The `persona` command: a lazily loaded group of commands, and the error handler for all of them."""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from persona import files
from persona.cli.app import App, fail
from persona.cli.lazy import SHOW_ALL, LazyGroup, modules_of
from persona.cli.output import Unheard, note, silence_stdout, writing
from persona.cli.words import explain
from persona.errors import PersonaError, Storage, UsageError

GROUPS = {
    "start a repository": ("init", "demo"),
    "train and record": ("train", "anchors", "fisher", "commit", "import", "import-adapter"),
    "edit the recipe": ("alpha", "negate", "derive", "bake", "mv", "rm"),
    "inspect": ("status", "log", "show", "diff", "table", "chat", "vectors", "methods", "bisect", "ui"),
    "branch, merge and undo": (
        "branch",
        "tag",
        "switch",
        "checkout",
        "merge",
        "cherry-pick",
        "revert",
        "restore",
        "stash",
        "undo",
        "redo",
        "op",
    ),
    "specify behaviour": ("graph",),
    "measure and tune": ("readout", "eval", "verify-vectors", "blame", "sweep", "tune"),
    "build and share": ("build", "export", "verify", "convert"),
    "maintain": ("fsck", "gc", "completion", "help"),
}
"""Every command, under its heading in `persona help --all`. `persona NAME` is `cli/commands/NAME.py`."""

LOOP = frozenset(
    {"init", "train", "commit", "alpha", "negate", "status", "log", "show", "diff"}
    | {"branch", "switch", "merge", "undo", "eval", "build", "chat"}
)
"""The most used commands, which `persona --help` shows."""

COMMANDS = tuple(name for names in GROUPS.values() for name in names)

BUG, INTERRUPTED, BROKEN_PIPE = 70, 130, 141
"""Exit codes of endings that are not a PersonaError."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Errors of writing to stdout. Errors of files become a PersonaError where they occur."""

_REFUSED = {
    errno.ENOENT: "",
    errno.EMFILE: "Raise the limit of open files: ulimit -n 65536",
    errno.ENFILE: "The system has too many open files: close other programs.",
    errno.EACCES: "Check its owner and permissions.",
    errno.EPERM: "Check its owner and permissions.",
    errno.ENOMEM: "Close other programs; 'persona build' takes --memory SIZE.",
}
"""What the system may refuse, and what to do about it."""

_LOADING = {number: os.strerror(number) for number in (errno.EMFILE, errno.ENFILE, errno.EACCES)} | {
    errno.ENOMEM: "failed to map segment"
}
"""Of these, what an ImportError says in words."""

SUMMARY_WIDTH = 50
"""Characters that `persona --help` shows of a command's summary."""


class ReaderGone(Exception):
    """The reader of standard output has closed it."""


class Commands(LazyGroup):
    """The top-level group; its help lists commands under the headings of `GROUPS`, those of `LOOP` unless all are wanted."""

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """Parse the command line; `--help` and `--version` print already here."""
        with _reader_gone():
            return super().make_context(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _reader_gone():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section for each heading."""
        shown = frozenset(COMMANDS) if ctx.meta.get(SHOW_ALL) else LOOP
        for heading, names in GROUPS.items():
            if rows := [(name, self.summary(name)) for name in names if name in shown]:
                with formatter.section(heading.capitalize()):
                    formatter.write_dl(rows)
        if shown == LOOP:
            formatter.write(
                f"\n'persona help --all' lists all {len(COMMANDS)} commands, 'persona help NAME' explains one.\n"
            )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Like that of other groups, but explains words of git that are no commands here."""
        if args and not ctx.resilient_parsing and args[0] not in self.modules and (why := explain(args[0])) is not None:
            raise why
        return super().resolve_command(ctx, args)


@contextlib.contextmanager
def _reader_gone() -> Iterator[None]:
    """Tell a closed pipe in another way than click knows: it would exit with 1."""
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGone from error


@click.group(
    cls=Commands,
    modules=modules_of("persona.cli.commands", *COMMANDS),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="persona-vcs", prog_name="persona")
@click.option("-C", "folder", type=click.Path(readable=False), default=".", help="Run as if started in this folder.")
@click.option("--no-pager", is_flag=True, help="Do not send long output to a pager.")
@click.option("--traceback", is_flag=True, help="Show the Python traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, folder: str, no_pager: bool, traceback: bool) -> None:
    """Version control for a model's personality

    A model is a base checkpoint plus task vectors, each scaled by an alpha.

    \b
    persona init --base PATH                  start from a pretrained checkpoint
    persona commit RUN --as NAME -m MESSAGE   record a training run
    persona negate NAME --alpha 0.5           subtract a behaviour
    persona build -o OUT                      write the model
    persona checkout HEAD~1                   go back
    """
    start = Path(folder)
    with files.translated(start):
        if not start.is_dir():
            raise UsageError(f"no folder '{folder}'", "Pass -C a folder that exists.")
    ctx.obj.folder = folder
    ctx.obj.pages = not no_pager
    ctx.obj.traceback = traceback


def run(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: the console script."""
    gc.set_threshold(50_000, 20, 20)  # numba and torch create many lasting objects on import; scanning them costs 0.1 s
    files.keep_freed_memory()
    files.allow_many_files()
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it
        signal.signal(signal.SIGHUP, _terminate)
    _prepare_outputs()
    sys.exit(invoke(sys.argv[1:] if args is None else args))


def invoke(args: Sequence[str]) -> int:
    """Run one command line and return its exit code.

    Every error ends here: it is printed as a message and a hint, never as a traceback.
    """
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
        return _explain(app, _usage_error(error, argv))
    except (KeyboardInterrupt, click.Abort):
        fail(app, PersonaError("interrupted", "No change was left half-done; run the command again."), INTERRUPTED)
        return INTERRUPTED
    except (ReaderGone, BrokenPipeError):
        silence_stdout()  # the reader (a pager, head) is gone: stop quietly
        return BROKEN_PIPE
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL and error.filename is None:  # click's own output is full
            return _explain(app, Unheard(error))
        refusal = _refused_by_the_system(error)
        return _report_bug(app, error) if refusal is None else _explain(app, refusal)
    return result if isinstance(result, int) else 0


def _refused_by_the_system(error: Exception) -> Storage | None:
    """The error to print for what the system does not grant, wherever it was asked for; None for anything else."""
    if isinstance(error, MemoryError) or _is_torch_out_of_memory(error):
        return Storage("there is not enough memory", _REFUSED[errno.ENOMEM])
    if isinstance(error, ImportError):
        number = next((number for number, words in _LOADING.items() if words in str(error)), None)
        return None if number is None else Storage(f"{error.path or error.name}: {error}", _REFUSED[number])
    if not isinstance(error, OSError) or error.errno not in _REFUSED:
        return None
    if error.errno == errno.ENOENT:  # only os.getcwd fails without a name
        return None if error.filename else Storage("the current folder does not exist any more", "Go to another one.")
    where = f"{error.filename}: " if error.filename else ""
    reason = os.strerror(error.errno)
    return Storage(f"{where}{reason[:1].lower()}{reason[1:]}", _REFUSED[error.errno])


def _is_torch_out_of_memory(error: Exception) -> bool:
    """Whether it is one of the errors by which torch says so: a RuntimeError in words, or a subclass on a GPU."""
    words = ("not enough memory", "can't allocate memory", "can't start new thread")
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or any(some in str(error) for some in words)
    )


def _usage_error(error: click.ClickException, argv: Sequence[str]) -> UsageError:
    """Word an error of click as persona's own: in lower case, without a period, and with a hint."""
    message = error.format_message().removeprefix("Got ").removesuffix(".")
    if isinstance(error, click.UsageError) and error.ctx:
        command = error.ctx.command_path
    else:  # such as an option without its argument
        command = " ".join(["persona", *[word for word in argv if word in COMMANDS][:1]])
    return UsageError(message[:1].lower() + message[1:], f"See '{command} --help'.")


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
    hint = "Your repository is intact. Run the command again with --traceback, and please report the output."
    with (
        contextlib.suppress(OSError),
        tempfile.NamedTemporaryFile(
            "w", prefix="persona-bug-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file,
    ):
        file.write(f"persona {app.command}\n{text}")
        hint = f"Your repository is intact. The details are in {file.name}: please report them."
    bug = PersonaError(f"this is a bug in persona: {type(error).__name__}: {error}", hint)
    fail(app, bug, BUG)
    return BUG


def _prepare_outputs() -> None:
    """Make stdout and stderr accept any text: replace what the encoding lacks, and discard output to a closed stream."""
    for name, errors in (("stdout", "replace"), ("stderr", "backslashreplace")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  # open until exit
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _terminate(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    run()
