"""Send output that is longer than the screen to a pager, as git does.

The pager is `PERSONA_PAGER`, `[ui] pager` in the user's `config.toml`, `PAGER` or `less`, the first that is set; empty or `cat`
means none. As in git, `LESS` defaults to `FRX`: quit if the text fits, keep colours, leave the text on the screen.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

    from rich.console import Console

_NOT_RUN = (126, 127)
"""Exit codes of a shell whose command cannot be executed or found."""

_PATIENCE = 2.0
"""Seconds for a pager to end when it is told to."""


def show(console: Console, render: Callable[[Console], None], configured: Callable[[], str | None]) -> None:
    """Print what `render` draws, through a pager if it is longer than the screen.

    Args:
        configured: Returns `[ui] pager`; called only when it is needed, as it reads a file.
    """
    with console.capture() as captured:
        render(console)
    text = captured.get()
    pager = _command(configured) if text.count("\n") >= console.height else ""
    if not pager or not page(text, pager):
        sys.stdout.write(text)


def wanted() -> bool:
    """Whether stdout is a terminal that a pager can use."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def _command(configured: Callable[[], str | None]) -> str:
    import shutil

    command = os.environ.get("PERSONA_PAGER")
    if command is None:
        command = configured()
    if command is None:
        command = os.environ.get("PAGER", "less" if shutil.which("less") else "")
    return "" if command.strip() in ("", "cat") else command


def page(text: str, pager: str) -> bool:
    """Pipe `text` into the shell command `pager` and wait for it; return False if it cannot be run."""
    import subprocess  # slow to import, and short output never needs it

    sys.stdout.flush()
    settings = {"LESS": "FRX", "LV": "-c", **os.environ}
    with _ignored_interrupts(), _terminal_kept():  # before the pager starts, so that an early Ctrl-C does not kill us
        try:
            process = subprocess.Popen(["/bin/sh", "-c", pager], stdin=subprocess.PIPE, env=settings)
        except OSError:
            return False
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # the user quit the pager
                process.stdin.write(text.encode(errors="replace"))
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            return process.wait() not in _NOT_RUN
        except BaseException:  # we are to end (SIGTERM): a pager that stays would wait for keys that the shell gets
            _end(process)
            raise


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the pager: the shell and what it runs."""
    import subprocess

    pids = [process.pid, *_children(process.pid)]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
            break
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()


def _children(pid: int) -> list[int]:
    """The processes below one; none where the system does not say."""
    try:
        found = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (OSError, ValueError):
        return []
    return [*found, *(other for one in found for other in _children(one))]


@contextlib.contextmanager
def _terminal_kept() -> Iterator[None]:
    """Give the terminal the settings that it had, if the pager had no time to."""
    import termios

    try:
        before = termios.tcgetattr(sys.stdout.fileno())
    except (OSError, ValueError, termios.error):
        before = None
    try:
        yield
    except BaseException:
        if before is not None:
            with contextlib.suppress(OSError, ValueError, termios.error):
                termios.tcsetattr(sys.stdout.fileno(), termios.TCSADRAIN, before)
        raise


@contextlib.contextmanager
def _ignored_interrupts() -> Iterator[None]:
    """Leave Ctrl-C, which the terminal sends to both processes, to the pager."""
    before = signal.signal(signal.SIGINT, lambda *_: None)  # unlike SIG_IGN, child processes do not inherit this
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
