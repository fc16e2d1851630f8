"""``persona status``: where we are, what is edited, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass

from persona import methods
from persona.errors import PersonaError
from persona.history import refs as refs_
from persona.ids import CommitId
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


@dataclass(frozen=True)
class Status:
    """``problem`` says why ``persona.toml`` cannot be read as it stands; ``recipe`` is then the committed one.

    ``stale`` are vectors that do not implement what their nodes say now, ``merging`` what an unfinished merge merges.
    ``readouts`` are those of the recipe, and how old they are. ``outside`` are files that the repository needs and keeps no
    bytes of; without any it is self-contained.
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
    """The state of the repository, from small files only."""
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
        next=_next_under_way(refs, problem, edited) or _next(problem, edited, recipe, refs_.current_branch(refs)),
        outside=outside,
        self_contained=not outside,
        stale=stale_vectors(repo, head, recipe),
        merging=merging,
        readouts=states(repo, recipe),
    )


def _next_under_way(refs: refs_.RefMap, problem: str | None, edited: bool) -> str | None:
    """How a merge or a search goes on; None where there is none."""
    if refs_.merge_heads(refs):
        return "settle it in persona.toml, then: persona commit" if problem else "persona commit"
    return "persona bisect good | bad | skip | reset" if refs_.is_bisecting(refs) and not edited else None


def _next(problem: str | None, edited: bool, recipe: Recipe, branch: str | None) -> str:
    """The likely next command."""
    if problem:
        return "persona restore"
    if edited:
        return 'persona commit -m "…"'
    if not recipe.vectors:
        return "persona commit RUN --as NAME"
    if branch is None:
        return "persona switch -c NAME"
    if (name := _unweighed(recipe)) is not None:
        return f"persona fisher {name} --data FILE"
    return "persona build -o OUT"


def _unweighed(recipe: Recipe) -> str | None:
    """The first vector that the method would weigh by a Fisher diagonal, and that has none."""
    acting = [entry for entry in recipe.vectors if alphas.acts(entry.alpha)]
    if len(acting) < 2 or recipe.method not in methods.names() or not methods.weighs(methods.load(recipe.method)):
        return None
    return next((entry.name for entry in acting if entry.fisher is None), None)
