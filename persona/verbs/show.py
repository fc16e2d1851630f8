"""``persona show``: all that is known of a commit, or of a vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from persona.errors import PersonaError, UsageError, WrongBase, did_you_mean
from persona.history.commits import Commit, get_text, walk
from persona.history.headline import facts_of
from persona.history.revisions import resolve
from persona.ids import CommitId, VectorId
from persona.recipe.changes import Change, changes
from persona.recipe.model import Entry, Recipe
from persona.repository import Repository
from persona.verbs.recording import standing_recipe
from persona.verbs.vectors import Listed, listed


@dataclass(frozen=True)
class ShownCommit:
    """A commit, what it changed against its first parent, and its recipe file."""

    commit: CommitId
    parents: tuple[CommitId, ...]
    author: str
    time: str
    message: str
    changes: tuple[Change, ...]
    text: str
    run: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ShownVector:
    """A vector, where it was committed first, and what was known of its run."""

    vector: Listed
    base_name: str
    commit: CommitId | None
    time: str | None
    changed: tuple[str, ...]
    run: Mapping[str, Any] = field(default_factory=dict)


def show(repo: Repository, what: str = "HEAD") -> ShownCommit | ShownVector:
    """A vector of the recipe by its name, or else a revision."""
    recipe, problem = _recipe(repo)
    if recipe.entry(what) is not None:
        return _vector(repo, recipe, what)
    try:
        commit = resolve(what, repo.refs(), repo.objects)
    except UsageError as error:
        if not error.message.startswith("no revision"):
            raise
        if problem is not None:
            raise problem from None
        known = [entry.name for entry in recipe.vectors]
        hint = did_you_mean(what, [*known, *(r.rpartition("/")[2] for r in repo.refs())])
        raise UsageError(f"'{what}' is neither a vector of the recipe nor a revision", hint) from None
    return _commit(repo, commit)


def _recipe(repo: Repository) -> tuple[Recipe, PersonaError | None]:
    """The recipe in ``persona.toml``, or HEAD's where that cannot be used, and why not."""
    try:
        if repo.recipe_text() is not None:
            return standing_recipe(repo), None
    except (UsageError, WrongBase) as error:
        return repo.recipe(repo.head()), error
    return repo.recipe(repo.head()), None


def _commit(repo: Repository, name: CommitId) -> ShownCommit:
    commit = repo.commit(name)
    after = repo.recipe(name)
    before = repo.recipe(commit.parents[0]) if commit.parents else Recipe(after.base, after.base_name)
    return ShownCommit(
        commit=name,
        parents=commit.parents,
        author=commit.author,
        time=commit.time,
        message=commit.message,
        changes=tuple(changes(before, after)),
        text=get_text(repo.objects, commit.text),
        run=commit.run,
    )


def _vector(repo: Repository, recipe: Recipe, name: str) -> ShownVector:
    entry = recipe.entry(name)
    assert entry is not None
    vector = VectorId(entry.id)
    first = _first_commit(repo, vector)
    commit = repo.commit(first) if first else None
    return ShownVector(
        vector=listed(repo, entry),
        base_name=recipe.base_name,
        commit=first,
        time=commit.time if commit else None,
        changed=tuple(sorted(repo.vector(vector).names)),
        run=_facts_of(repo, commit, entry) if commit else {},
    )


def _facts_of(repo: Repository, commit: Commit, entry: Entry) -> Mapping[str, Any]:
    """What a commit knows of the run that made a vector, under the name that it had there."""
    names = [one.name for one in Recipe.get(repo.objects, commit.recipe).vectors if one.id == entry.id]
    return facts_of(commit.run, entry.name if entry.name in names else names[0])


def _first_commit(repo: Repository, vector: VectorId) -> CommitId | None:
    """The oldest commit below HEAD whose recipe has ``vector``."""
    found = None
    for name, commit in walk(repo.objects, [repo.head()]):
        if any(entry.id == vector for entry in Recipe.get(repo.objects, commit.recipe).vectors):
            found = name
    return found
