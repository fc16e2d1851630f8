"""Ask before code that came with a suite is run, and remember the answer in the user's own folder.

The answer is kept by the digest of the code in `persona/allowed-code` in `XDG_STATE_HOME` or `~/.local/state`, so that any
change is asked about again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from persona.cli.output import note, visible
from persona.errors import PersonaError

if TYPE_CHECKING:
    from persona.evaluate.trust import SuiteCode

SHOWN = 20
"""Most files that are listed."""


def trusting(allow: bool) -> Callable[[SuiteCode], bool]:
    """A function that says whether to run the code of a suite: yes with `--allow-code`, or if the user did or does allow it."""

    def decide(code: SuiteCode) -> bool:
        if _place(code).is_file():
            return True
        if not (allow or _asked(code)):
            return False
        _remember(code)
        return True

    return decide


def _place(code: SuiteCode) -> Path:
    home = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(home) if home.startswith("/") else Path.home() / ".local" / "state"
    return folder / "persona" / "allowed-code" / code.digest


def _asked(code: SuiteCode) -> bool:
    """Ask on the terminal; no if there is none."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    note(f"{code.suite} runs Python code with your rights: {', '.join(code.functions)}")
    for path in code.files[:SHOWN]:
        note(f"  {path}")
    if len(code.files) > SHOWN:
        note(f"  and {len(code.files) - SHOWN} more files")
    return click.confirm(visible("Run it, now and as long as it does not change?"), err=True)


def _remember(code: SuiteCode) -> None:
    from persona import files

    try:
        files.make_folder(_place(code).parent)
        files.write_file(_place(code), f"{code.suite}\n".encode(errors="replace"))
    except (PersonaError, OSError) as error:
        note(f"note: the answer is not remembered: {error}")
