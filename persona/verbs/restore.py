"""``persona restore``: ``persona.toml``, or vectors and readouts in it, as they were committed. Nothing is recorded by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from persona import files
from persona.errors import UsageError, did_you_mean
from persona.history import refs as refs_
from persona.history.commits import get_text
from persona.recipe.changes import RecipeChange, changes
from persona.recipe.model import Entry, ReadoutEntry, Recipe
from persona.recipe.rewrite import rewrite
from persona.repository import Repository
from persona.workspace.record import free_name, refuse_while_merging, worktree_recipe, worktree_text


@dataclass(frozen=True)
class RestoreResult:
    """Whether anything was brought back, and where the text that it took the place of was put.

    ``vectors`` are those that were asked for; none means the whole file.
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
    """Make ``persona.toml`` what it was at ``source``; what is dropped stays beside it as ``persona.toml.orig``.

    With ``names``, only those vectors and readouts: each as it was there, taken out if it was not there. The rest stays as it is edited.
    """
    with repo.transaction(command):
        refuse_while_merging(repo)
        commit = repo.resolve(source)
        then = get_text(repo.objects, repo.commit(commit).text)
        if names:
            return _vectors(repo, list(dict.fromkeys(names)), repo.recipe(commit), then, source)
        standing, wanted = repo.recipe_bytes(), then.encode()
        if standing == wanted:
            return RestoreResult(repo.recipe_path, False, None, source)
        backup = None
        if standing is not None and standing != repo.head_text().encode():
            backup = free_name(repo.recipe_path)
            files.write_file(backup, standing)
        files.write_over(repo.recipe_path, wanted)
        return RestoreResult(repo.recipe_path, True, backup, source)


def _vectors(repo: Repository, names: list[str], then: Recipe, then_text: str, source: str) -> RestoreResult:
    text, before = worktree_text(repo), worktree_recipe(repo)
    after = before
    for name in names:
        entry = then.entry(name)
        if then.readout(name) is not None or after.readout(name) is not None:
            after = _with_readout(after, name, then.readout(name))
            if entry is None and after.entry(name) is None:
                continue
        if entry is None and before.entry(name) is None:
            known = {*then.names, *before.names}
            raise UsageError(
                f"no vector or readout '{name}' in the recipe of '{source}', nor in {repo.recipe_path.name}",
                did_you_mean(name, known),
            )
        after = _with(after, name, entry if then.method == before.method else _without_parameters(entry))
    found = tuple(changes(before, after, repo.objects))
    if found:
        files.write_over(repo.recipe_path, rewrite(text, after, then_text).encode())
    return RestoreResult(repo.recipe_path, bool(found), None, source, tuple(names), found)


def _with_readout(recipe: Recipe, name: str, entry: ReadoutEntry | None) -> Recipe:
    """``recipe`` with a readout as it is given; without it for None."""
    others = [one for one in recipe.readouts if one.name != name]
    return recipe.with_readouts([*others, *([entry] if entry is not None else [])])


def _without_parameters(entry: Entry | None) -> Entry | None:
    """A vector for a recipe with another method, which has other parameters."""
    return replace(entry, parameters={}) if entry is not None else None


def _with(recipe: Recipe, name: str, entry: Entry | None) -> Recipe:
    """``recipe`` with a vector as it is given, in its place or at the end; without it for None."""
    vectors = [entry if one.name == name else one for one in recipe.vectors]
    if entry is not None and recipe.entry(name) is None:
        vectors.append(entry)
    return replace(recipe, vectors=tuple(one for one in vectors if one is not None))
