"""``persona restore``: set ``persona.toml``, or entries in it, back to a committed version, without committing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from persona.errors import UsageError, did_you_mean
from persona.history import refs as refs_
from persona.recipe.changes import RecipeChange, changes
from persona.recipe.model import Entry, Recipe
from persona.recipe.rewrite import rewrite
from persona.repository import Repository
from persona.workspace.record import back_up, refuse_while_merging, worktree_recipe, worktree_text


@dataclass(frozen=True)
class RestoreResult:
    """What was restored.

    ``backup`` is the file that replaced edits were saved to, null if there were none. ``source`` is the revision.
    ``vectors`` are the requested vectors and readouts; if there are none, the whole file was restored.
    """

    path: Path
    changed: bool
    backup: Path | None
    source: str = refs_.HEAD
    vectors: tuple[str, ...] = ()
    changes: tuple[RecipeChange, ...] = ()


def restore(
    repo: Repository, names: Sequence[str] = (), *, source: str = refs_.HEAD, command: str = "restore"
) -> RestoreResult:
    """Restore ``persona.toml`` from ``source``, and save replaced edits beside it as ``persona.toml.orig``.

    The two edits saved before are then in ``persona.toml.orig-2`` and ``persona.toml.orig-3``.

    Args:
        names: Restore only these vectors and readouts; those that ``source`` does not have are removed, and the rest of
            the file keeps its edits.
        source: Revision to restore from.

    Raises:
        UsageError: A name is neither in ``source`` nor in ``persona.toml``.
        Refusal: A merge is unfinished.
    """
    with repo.transaction(command):
        refuse_while_merging(repo)
        commit = repo.resolve(source)
        committed = repo.text(commit)
        if names:
            return _entries(repo, list(dict.fromkeys(names)), repo.recipe(commit), committed, source)
        current, wanted = repo.recipe_bytes(), committed.encode()
        if current == wanted:
            return RestoreResult(repo.recipe_path, False, None, source)
        backup = None
        if current is not None and current != repo.head_text().encode():
            backup = back_up(repo.recipe_path, current)
        repo.write_recipe(committed)
        return RestoreResult(repo.recipe_path, True, backup, source)


def _entries(repo: Repository, names: list[str], committed: Recipe, committed_text: str, source: str) -> RestoreResult:
    text, before = worktree_text(repo), worktree_recipe(repo)
    after = before
    for name in names:
        entry = committed.entry(name)
        if committed.readout(name) is not None or after.readout(name) is not None:
            after = after.with_readout(name, committed.readout(name))
            if entry is None and after.entry(name) is None:
                continue
        if entry is None and before.entry(name) is None:
            known = {*committed.names, *before.names}
            raise UsageError(
                f"no vector or readout '{name}' in '{source}' or {repo.recipe_path.name}",
                did_you_mean(name, known),
            )
        after = after.with_entry(name, entry if committed.method == before.method else _without_parameters(entry))
    restored = tuple(changes(before, after, repo.objects))
    if restored:
        repo.write_recipe(rewrite(text, after, committed_text))
    return RestoreResult(repo.recipe_path, bool(restored), None, source, tuple(names), restored)


def _without_parameters(entry: Entry | None) -> Entry | None:
    """Drop a vector's parameters, which belong to another merge method."""
    return replace(entry, parameters={}) if entry is not None else None
