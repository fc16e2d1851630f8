"""``persona diff``: what changed between two recipes."""

from __future__ import annotations

from dataclasses import dataclass

from persona.history.revisions import resolve
from persona.recipe.changes import Change, changes
from persona.recipe.model import Recipe
from persona.repository import Repository
from persona.verbs.recording import standing_recipe

WORK_TREE = "persona.toml"


@dataclass(frozen=True)
class Diffed:
    """Differences from ``before`` to ``after``, both named as a person would."""

    before: str
    after: str
    changes: tuple[Change, ...]


def diff(repo: Repository, before: str | None = None, after: str | None = None) -> Diffed:
    """Between two revisions; ``after`` is the edited recipe unless given, ``before`` HEAD unless given."""
    old, old_name = _recipe(repo, before or "HEAD")
    new, new_name = _recipe(repo, after) if after is not None else (standing_recipe(repo), WORK_TREE)
    return Diffed(old_name, new_name, tuple(changes(old, new)))


def _recipe(repo: Repository, rev: str) -> tuple[Recipe, str]:
    commit = resolve(rev, repo.refs(), repo.objects)
    return repo.recipe(commit), f"{rev} ({commit.short})"
