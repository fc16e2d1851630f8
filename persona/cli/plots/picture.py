"""``--plot FILE``: a picture beside what is printed, by whichever command draws it."""

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
"""The bytes of a PNG or SVG, by the ending of its name."""


class Picture:
    """Where a picture goes, if one was asked for; refused before the work if there could be none."""

    def __init__(self, app: App, said: str | None) -> None:
        self._said = said
        self._path = app.optional_path(said)
        if self._path is not None:
            check(self._path)

    def write(self, draw: Draw) -> None:
        """Draw it and write it, whole or not at all."""
        if self._path is not None:
            files.write_file(self._path, draw(self._path.suffix))

    def below(self, render: Callable[[Console], None]) -> Callable[[Console], None]:
        """``render``, and a line that says where the picture is."""

        def both(console: Console) -> None:
            render(console)
            if self._said is not None:
                console.print(f"\nDrawn into {escape(utf8(self._said))}")

        return both


def check(path: Path) -> None:
    """Raise if there could be no picture at ``path``, before the work."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(
            f"a plot cannot be written as '{path.suffix or path.name}': {path}",
            "Name a file that ends in .png or .svg.",
        )
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"--plot needs matplotlib, which cannot be imported: {error}", "Install it: pip install 'persona-vcs[plot]'"
        ) from None


def drawn(figure: Callable[[], Any], suffix: str) -> bytes:
    """The bytes of what ``figure`` makes, a matplotlib Figure: the same for the same figure."""
    import matplotlib

    out = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "persona", "axes.unicode_minus": False}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name may have letters that the font has not
        still = {"metadata": {"Date": None}} if suffix.lower() == ".svg" else {}
        figure().savefig(out, format=suffix.lower()[1:], dpi=150, **still)
    return out.getvalue()
