"""``persona merge``: bring the vectors of other histories into this one.

Recipes are merged three ways (``recipe/threeway``). What clashes is written into ``persona.toml`` for a person to
settle, and ``refs/merge/N`` remember what is being merged until it is committed or given up.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from persona import files, methods
from persona.errors import Refusal, UsageError, did_you_mean
from persona.history import refs as refs_
from persona.history.ancestry import Ancestry
from persona.history.commits import get_text
from persona.ids import CommitId
from persona.progress import SILENT, Progress
from persona.recipe import alphas
from persona.recipe.changes import RecipeChange, changes
from persona.recipe.markers import mark
from persona.recipe.model import Recipe
from persona.recipe.rewrite import rewrite
from persona.recipe.threeway import MergeConflict
from persona.recipe.threeway import merge as merge_recipes
from persona.repository import Repository, Transaction
from persona.workspace.merging import (
    begin_merge,
    end_merge,
    heads_under_way,
    labels_of,
    marked_text,
    merge_message,
    our_name,
)
from persona.workspace.record import RecordedCommit, clean_recipe, free_name, record, worktree_text
from persona.workspace.retraining import RETRAINED, settle_retrained

if TYPE_CHECKING:
    from persona.building.interference import Interference

UP_TO_DATE, FORWARD, MERGED, CONFLICT = "up to date", "fast-forward", "merged", "conflict"
DEFAULT_METHOD = "ties"
MOST_MEASURED = 16
"""Acting vectors up to which interference is measured without being asked: it reads all of them, pair by pair."""


@dataclass(frozen=True)
class MergeResult:
    """What a merge did, or would do (``dry_run``). ``outcome``: up to date, fast-forward, merged, conflict."""

    outcome: str
    heads: tuple[str, ...]
    recorded: RecordedCommit | None = None
    changes: tuple[RecipeChange, ...] = ()
    clashes: tuple[MergeConflict, ...] = ()
    method: str = "linear"
    notes: tuple[str, ...] = ()
    dry_run: bool = False
    interference: Interference | None = None
    recipe: Recipe | None = None
    """What comes out, resolved; None where nothing was to be merged."""
    measurable: bool = False
    """Whether the outcome has vectors together that neither side had, so that interference is news."""

    @property
    def ok(self) -> bool:
        """Whether nothing is left to be settled."""
        return self.outcome != CONFLICT


@dataclass(frozen=True)
class MergeAborted:
    """A merge that was given up; ``backup`` has the settled part of ``persona.toml``, if a person had begun."""

    commit: CommitId
    backup: Path | None


@dataclass(frozen=True)
class _Side:
    """One of the histories that are merged."""

    label: str
    commit: CommitId
    recipe: Recipe
    text: str


def merge(
    repo: Repository,
    revs: Sequence[str],
    *,
    method: str | None = None,
    prefer: str | None = None,
    retrained: str | None = None,
    forward: bool = True,
    only_forward: bool = False,
    dry_run: bool = False,
    message: str | None = None,
    author: str = "",
    command: str = "merge",
) -> MergeResult:
    """Merge ``revs`` into HEAD.

    ``prefer`` settles clashes (``ours``, ``theirs``), ``retrained`` those about vectors that both sides trained
    (``ours``, ``theirs``, ``both``, ``mean``). Without either they go into ``persona.toml``. ``method`` is what the
    recipe shall merge weights with: TIES unless the recipes name one.
    """
    _check_options(method, prefer, retrained)
    with clean_recipe(repo, command) as (change, _):
        ours = _side(repo, "HEAD")
        ancestry = repo.ancestry
        known = ancestry.of([ours.commit])
        sides = [side for rev in dict.fromkeys(revs) if (side := _side(repo, rev)).commit not in known]
        labels = tuple(revs)
        if not sides:
            return MergeResult(UP_TO_DATE, labels, method=ours.recipe.method, dry_run=dry_run)
        if len(sides) == 1 and ours.commit in ancestry.of([sides[0].commit]) and forward and method is None:
            return _forward(repo, change, ours, sides[0], labels, dry_run)
        if only_forward:
            raise Refusal(
                "this cannot be fast-forwarded: both sides have commits of their own", "Merge without --ff-only."
            )
        text, recipe, clashes, notes = _fold(repo, ancestry, ours, sides, prefer, retrained)
        if clashes and len(sides) > 1:
            raise Refusal(
                f"{len(sides)} histories cannot be merged at once: {'; '.join(clash.text for clash in clashes)}",
                f"Merge them one at a time: persona merge {sides[0].label}",
            )
        merged, recipe = recipe, _with_method(recipe, ours, sides, method)
        text = text if recipe == merged else rewrite(text, recipe)
        told = MergeResult(
            outcome=CONFLICT if clashes else MERGED,
            heads=labels,
            changes=tuple(changes(ours.recipe, recipe, repo.objects)),
            clashes=tuple(clashes),
            method=recipe.method,
            notes=tuple(notes),
            dry_run=dry_run,
            recipe=recipe,
            measurable=_is_news(recipe, ours, sides),
        )
        if dry_run:
            return told
        heads = [side.commit for side in sides]
        if clashes:
            begin_merge(change, heads)
            label = f"{sides[0].label} ({sides[0].commit[:7]})"
            change.set_recipe_text(mark(text, clashes, our_name(repo), label, sides[0].text, sides[0].recipe))
            return told
        said = message or merge_message(repo, heads, [side.label for side in sides])
        return replace(told, recorded=record(repo, change, text, said, author, merging=heads))


def go_on(repo: Repository, *, message: str | None = None, author: str = "", command: str = "merge") -> MergeResult:
    """Commit a merge whose conflicts are settled in ``persona.toml``."""
    with repo.transaction(command) as change:
        heads = heads_under_way(repo)
        text = worktree_text(repo)
        labels = labels_of(repo, heads)
        recorded = record(repo, change, text, message or merge_message(repo, heads, labels), author, merging=heads)
        end_merge(repo, change)
        after = repo.recipe(recorded.commit)
        return MergeResult(
            MERGED, tuple(labels), recorded, recorded.changes, method=after.method, recipe=after, measurable=True
        )


def abort(repo: Repository, *, command: str = "merge") -> MergeAborted:
    """Give an unfinished merge up: ``persona.toml`` is as it was committed."""
    with repo.transaction(command) as change:
        heads_under_way(repo)
        standing = repo.recipe_bytes()
        backup = None
        if standing is not None and standing.decode(errors="replace") != marked_text(repo):
            backup = free_name(repo.recipe_path)
            files.write_file(backup, standing)
        end_merge(repo, change)
        change.set_recipe_text(repo.head_text())
        return MergeAborted(repo.head(), backup)


def interference_of(repo: Repository, result: MergeResult, progress: Progress = SILENT) -> Interference | None:
    """How far the vectors of a merge's outcome interfere; None where nothing new came together, or too much."""
    recipe = result.recipe
    if recipe is None or not (result.measurable and result.ok):
        return None
    if not 2 <= sum(alphas.acts(entry.alpha) for entry in recipe.vectors) <= MOST_MEASURED:
        return None
    from persona.verbs.interference import measured

    return measured(repo, recipe, None, "layer", progress)


