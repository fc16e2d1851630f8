"""Long output through the pager, as git has it: on a terminal alone, and only what is longer than the screen.

Which one: ``PERSONA_PAGER``, ``[ui] pager`` in ``config.toml``, ``PAGER``, else ``less``. An empty one, or ``cat``, is
none. ``LESS`` is ``FRX`` unless it is set: quit if it fits, keep colours, leave the text on the screen.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_NOT_RUN = (126, 127)
"""What a shell says of a command that it cannot run, or find."""


def show(console: Console, render: Callable[[Console], None], configured: Callable[[], str | None]) -> None:
    """What ``render`` draws, through the pager if it needs one; ``configured`` is asked only then."""
    with console.capture() as captured:
        render(console)
    text = captured.get()
    pager = _command(configured) if text.count("\n") >= console.height else ""
    if not pager or not page(text, pager):
        sys.stdout.write(text)


def wanted() -> bool:
    """Whether anybody could turn pages."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def _command(configured: Callable[[], str | None]) -> str:
    import shutil

    said = os.environ.get("PERSONA_PAGER")
    if said is None:
        said = configured()
    if said is None:
        said = os.environ.get("PAGER", "less" if shutil.which("less") else "")
    return "" if said.strip() in ("", "cat") else said


def page(text: str, pager: str) -> bool:
    """Give ``text`` to a shell's ``pager`` and wait for its end; False if it cannot be run."""
    import subprocess  # no command needs it that fits on the screen

    sys.stdout.flush()
    settings = {"LESS": "FRX", "LV": "-c", **os.environ}
    with _interrupts_are_the_pagers():  # from before it begins: it may be quick, and so may who types
        try:
            process = subprocess.Popen(["/bin/sh", "-c", pager], stdin=subprocess.PIPE, env=settings)
        except OSError:
            return False
        with process:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # who has seen enough quits
                process.stdin.write(text.encode(errors="replace"))
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            return process.wait() not in _NOT_RUN


@contextlib.contextmanager
def _interrupts_are_the_pagers() -> Iterator[None]:
    """Ctrl-C goes to it and to us alike; it is for the pager to say what it means."""
    before = signal.signal(signal.SIGINT, lambda *_: None)  # unlike SIG_IGN, no program that is started inherits this
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
