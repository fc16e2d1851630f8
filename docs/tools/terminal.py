"""Draws ``docs/terminal.svg``, the picture of a terminal in the README, from what commands print in a repository of the demo.

persona demo --keep DIR
python -m docs.tools.terminal DIR > docs/terminal.svg
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

COMMANDS = (
    "persona vectors",
    "persona alpha voice=0.6 -m 'more of its voice'",
    "persona log --oneline -n 3",
    "persona diff negated HEAD",
    "persona build -o merged",
    "persona verify merged",
    "persona undo",
)
COLUMNS = 92
_FONT = re.compile(r"\s*@font-face \{.*?\n    \}", re.DOTALL)
"""A font that would be loaded from another site."""


def drawn(folder: Path, commands: Sequence[str]) -> str:
    """Run commands in a repository, and draw what they print as SVG.

    Raises:
        CalledProcessError: a command failed.
    """
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    for number, line in enumerate(commands):
        if number:
            console.print()
        console.print(Text.assemble(("$ ", "bold green"), (line, "bold")))
        words = [sys.executable, "-m", "persona", *shlex.split(line)[1:]]
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=True)
        console.print(Text.from_ansi(done.stdout.rstrip("\n")))
    picture = console.export_svg(title="persona", unique_id="terminal")
    return _FONT.sub("", picture).replace("Fira Code, monospace", "ui-monospace, monospace")


if __name__ == "__main__":
    shutil.rmtree(Path(sys.argv[1]) / "merged", ignore_errors=True)
    sys.stdout.write(drawn(Path(sys.argv[1]), COMMANDS))
