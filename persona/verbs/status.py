"""``persona status``: the current branch, edits in persona.toml, and the next step."""

from __future__ import annotations

from dataclasses import dataclass

from persona import methods
from persona.errors import PersonaError
from persona.history import refs as refs_
from persona.ids import CommitId
from persona.notebook import Shown
from persona.recipe import alphas
from persona.recipe.changes import RecipeChange, changes
from persona.recipe.model import Recipe
from persona.recipe.parse import parse
from persona.recipe.resolve import resolve
from persona.repository import Repository
from persona.store.lists import ExternalFile, all_outside
from persona.workspace.graphs import stale_vectors
from persona.workspace.merging import labels_of
from persona.workspace.readouts import ReadoutState, states
from persona.workspace.record import worktree_text


@dataclass(frozen=True, repr=False)
class Status(Shown):
    """The state of the repository.

    ``edited`` and ``changes`` compare ``persona.toml`` with HEAD. ``problem`` is the reason why ``persona.toml`` cannot be
    read; ``recipe`` is then that of HEAD. ``next`` is the likely next command. ``outside`` are files that the repository
    needs but does not store; ``self_contained`` means that there are none. ``stale`` are vectors that no longer match the
    text of their node. ``merging`` are the names of what an unfinished merge is merging. ``readouts`` has the state of
    each readout of the recipe.
    """

    branch: str | None
    commit: CommitId
    subject: str
    edited: bool
    changes: tuple[RecipeChange, ...]
    recipe: Recipe
    problem: str | None
    next: str
    outside: tuple[ExternalFile, ...] = ()
    self_contained: bool = True
    stale: tuple[str, ...] = ()
    merging: tuple[str, ...] = ()
    readouts: tuple[ReadoutState, ...] = ()


def status(repo: Repository) -> Status:
    """Return the state of the repository; reads only small files."""
    refs = repo.refs()
    head = refs_.head_commit(refs)
    committed = repo.recipe(head)
    edited = repo.is_edited()
    recipe, problem = committed, None
    if edited:
        try:
            text = worktree_text(repo)
            recipe = resolve(parse(text), repo.objects, committed, text)
        except PersonaError as error:
            problem = error.message
    differences = tuple(changes(committed, recipe, repo.objects))
    outside = all_outside(repo.folder / "packs")
    merging = tuple(labels_of(repo, refs_.merge_heads(refs)))
    return Status(
        branch=refs_.current_branch(refs),
        commit=head,
        subject=repo.commit(head).subject,
        edited=edited,
        changes=differences,
        recipe=recipe,
        problem=problem,
        next=_next(refs, problem, edited, recipe),
        outside=outside,
        self_contained=not outside,
        stale=stale_vectors(repo, head, recipe),
        merging=merging,
        readouts=states(repo, recipe),
    )


def _next(refs: refs_.RefMap, problem: str | None, edited: bool, recipe: Recipe) -> str:
    """Return the likely next command."""
    if refs_.merge_heads(refs):
        return "resolve the conflicts in persona.toml, then: persona commit" if problem else "persona commit"
    if refs_.is_bisecting(refs) and not edited:
        return "persona bisect good | bad | skip | reset"
    if problem:
        return "persona restore"
    if edited:
        return 'persona commit -m "…"'
    if not recipe.vectors:
        return "persona commit RUN --as NAME"
    if refs_.current_branch(refs) is None:
        return "persona switch -c NAME"
    if (name := _without_fisher(recipe)) is not None:
        return f"persona fisher {name} --data FILE"
    return "persona build -o OUT"


def _without_fisher(recipe: Recipe) -> str | None:
    """Return the first vector without the Fisher diagonal that the merge method needs, or None."""
    acting = [entry for entry in recipe.vectors if alphas.acts(entry.alpha)]
    if len(acting) < 2 or recipe.method not in methods.names() or not methods.weighs(methods.load(recipe.method)):
        return None
    return next((entry.name for entry in acting if entry.fisher is None), None)
