"""What the recording verbs share: the recipe as it stands, and making it a commit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from persona.building.plan import check_patterns
from persona.errors import Refusal, UsageError, did_you_mean
from persona.history import refs as refs_
from persona.history.commits import Commit, put_text
from persona.ids import CommitId, VectorId
from persona.recipe import alphas
from persona.recipe.changes import Change, changes
from persona.recipe.model import Entry, Recipe
from persona.recipe.parse import parse
from persona.recipe.resolve import resolve
from persona.repository import Repository, Transaction, now


@dataclass(frozen=True)
class Recorded:
    """A new commit. ``branch`` is None when HEAD is detached."""

    commit: CommitId
    branch: str | None
    message: str
    changes: tuple[Change, ...]


def standing_text(repo: Repository) -> str:
    """``persona.toml`` as it stands."""
    text = repo.recipe_text()
    if text is None:
        raise UsageError(f"{repo.recipe_path} is missing", "Bring back the last one: persona restore")
    return text


def standing_recipe(repo: Repository) -> Recipe:
    """The recipe in ``persona.toml``, resolved."""
    text = standing_text(repo)
    return resolve(parse(text), repo.objects, repo.recipe(repo.head()), text)


def entry_of(recipe: Recipe, name: str) -> Entry:
    """The vector called ``name``, or an error with a suggestion."""
    entry = recipe.entry(name)
    if entry is None:
        hint = did_you_mean(name, [e.name for e in recipe.vectors]) or "The recipe has no vectors yet."
        raise UsageError(f"no vector '{name}' in the recipe", hint)
    return entry


@contextmanager
def clean_recipe(repo: Repository, command: str) -> Iterator[tuple[Transaction, str]]:
    """A transaction on an unedited ``persona.toml``, so that nobody's edits are recorded by surprise."""
    with repo.transaction(command) as change:
        text = standing_text(repo)
        if repo.is_edited():
            raise Refusal(
                f"{repo.recipe_path.name} has edits that are not committed",
                "Record them first (persona commit -m MESSAGE), or drop them (persona restore).",
            )
        yield change, text


def record(
    repo: Repository,
    change: Transaction,
    text: str,
    message: str,
    author: str,
    run: Mapping[str, Any] | None = None,
) -> Recorded:
    """Make ``text`` the recipe, and a commit of it on top of HEAD; refused if nothing would change."""
    head = repo.head()
    before = repo.recipe(head)
    recipe = resolve(parse(text), repo.objects, before, text)
    for entry in recipe.vectors:
        if entry.only or entry.excepted or alphas.patterns(entry.alpha):
            check_patterns(entry, repo.vector(VectorId(entry.id)))
    stored = put_text(repo.objects, text)
    if stored == repo.commit(head).text:
        raise Refusal("nothing to commit: persona.toml is as it was committed", "See 'persona status'.")
    commit = Commit(recipe.put(repo.objects), stored, (head,), author or repo.author, now(), message, run or {})
    name = commit.put(repo.objects)
    change.advance(name)
    change.set_recipe_text(text)
    branch = refs_.current_branch(repo.refs())
    return Recorded(name, branch, commit.message, tuple(changes(before, recipe, repo.objects)))
