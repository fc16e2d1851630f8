"""How long the small commands take, from the shell's side: ``python -m tests.bench.startup [RUNS]``."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from tests.bench.measure import HEAD, middle, row, run
from tests.models import TinyModels

COMMANDS = [["--help"], ["status"], ["log"], ["log", "--oneline"], ["checkout", "main~1"], ["diff", "main~2"]]


def main() -> None:
    """Print a table of medians."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    persona = shutil.which("persona", path=str(Path(sys.executable).parent)) or "persona"
    with tempfile.TemporaryDirectory() as folder:
        root, models = Path(folder) / "work", TinyModels(Path(folder))
        root.mkdir()
        run([persona, "init", "--base", models.base()], root)
        for seed in (1, 2, 3):
            run([persona, "commit", models.run(seed), "--as", f"v{seed}"], root)
        print(HEAD)
        for args in COMMANDS:
            took = [run([persona, *args], root) for _ in range(runs + 1)][1:]
            print(row(f"`persona {' '.join(args)}`", middle(took)))


if __name__ == "__main__":
    main()
