"""``persona restore``: drop the edits in ``persona.toml``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from persona import files
from persona.repository import Repository


@dataclass(frozen=True)
class Restored:
    """Whether there was anything to drop, and where the dropped text was put."""

    path: Path
    changed: bool
    backup: Path | None


def restore(repo: Repository, *, command: str = "restore") -> Restored:
    """Make ``persona.toml`` what was committed; the dropped text stays beside it as ``persona.toml.orig``."""
    with repo.transaction(command):
        standing, committed = repo.recipe_text(), repo.head_text()
        if standing == committed:
            return Restored(repo.recipe_path, False, None)
        backup = None
        if standing is not None:
            backup = repo.recipe_path.with_suffix(".toml.orig")
            files.write_file(backup, standing.encode())
        files.write_file(repo.recipe_path, committed.encode())
        return Restored(repo.recipe_path, True, backup)
