"""What verbs share that make commits: reading the current ``persona.toml``, checking it, and recording it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from persona import files
from persona.building.acting import check_patterns
from persona.errors import Refusal, UsageError, did_you_mean
from persona.graph.coverage import complaint
from persona.graph.pins import pinned, renewed
from persona.history import refs as refs_
from persona.history.commits import Commit, put_text
from persona.ids import CommitId, GraphId, NodeId, VectorId
from persona.notebook import Shown
from persona.recipe import alphas
from persona.recipe.changes import RecipeChange, changes
from persona.recipe.model import Entry, Recipe
from persona.recipe.parse import parse
from persona.recipe.resolve import resolve
from persona.repository import Repository, Transaction, now
from persona.store.graphs import Graph
from persona.workspace.merging import merged_graph


@dataclass(frozen=True, repr=False)
class RecordedCommit(Shown):
    """A new commit. ``branch`` is null if HEAD is detached; ``notes`` are warnings about possible mistakes."""

    commit: CommitId
    branch: str | None
    message: str
    changes: tuple[RecipeChange, ...]
    notes: tuple[str, ...] = ()


def worktree_text(repo: Repository) -> str:
    """The text of ``persona.toml``.

    Raises:
        UsageError: the file is missing.
    """
    text = repo.recipe_text()
    if text is None:
        raise UsageError(f"{repo.recipe_path} is missing", "Restore the committed one: persona restore")
    return text


def worktree_recipe(repo: Repository) -> Recipe:
    """The resolved recipe of ``persona.toml``.

    Raises:
        UsageError: the file is missing or invalid.
        WrongBase: a vector belongs to another base.
    """
    text = worktree_text(repo)
    return resolve(parse(text), repo.objects, repo.recipe(repo.head()), text)


def recipe_to_build(repo: Repository, rev: str | None) -> tuple[CommitId, bool, Recipe]:
    """Find what to build: ``rev``, or by default the current ``persona.toml``.

    Returns:
        The commit (HEAD by default), whether the recipe has uncommitted edits, and the recipe.
    """
    if rev is not None:
        commit = repo.resolve(rev)
        return commit, False, repo.recipe(commit)
    commit = repo.head()
    recipe = worktree_recipe(repo)
    return commit, recipe != repo.recipe(commit), recipe


def entry_of(recipe: Recipe, name: str) -> Entry:
    """Find a vector of the recipe by name.

    Raises:
        UsageError: there is none; the hint suggests a similar name.
    """
    entry = recipe.entry(name)
    if entry is None:
        hint = did_you_mean(name, [e.name for e in recipe.vectors]) or "The recipe has no vectors yet."
        if recipe.readout(name) is not None:
            hint = f"'{name}' is a readout; see it with: persona show {name}"
        raise UsageError(f"no vector '{name}' in the recipe", hint)
    return entry


@contextmanager
def clean_recipe(repo: Repository, command: str) -> Iterator[tuple[Transaction, str]]:
    """Open a transaction and yield it with the text of ``persona.toml``, which must not have uncommitted edits.

    Raises:
        Refusal: it has edits, or a merge is in progress.
    """
    with repo.transaction(command) as change:
        refuse_while_merging(repo)
        text = worktree_text(repo)
        check_clean(repo)
        yield change, text


def refuse_while_merging(repo: Repository) -> None:
    """Check that no merge is in progress.

    Raises:
        Refusal: one is.
    """
    if refs_.merge_heads(repo.refs()):
        raise Refusal(
            "a merge is in progress",
            f"Resolve the conflicts in {repo.recipe_path.name} and run 'persona commit', or: persona merge --abort",
        )


BACKUPS = (".orig", ".orig-2", ".orig-3")
"""What is added to the name of a file for its backups, the newest first."""


def back_up(path: Path, data: bytes) -> Path:
    """Write ``data`` beside ``path`` as its newest backup; the older ones move on, and what was the oldest goes."""
    names = [path.with_name(path.name + ending) for ending in BACKUPS]
    if names[0].is_file() and files.read_bytes(names[0]) == data:
        return names[0]
    for newer, older in reversed([*pairwise(names)]):
        if newer.exists():
            files.rename(newer, older)
    files.write_file(names[0], data)
    return names[0]


def check_clean(repo: Repository) -> None:
    """Check that ``persona.toml`` has no uncommitted edits.

    Raises:
        Refusal: it has.
        RecipeError: it has, and cannot be parsed.
    """
    if repo.is_edited():
        parse(worktree_text(repo))  # a mistake is to be fixed, not discarded
        raise Refusal(
            f"{repo.recipe_path.name} has uncommitted edits",
            "Commit them (persona commit -m MESSAGE), or discard them (persona restore).",
        )


def record(
    repo: Repository,
    change: Transaction,
    text: str,
    message: str,
    author: str,
    run: Mapping[str, Any] | None = None,
    *,
    merging: Sequence[CommitId] = (),
    graph: GraphId | None = None,
    pins: Mapping[str, NodeId] | None = None,
) -> RecordedCommit:
    """Write ``text`` to ``persona.toml`` and commit it on top of HEAD.

    Args:
        change: The transaction to record in.
        text: The new ``persona.toml``.
        author: Its author. By default the user: see :attr:`Repository.author`.
        run: What to record about a training run.
        merging: The other parents, if this concludes a merge.
        graph: A new memory graph. By default HEAD's.
        pins: By vector name, the text of its node that it implements. By default this is found automatically.

    Raises:
        UsageError: ``text`` is not a valid recipe.
        Refusal: nothing would change, or a merge is in progress.
    """
    if not merging:
        refuse_while_merging(repo)
    head = repo.head()
    before = repo.recipe(head)
    parents_recipes = (before, *(repo.recipe(commit) for commit in merging))
    recipe = checked_recipe(repo, text, parents_recipes)
    merged, disputed = merged_graph(repo, head, merging) if merging else (repo.commit(head).graph, ())
    graph = graph or merged
    current = Graph.get(repo.objects, graph) if graph else None
    recipe = pinned(recipe, parents_recipes, current, pins)
    notes = (
        *disputed,
        *_lost_diagonals(before, recipe),
        *(_unknown_nodes(repo, before, recipe, current) if current else ()),
    )
    stored = put_text(repo.objects, text)
    resolved = recipe.put(repo.objects)
    old = repo.commit(head)
    if (resolved, stored, graph) == (old.recipe, old.text, old.graph) and not merging:
        raise Refusal("nothing to commit: persona.toml is unchanged", "See 'persona status'.")
    parents = (head, *merging)
    commit = Commit(resolved, stored, parents, author or repo.author, now(), message, run or {}, graph)
    name = commit.put(repo.objects)
    change.advance(name)
    change.set_recipe_text(text)
    branch = refs_.current_branch(repo.refs())
    return RecordedCommit(name, branch, commit.message, tuple(changes(before, recipe, repo.objects)), notes)


def checked_recipe(repo: Repository, text: str, parents: Sequence[Recipe]) -> Recipe:
    """Parse, resolve and check a new ``persona.toml``; what its parents name needs no further check."""
    known = replace(
        parents[0],
        vectors=tuple(entry for parent in parents for entry in parent.vectors),
        readouts=tuple(entry for parent in parents for entry in parent.readouts),
    )
    recipe = resolve(parse(text), repo.objects, known, text)
    for entry in recipe.vectors:
        if entry.only or entry.excepted or alphas.patterns(entry.alpha):
            check_patterns(entry, repo.vector(VectorId(entry.id)))
    return recipe


def _lost_diagonals(before: Recipe, recipe: Recipe) -> Iterator[str]:
    """Notes about Fisher diagonals that no longer apply, because the vector was replaced."""
    for entry in recipe.vectors:
        old = before.entry(entry.name)
        if old is not None and old.fisher and not entry.fisher and old.id != entry.id:
            yield (
                f"{entry.name} no longer has a Fisher diagonal, because the vector was replaced. "
                f"Estimate a new one: persona fisher {entry.name} --data FILE.jsonl"
            )


def _unknown_nodes(repo: Repository, before: Recipe, recipe: Recipe, graph: Graph) -> Iterator[str]:
    """Notes about nodes that vectors newly name and the graph does not have."""
    for entry in renewed(before, recipe):
        if problem := complaint(entry.node or "", graph, repo.objects):
            yield f"{entry.name}: {problem[0]}. {problem[1]}".rstrip()