def _check_options(method: str | None, prefer: str | None, retrained: str | None) -> None:
    if method is not None and methods.ALIASES.get(method, method) not in methods.names():
        raise UsageError(f"unknown method '{method}'", did_you_mean(method, methods.names()))
    if prefer not in (None, "ours", "theirs"):
        raise UsageError(f"'{prefer}' is no side", "Give ours or theirs.")
    if retrained not in (None, *RETRAINED):
        raise UsageError(f"'{retrained}' is not what can be done", f"Give one of {', '.join(RETRAINED)}.")


def _side(repo: Repository, rev: str) -> _Side:
    commit = repo.resolve(rev)
    return _Side(rev, commit, repo.recipe(commit), get_text(repo.objects, repo.commit(commit).text))


def _forward(
    repo: Repository, change: Transaction, ours: _Side, side: _Side, labels: tuple[str, ...], dry_run: bool
) -> MergeResult:
    told = tuple(changes(ours.recipe, side.recipe, repo.objects))
    if not dry_run:
        change.advance(side.commit)
        change.set_recipe_text(side.text)
    subject = repo.commit(side.commit).message
    recorded = RecordedCommit(side.commit, refs_.current_branch(repo.refs()), subject, told)
    return MergeResult(FORWARD, labels, None if dry_run else recorded, told, method=side.recipe.method, dry_run=dry_run)


def _fold(
    repo: Repository,
    ancestry: Ancestry,
    ours: _Side,
    sides: Sequence[_Side],
    prefer: str | None,
    retrained: str | None,
) -> tuple[str, Recipe, list[MergeConflict], list[str]]:
    """All sides merged into ours, one after the other: text, recipe, what clashes, what to tell."""
    text, recipe = ours.text, ours.recipe
    clashes: list[MergeConflict] = []
    notes: list[str] = []
    heads = [ours.commit]
    for side in sides:
        bases = [repo.recipe(commit) for commit in ancestry.merge_bases(heads, side.commit)]
        merged = merge_recipes(bases, recipe, side.recipe, prefer)
        merged, said = settle_retrained(repo, merged, recipe, side.recipe, side.label, retrained)
        text, recipe = rewrite(text, merged.recipe, side.text), merged.recipe
        clashes += merged.clashes
        notes += said
        heads.append(side.commit)
    return text, recipe, clashes, notes


def _with_method(recipe: Recipe, ours: _Side, sides: Sequence[_Side], told: str | None) -> Recipe:
    """The recipe with the method that resolves interference: as told, as the recipes say, or TIES."""
    method = methods.ALIASES.get(told, told) if told is not None else recipe.method
    if told is None and _is_news(recipe, ours, sides) and not any(_names_method(s.text) for s in (ours, *sides)):
        method = DEFAULT_METHOD
    if method == recipe.method:
        return recipe
    known = methods.load(method).PARAMETERS
    vectors = [replace(e, parameters={k: v for k, v in e.parameters.items() if k in known}) for e in recipe.vectors]
    return replace(recipe, method=method, vectors=tuple(vectors), parameters={})


def _is_news(recipe: Recipe, ours: _Side, sides: Sequence[_Side]) -> bool:
    """Whether several vectors act together that no side had together."""
    acting = {(entry.name, entry.id) for entry in recipe.vectors if alphas.acts(entry.alpha)}
    had = [{(entry.name, entry.id) for entry in side.recipe.vectors} for side in (ours, *sides)]
    return len(acting) > 1 and not any(acting <= one for one in had)


def _names_method(text: str) -> bool:
    return "method" in tomllib.loads(text.removeprefix("\ufeff")).get("merge", {})
