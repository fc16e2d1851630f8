"""The option ``--plot FILE``: write a picture in addition to what is printed."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from persona import files
from persona.cli.app import App
from persona.cli.output import utf8
from persona.errors import UsageError

FORMATS = (".png", ".svg")

Draw = Callable[[str], bytes]
"""Returns the contents of a picture for a suffix, ``.png`` or ``.svg``."""


class Picture:
    """The picture of a command, if ``--plot`` was given.

    Raises:
        UsageError: the file has an unknown suffix, or matplotlib is not installed.
    """

    def __init__(self, app: App, path: str | None) -> None:
        self._typed = path
        self._path = app.optional_path(path)
        if self._path is not None:
            check(self._path)

    def write(self, draw: Draw) -> None:
        """Draw the picture and write it atomically, if there is to be one."""
        if self._path is not None:
            files.write_file(self._path, draw(self._path.suffix))

    def below(self, render: Callable[[Console], None]) -> Callable[[Console], None]:
        """Return ``render`` with a line added that says where the picture is."""

        def both(console: Console) -> None:
            render(console)
            if self._typed is not None:
                console.print(f"\nPlot saved in {escape(utf8(self._typed))}")

        return both


def check(path: Path) -> None:
    """Raise UsageError if no picture can be written to ``path``."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(
            f"unknown plot format '{path.suffix or path.name}': {path}",
            "Name a file that ends in .png or .svg.",
        )
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"--plot needs matplotlib, which cannot be imported: {error}", "Install it: pip install 'persona-vcs[plot]'"
        ) from None


def drawn(figure: Callable[[], Any], suffix: str) -> bytes:
    """Render the matplotlib figure that ``figure`` makes; equal figures give equal bytes."""
    import matplotlib

    out = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "persona", "axes.unicode_minus": False}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the font may lack letters of a name
        still = {"metadata": {"Date": None}} if suffix.lower() == ".svg" else {}
        figure().savefig(out, format=suffix.lower()[1:], dpi=150, **still)
    return out.getvalue()
