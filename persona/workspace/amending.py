"""``commit --amend``: a commit that takes the place of HEAD's. The replaced one stays in the operation log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from persona.errors import Refusal
from persona.graph.pins import pinned
from persona.history import refs as refs_
from persona.history.commits import put_text
from persona.ids import CommitId
from persona.recipe.changes import changes
from persona.repository import Repository, Transaction, now
from persona.store.graphs import Graph
from persona.workspace.record import RecordedCommit, checked_recipe, refuse_while_merging


def amend(
    repo: Repository, change: Transaction, text: str, message: str | None, facts: Mapping[str, Any]
) -> RecordedCommit:
    """Replace HEAD's commit by one with the same parents, author and memory graph.

    Args:
        text: The ``persona.toml`` to record.
        message: The new message; the old one for None.
        facts: Added to those of the run.

    Raises:
        UsageError: ``text`` is not a valid recipe.
        Refusal: nothing would change, nothing would be left of the commit, or a merge is in progress.
    """
    refuse_while_merging(repo)
    head = repo.head()
    old, before = repo.commit(head), repo.recipe(head)
    graph = Graph.get(repo.objects, old.graph) if old.graph else None
    recipe = pinned(checked_recipe(repo, text, (before,)), (before,), graph, None)
    resolved, stored = recipe.put(repo.objects), put_text(repo.objects, text)
    new = replace(old, recipe=resolved, text=stored, message=message or old.message, run={**old.run, **facts})
    if new == old:
        raise Refusal(
            "nothing to amend", "Edit persona.toml, or give another message: persona commit --amend -m MESSAGE"
        )
    if len(old.parents) == 1:
        parent = repo.commit(old.parents[0])
        if (parent.recipe, parent.text, parent.graph) == (resolved, stored, old.graph):
            raise Refusal("nothing would be left of the commit", "Take it back instead: persona undo")
    name = replace(new, time=now()).put(repo.objects)
    change.advance(name)
    change.set_recipe_text(text)
    since = repo.recipe(old.parents[0]) if old.parents else recipe
    branch = refs_.current_branch(repo.refs())
    differences = tuple(changes(since, recipe, repo.objects))
    return RecordedCommit(name, branch, new.message, differences, _still_there(repo, head))


def _still_there(repo: Repository, replaced: CommitId) -> tuple[str, ...]:
    """A note about the other branches and the tags that keep the replaced commit."""
    refs = repo.refs()
    branch = refs_.current_branch(refs)
    kept = [
        refs_.short_name(name)
        for name in sorted(refs)
        if name.startswith((refs_.BRANCHES, refs_.TAGS)) and name != f"{refs_.BRANCHES}{branch}"
        if replaced in repo.ancestry.of([refs_.commit_of(name, refs)])
    ]
    return (f"the earlier commit {replaced[:7]} stays in {', '.join(kept)}",) if kept else ()
