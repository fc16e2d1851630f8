"""Runs command lines in forked children that fail, or die, at a given file effect.

One process imports persona once and forks for every request, so that hundreds of real kills take seconds. It reads
``{"cwd", "argv", "at", "fault", "split", "calls"}`` as JSON lines and answers ``{"status", "effects"}``: the child's exit code, or minus the
signal that ended it, and how many effects it announced. Faults: ``none``, ``error`` (an OSError), ``kill`` (SIGKILL).
``split``, unless it is 0, is the size at which packs are split. With ``calls``, what counts is not effects but Python's own calls
that change files in ``cwd``: transformers writes checkpoints, too, and Optuna its journal.
"""

from __future__ import annotations

import errno
import importlib
import itertools
import json
import os
import pkgutil
import signal
import sys
from pathlib import Path

from persona import files
from persona.cli.main import invoke
from persona.store import packwriter


def warm_up() -> None:
    """Import what commands import when they run: a fork then begins with it, and most of a trial's time is saved."""
    importlib.import_module("numpy")
    for room in ("cli.commands", "cli.tables", "verbs", "workspace", "building", "store.codecs", "methods"):
        package = importlib.import_module(f"persona.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def serve() -> None:
    """Answer until standard input ends. What is named on the command line is imported, too."""
    warm_up()
    for name in sys.argv[1:]:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _run(request, writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            effects = len(pipe.read())
        _, status = os.waitpid(child, 0)
        sys.stdout.write(json.dumps({"status": os.waitstatus_to_exitcode(status), "effects": effects}) + "\n")
        sys.stdout.flush()


def _run(request: dict[str, object], writer: int) -> None:
    """In the child: count effects into the pipe, and fail at the one that was asked for."""
    number = itertools.count(1)  # next() is atomic: builds announce effects from several threads

    def watch(effect: str, path: Path) -> None:
        here = next(number) == request["at"]
        os.write(writer, b".")
        if here and request["fault"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if here and request["fault"] == "error":
            raise OSError(errno.EIO, "injected", str(path))

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    os.chdir(str(request["cwd"]))
    if request["calls"]:
        sys.addaudithook(lambda event, args: watch(event, Path()) if _changes(event, args) else None)
    else:
        files.observer = watch
    packwriter.SPLIT = int(str(request["split"])) or packwriter.SPLIT
    argv = request["argv"]
    assert isinstance(argv, list)
    os._exit(invoke(argv))


def _changes(event: str, args: tuple[object, ...]) -> bool:
    """Whether an audited call creates, renames or deletes a file below the current folder, or opens one to write."""
    if event == "open":
        flags = args[2]
        if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return False
    elif event not in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate"):
        return False
    path = args[0]
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    return Path.cwd() in Path(os.fsdecode(path)).absolute().parents


if __name__ == "__main__":
    serve()
