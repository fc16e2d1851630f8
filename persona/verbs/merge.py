"""`persona merge`: merge the recipes of other branches into this one.

Recipes are merged three ways (`recipe/threeway`). Conflicts are written into `persona.toml`, between markers, and
`refs/merge/N` remember the commits to merge until the merge is committed or aborted. Weights are not merged here, but by
the next build, with the method of the merged recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from persona import files, methods
from persona.errors import Refusal, UsageError, did_you_mean
from persona.history import refs as refs_
from persona.ids import CommitId
from persona.notebook import Shown
from persona.progress import SILENT, Progress
from persona.recipe import alphas
from persona.recipe.changes import RecipeChange, changes
from persona.recipe.markers import mark
from persona.recipe.model import Recipe
from persona.recipe.rewrite import rewrite
from persona.recipe.threeway import MergeConflict
from persona.recipe.threeway import merge as merge_recipes
from persona.repository import Repository, Transaction
from persona.settings import parse_toml
from persona.verbs.interference import report_on
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
"""Maximum number of vectors to measure interference of: measuring reads all of them, pair by pair."""


@dataclass(frozen=True, repr=False)
class MergeResult(Shown):
    """The outcome of a merge, or with `dry_run` the outcome that it would have.

    Attributes:
        outcome: `up to date`, `fast-forward`, `merged` or `conflict`.
        heads: The merged revisions, as the user typed them.
        recorded: The commit that HEAD moved to, None if HEAD did not move.
        changes: What changes in our recipe.
        clashes: The conflicts.
        recipe: The merged recipe, None if the sides did not have to be combined.
        measurable: Whether the merge combines vectors that no side combined, so that their interference is worth
            measuring.
        interference: The report about it, None if it was not measured.
    """

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
    measurable: bool = False

    @property
    def ok(self) -> bool:
        """Whether there are no conflicts."""
        return self.outcome != CONFLICT


@dataclass(frozen=True)
class MergeAborted:
    """An aborted merge. `backup` is a copy of `persona.toml`, None if nobody had edited it since the merge began."""

    commit: CommitId
    backup: Path | None


@dataclass(frozen=True)
class _Side:
    """One of the commits to merge: HEAD, or one that the user named.

    `label` is the revision as it was typed, `text` the commit's `persona.toml`, and `recipe` what that means.
    """

    label: str
    commit: CommitId
    recipe: Recipe
    text: str


@dataclass(frozen=True)
class _Draft:
    """A merged `persona.toml` and the recipe that it means. Where there are conflicts, both have our side."""

    text: str
    recipe: Recipe
    conflicts: tuple[MergeConflict, ...] = ()
    notes: tuple[str, ...] = ()


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
    """Merge `revs` into HEAD.

    Args:
        method: Merge method of the new recipe. The default is the one that a recipe names; if none does, TIES once
            vectors meet that were not together before.
        prefer: Side that wins conflicts, `ours` or `theirs`. By default, conflicts are written into `persona.toml`.
        retrained: What to use for a vector that both sides trained: `ours`, `theirs`, `both` or `mean`.
        forward: Move HEAD forward without a commit where possible, unless `method` is given.
        only_forward: Refuse to make a commit.
        dry_run: Change nothing.
        message: Message of the merge commit. By default it names the merged revisions.
        author: Author of the merge commit. By default the user: see `Repository.author`.
        command: The command line, for the operation log.

    Raises:
        UsageError: An option or a revision is unknown.
        Refusal: `persona.toml` has edits, a merge is unfinished, several of `revs` conflict, or `only_forward` is not
            possible.
    """
    _check_options(method, prefer, retrained)
    with clean_recipe(repo, command) as (change, _):
        ours = _side(repo, "HEAD")
        theirs = _unmerged(repo, ours, revs)
        result = MergeResult(UP_TO_DATE, tuple(revs), method=ours.recipe.method, dry_run=dry_run)
        if not theirs:
            return result
        if forward and method is None and _can_fast_forward(repo, ours, theirs):
            return _fast_forward(repo, change, ours, theirs[0], result)
        if only_forward:
            raise Refusal("cannot fast-forward: both sides have new commits", "Merge without --ff-only.")
        draft = _combine(repo, ours, theirs, prefer, retrained)
        draft = _with_method(draft, (ours, *theirs), method)
        result = _completed(result, repo, draft, ours, theirs)
        if dry_run:
            return result
        if draft.conflicts:
            _stop_for_conflicts(repo, change, draft, theirs[0])
            return result
        heads = [side.commit for side in theirs]
        message = message or merge_message(repo, heads, [side.label for side in theirs])
        return replace(result, recorded=record(repo, change, draft.text, message, author, merging=heads))


def go_on(repo: Repository, *, message: str | None = None, author: str = "", command: str = "merge") -> MergeResult:
    """Commit the unfinished merge, whose conflicts are resolved in `persona.toml`.

    Raises:
        Refusal: No merge is in progress.
        RecipeError: `persona.toml` still has conflict markers.
    """
    with repo.transaction(command) as change:
        heads = heads_under_way(repo)
        text = worktree_text(repo)
        labels = labels_of(repo, heads)
        recorded = record(repo, change, text, message or merge_message(repo, heads, labels), author, merging=heads)
        end_merge(repo, change)
        recipe = repo.recipe(recorded.commit)
        return MergeResult(
            MERGED,
            tuple(labels),
            recorded,
            recorded.changes,
            method=recipe.method,
            recipe=recipe,
            measurable=True,  # conflicts may have been resolved in any way, so the sides are not compared again
        )


def abort(repo: Repository, *, command: str = "merge") -> MergeAborted:
    """Abort the unfinished merge: restore `persona.toml` from HEAD, and keep a copy if it was edited.

    Raises:
        Refusal: No merge is in progress.
    """
    with repo.transaction(command) as change:
        heads_under_way(repo)  # raises Refusal if there are none
        current = repo.recipe_bytes()
        backup = None
        if current is not None and current.decode(errors="replace") != marked_text(repo):
            backup = free_name(repo.recipe_path)
            files.write_file(backup, current)
        end_merge(repo, change)
        change.set_recipe_text(repo.head_text())
        return MergeAborted(repo.head(), backup)


def interference_of(repo: Repository, result: MergeResult, progress: Progress = SILENT) -> Interference | None:
    """Measure how much the vectors of a merge interfere.

    Returns None if the merge has conflicts, combines nothing new, or its recipe has fewer than 2 or more than
    `MOST_MEASURED` vectors with a nonzero alpha.
    """
    recipe = result.recipe
    if recipe is None or not (result.measurable and result.ok):
        return None
    if not 2 <= sum(alphas.acts(entry.alpha) for entry in recipe.vectors) <= MOST_MEASURED:
        return None
    return report_on(repo, recipe, before=None, by="layer", progress=progress)


def _check_options(method: str | None, prefer: str | None, retrained: str | None) -> None:
    if method is not None and methods.ALIASES.get(method, method) not in methods.names():
        raise UsageError(f"unknown method '{method}'", did_you_mean(method, methods.names()))
    if prefer not in (None, "ours", "theirs"):
        raise UsageError(f"unknown side '{prefer}'", "Use ours or theirs.")
    if retrained not in (None, *RETRAINED):
        raise UsageError(f"unknown choice '{retrained}' for retrained vectors", f"Use one of {', '.join(RETRAINED)}.")


def _side(repo: Repository, rev: str) -> _Side:
    """Read the commit that `rev` names."""
    commit = repo.resolve(rev)
    return _Side(rev, commit, repo.recipe(commit), repo.text(commit))


def _unmerged(repo: Repository, ours: _Side, revs: Sequence[str]) -> list[_Side]:
    """Read `revs`, without those that HEAD already contains."""
    contained = repo.ancestry.of([ours.commit])
    sides = [_side(repo, rev) for rev in dict.fromkeys(revs)]  # a revision may have been typed twice
    return [side for side in sides if side.commit not in contained]


def _can_fast_forward(repo: Repository, ours: _Side, theirs: Sequence[_Side]) -> bool:
    """Whether there is only one other side, and it contains HEAD."""
    return len(theirs) == 1 and ours.commit in repo.ancestry.of([theirs[0].commit])


def _fast_forward(
    repo: Repository, change: Transaction, ours: _Side, theirs: _Side, result: MergeResult
) -> MergeResult:
    """Move HEAD and `persona.toml` to their commit, unless this is a dry run."""
    recipe_changes = tuple(changes(ours.recipe, theirs.recipe, repo.objects))
    result = replace(result, outcome=FORWARD, changes=recipe_changes, method=theirs.recipe.method)
    if result.dry_run:
        return result
    change.advance(theirs.commit)
    change.set_recipe_text(theirs.text)
    subject = repo.commit(theirs.commit).message
    recorded = RecordedCommit(theirs.commit, refs_.current_branch(repo.refs()), subject, recipe_changes)
    return replace(result, recorded=recorded)


def _combine(
    repo: Repository, ours: _Side, theirs: Sequence[_Side], prefer: str | None, retrained: str | None
) -> _Draft:
    """Merge the recipes of `theirs` into ours, one after the other.

    Raises:
        Refusal: There are conflicts, and `theirs` are several.
    """
    draft, merged_commits = _Draft(ours.text, ours.recipe), [ours.commit]
    for side in theirs:
        bases = [repo.recipe(commit) for commit in repo.ancestry.merge_bases(merged_commits, side.commit)]
        merged = merge_recipes(bases, draft.recipe, side.recipe, prefer)
        merged, notes = settle_retrained(repo, merged, draft.recipe, side.recipe, side.label, retrained)
        text = rewrite(draft.text, merged.recipe, borrow=side.text)
        draft = _Draft(text, merged.recipe, (*draft.conflicts, *merged.clashes), (*draft.notes, *notes))
        merged_commits.append(side.commit)
    if draft.conflicts and len(theirs) > 1:
        raise Refusal(
            f"{len(theirs)} branches with conflicts cannot be merged at once: {_listed(draft.conflicts)}",
            f"Merge them one at a time: persona merge {theirs[0].label}",
        )
    return draft


def _listed(conflicts: Sequence[MergeConflict]) -> str:
    return "; ".join(conflict.text for conflict in conflicts)


def _with_method(draft: _Draft, sides: Sequence[_Side], wanted: str | None) -> _Draft:
    """Set the merge method of the draft.

    It is `wanted`, if given. Otherwise the merged recipe keeps its method, except where no side names one: then the
    implied `linear` becomes TIES, if the merge combines vectors that no side combined.
    """
    recipe = draft.recipe
    if wanted is not None:
        method = methods.ALIASES.get(wanted, wanted)
    elif _combines_anew(recipe, sides) and not any(_names_method(side.text) for side in sides):
        method = DEFAULT_METHOD
    else:
        method = recipe.method
    if method == recipe.method:
        return draft
    known = methods.load(method).PARAMETERS  # a parameter that the new method does not have would be an error
    vectors = [replace(e, parameters={k: v for k, v in e.parameters.items() if k in known}) for e in recipe.vectors]
    recipe = replace(recipe, method=method, vectors=tuple(vectors), parameters={})
    return replace(draft, recipe=recipe, text=rewrite(draft.text, recipe))


def _combines_anew(recipe: Recipe, sides: Sequence[_Side]) -> bool:
    """Whether `recipe` has several vectors with a nonzero alpha, and no side has all of them."""
    acting = {(entry.name, entry.id) for entry in recipe.vectors if alphas.acts(entry.alpha)}
    vectors_by_side = [{(entry.name, entry.id) for entry in side.recipe.vectors} for side in sides]
    return len(acting) > 1 and not any(acting <= vectors for vectors in vectors_by_side)


def _names_method(text: str) -> bool:
    """Whether a `persona.toml` sets `[merge] method`; a parsed recipe no longer tells, as it has the default."""
    return "method" in parse_toml(text).get("merge", {})


def _completed(
    result: MergeResult, repo: Repository, draft: _Draft, ours: _Side, theirs: Sequence[_Side]
) -> MergeResult:
    """Add to `result` what the draft says."""
    return replace(
        result,
        outcome=CONFLICT if draft.conflicts else MERGED,
        changes=tuple(changes(ours.recipe, draft.recipe, repo.objects)),
        clashes=draft.conflicts,
        method=draft.recipe.method,
        notes=draft.notes,
        recipe=draft.recipe,
        measurable=_combines_anew(draft.recipe, (ours, *theirs)),
    )


def _stop_for_conflicts(repo: Repository, change: Transaction, draft: _Draft, theirs: _Side) -> None:
    """Write both sides of every conflict into `persona.toml`, and remember the merge."""
    begin_merge(change, [theirs.commit])
    label = f"{theirs.label} ({theirs.commit[:7]})"
    change.set_recipe_text(mark(draft.text, draft.conflicts, our_name(repo), label, theirs.text, theirs.recipe))
