"""What the recording verbs share: the recipe as it stands, and making it a commit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from persona.building.acting import check_patterns
from persona.errors import Refusal, UsageError, did_you_mean
from persona.graph.coverage import complaint
from persona.graph.nodes import Graph
from persona.graph.pins import pinned, renewed
from persona.history import refs as refs_
from persona.history.commits import Commit, put_text
from persona.ids import CommitId, GraphId, NodeId, VectorId
from persona.recipe import alphas
from persona.recipe.changes import RecipeChange, changes
from persona.recipe.model import Entry, Recipe
from persona.recipe.parse import parse
from persona.recipe.resolve import resolve
from persona.repository import Repository, Transaction, now
from persona.workspace.merging import merged_graph


@dataclass(frozen=True)
class RecordedCommit:
    """A new commit. ``branch`` is None when HEAD is detached; ``notes`` say what may be a mistake."""

    commit: CommitId
    branch: str | None
    message: str
    changes: tuple[RecipeChange, ...]
    notes: tuple[str, ...] = ()


def worktree_text(repo: Repository) -> str:
    """``persona.toml`` as it stands."""
    text = repo.recipe_text()
    if text is None:
        raise UsageError(f"{repo.recipe_path} is missing", "Bring back the last one: persona restore")
    return text


def worktree_recipe(repo: Repository) -> Recipe:
    """The recipe in ``persona.toml``, resolved."""
    text = worktree_text(repo)
    return resolve(parse(text), repo.objects, repo.recipe(repo.head()), text)


def recipe_to_build(repo: Repository, rev: str | None) -> tuple[CommitId, bool, Recipe]:
    """The commit to build, whether uncommitted edits come on top of it, and the recipe.

    Without ``rev`` that is HEAD with ``persona.toml`` as it stands.
    """
    if rev is not None:
        commit = repo.resolve(rev)
        return commit, False, repo.recipe(commit)
    commit = repo.head()
    recipe = worktree_recipe(repo)
    return commit, recipe != repo.recipe(commit), recipe


def entry_of(recipe: Recipe, name: str) -> Entry:
    """The vector called ``name``, or an error with a suggestion."""
    entry = recipe.entry(name)
    if entry is None:
        hint = did_you_mean(name, [e.name for e in recipe.vectors]) or "The recipe has no vectors yet."
        if recipe.readout(name) is not None:
            hint = f"There is a readout of that name, which no weight depends on: persona show {name}"
        raise UsageError(f"no vector '{name}' in the recipe", hint)
    return entry


@contextmanager
def clean_recipe(repo: Repository, command: str) -> Iterator[tuple[Transaction, str]]:
    """A transaction on an unedited ``persona.toml``, so that nobody's edits are recorded by surprise."""
    with repo.transaction(command) as change:
        refuse_while_merging(repo)
        text = worktree_text(repo)
        check_clean(repo)
        yield change, text


def refuse_while_merging(repo: Repository) -> None:
    """Raise if a merge is unfinished: what is recorded now would not be a part of it."""
    if refs_.merge_heads(repo.refs()):
        raise Refusal(
            "a merge is under way",
            f"Settle its conflicts in {repo.recipe_path.name} and run 'persona commit', or: persona merge --abort",
        )


def free_name(path: Path) -> Path:
    """Where what stands in ``persona.toml`` is put aside: ``persona.toml.orig``, or one with a number."""
    names = (f"{path.name}.orig{number}" for number in ("", *(f"-{n}" for n in range(2, 10_000))))
    return next(path.with_name(name) for name in names if not path.with_name(name).exists())


def check_clean(repo: Repository) -> None:
    """Raise if ``persona.toml`` has edits."""
    if repo.is_edited():
        raise Refusal(
            f"{repo.recipe_path.name} has edits that are not committed",
            "Record them first (persona commit -m MESSAGE), or drop them (persona restore).",
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
    """Make ``text`` the recipe, and a commit of it on top of HEAD (and of ``merging``).

    ``graph`` is a new memory graph instead of HEAD's; ``pins`` say which text of its node a vector implements, where
    that is not to be found out. Refused if nothing would change, and while a merge is under way that this does not
    conclude.
    """
    if not merging:
        refuse_while_merging(repo)
    head = repo.head()
    before = repo.recipe(head)
    parents_recipes = (before, *(repo.recipe(commit) for commit in merging))
    trusted = replace(
        before,
        vectors=tuple(entry for one in parents_recipes for entry in one.vectors),
        readouts=tuple(entry for one in parents_recipes for entry in one.readouts),
    )
    recipe = resolve(parse(text), repo.objects, trusted, text)
    for entry in recipe.vectors:
        if entry.only or entry.excepted or alphas.patterns(entry.alpha):
            check_patterns(entry, repo.vector(VectorId(entry.id)))
    merged, disputed = merged_graph(repo, head, merging) if merging else (repo.commit(head).graph, ())
    graph = graph or merged
    standing = Graph.get(repo.objects, graph) if graph else None
    recipe = pinned(recipe, parents_recipes, standing, pins)
    notes = (
        *disputed,
        *_left_behind(before, recipe),
        *(_complaints(repo, before, recipe, standing) if standing else ()),
    )
    stored = put_text(repo.objects, text)
    resolved = recipe.put(repo.objects)
    old = repo.commit(head)
    if (resolved, stored, graph) == (old.recipe, old.text, old.graph) and not merging:
        raise Refusal("nothing to commit: persona.toml is as it was committed", "See 'persona status'.")
    parents = (head, *merging)
    commit = Commit(resolved, stored, parents, author or repo.author, now(), message, run or {}, graph)
    name = commit.put(repo.objects)
    change.advance(name)
    change.set_recipe_text(text)
    branch = refs_.current_branch(repo.refs())
    return RecordedCommit(name, branch, commit.message, tuple(changes(before, recipe, repo.objects)), notes)


def _left_behind(before: Recipe, recipe: Recipe) -> Iterator[str]:
    """Fisher diagonals of vectors that others have taken the place of."""
    for entry in recipe.vectors:
        was = before.entry(entry.name)
        if was is not None and was.fisher and not entry.fisher and was.id != entry.id:
            yield (
                f"{entry.name} has no Fisher diagonal any more: it was of the vector before. "
                f"Estimate one: persona fisher {entry.name} --data FILE.jsonl"
            )


def _complaints(repo: Repository, before: Recipe, recipe: Recipe, graph: Graph) -> Iterator[str]:
    """Nodes that vectors name from now on, and that the graph does not have."""
    for entry in renewed(before, recipe):
        if found := complaint(entry.node or "", graph, repo.objects):
            yield f"{entry.name}: {found[0]}. {found[1]}".rstrip()
