"""``persona restore``: drop the edits in ``persona.toml``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from persona import files
from persona.repository import Repository
from persona.verbs.recording import free_name


@dataclass(frozen=True)
class Restored:
    """Whether there was anything to drop, and where the dropped text was put."""

    path: Path
    changed: bool
    backup: Path | None


def restore(repo: Repository, *, command: str = "restore") -> Restored:
    """Make ``persona.toml`` what was committed; what is dropped stays beside it as ``persona.toml.orig``."""
    with repo.transaction(command):
        standing, committed = repo.recipe_bytes(), repo.head_text().encode()
        if standing == committed:
            return Restored(repo.recipe_path, False, None)
        backup = None
        if standing is not None:
            backup = free_name(repo.recipe_path)
            files.write_file(backup, standing)
        files.write_over(repo.recipe_path, committed)
        return Restored(repo.recipe_path, True, backup)
