"""``persona show``: all that is known of a commit, of a vector, or of a readout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from persona.errors import PersonaError, UsageError, WrongBase, did_you_mean
from persona.evaluate.results import FigureReading, readings
from persona.graph.coverage import NodeLink, coverage
from persona.graph.pins import pinned
from persona.history.commits import Commit, get_text
from persona.history.headline import facts_of
from persona.ids import BaseId, CommitId, FisherId, ReadoutId, VectorId
from persona.readout.select import TABLES, is_table
from persona.recipe.changes import RecipeChange, changes
from persona.recipe.model import Entry, Recipe
from persona.recipe.naming import Named, by_id, names_a_vector, vector_at
from persona.repository import Repository
from persona.store.fishers import Fisher
from persona.store.readouts import StoredReadout
from persona.workspace.graphs import graph_of
from persona.workspace.origin import first_commit
from persona.workspace.readouts import NamedReadout, changed_since, readout_at
from persona.workspace.record import worktree_recipe
from persona.workspace.vectors import VectorSummary, summarize


@dataclass(frozen=True)
class ShownCommit:
    """A commit, what it changed against its first parent, its recipe file, and what was measured of its build."""

    commit: CommitId
    parents: tuple[CommitId, ...]
    author: str
    time: str
    message: str
    changes: tuple[RecipeChange, ...]
    text: str
    run: Mapping[str, Any] = field(default_factory=dict)
    measured: tuple[FigureReading, ...] = ()


@dataclass(frozen=True)
class ShownFisher:
    """A vector's Fisher diagonal: how large it is, and what it was estimated on."""

    id: FisherId
    examples: int
    tokens: int
    seed: int
    tensors: int
    entries: int
    nbytes: int
    trace: float | None


@dataclass(frozen=True)
class ShownVector:
    """A vector, where it was committed first, what was known of its run, how it stands to its node, and its diagonal.

    ``of`` is the commit whose recipe has it so, None for ``persona.toml``; ``in_recipe`` is False if only its id was given,
    and no recipe was looked at: then it has no alpha of its own.
    """

    vector: VectorSummary
    base_name: str
    commit: CommitId | None
    time: str | None
    changed: tuple[str, ...]
    run: Mapping[str, Any] = field(default_factory=dict)
    link: NodeLink | None = None
    of: CommitId | None = None
    in_recipe: bool = True
    fisher: ShownFisher | None = None


def show(repo: Repository, what: str = "HEAD") -> ShownCommit | ShownVector | ShownReadout:
    """A vector or readout by its name or by ``NAME@REV``, a vector by its id; or else a revision."""
    recipe, problem = _recipe(repo)
    refs = repo.refs()
    if "@" not in what or names_a_vector(what, refs):
        found = readout_at(repo, what, recipe)
        if found is not None:
            return shown_readout(repo, found)
    if recipe.entry(what) is not None or names_a_vector(what, refs):
        return _vector(repo, recipe, vector_at(what, recipe, refs, repo.objects, repo.log))
    try:
        commit = repo.resolve(what)
    except UsageError as error:
        if not error.message.startswith("no revision"):
            raise
        if problem is not None:
            raise problem from None
        if by_id(what, repo.objects) is not None:
            return _vector(repo, recipe, vector_at(what, recipe, refs, repo.objects, repo.log))
        hint = did_you_mean(what, [*recipe.names, *(r.rpartition("/")[2] for r in refs)])
        raise UsageError(f"'{what}' is neither a vector or readout of the recipe nor a revision", hint) from None
    return _commit(repo, commit)


def _recipe(repo: Repository) -> tuple[Recipe, PersonaError | None]:
    """The recipe in ``persona.toml``, or HEAD's where that cannot be used, and why not."""
    try:
        if repo.recipe_text() is not None:
            return worktree_recipe(repo), None
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
        changes=tuple(changes(before, after, repo.objects)),
        text=get_text(repo.objects, commit.text),
        run=commit.run,
        measured=readings(repo, after),
    )


def _vector(repo: Repository, standing: Recipe, named: Named) -> ShownVector:
    vector, recipe = named.id, named.recipe or standing
    first = first_commit(repo, vector, named.commit)
    commit = repo.commit(first) if first else None
    return ShownVector(
        vector=summarize(repo, named.entry or Entry(named.name, vector), recipe),
        base_name=recipe.base_name,
        commit=first,
        time=commit.time if commit else None,
        changed=tuple(sorted(repo.vector(vector).names)),
        run=_facts_of(repo, commit, vector, named.name) if commit else {},
        of=named.commit,
        in_recipe=named.entry is not None,
        link=_link(repo, named, recipe),
        fisher=_fisher(repo, named.entry),
    )


def _fisher(repo: Repository, entry: Entry | None) -> ShownFisher | None:
    if entry is None or entry.fisher is None:
        return None
    name = FisherId(entry.fisher)
    one = Fisher.get(repo.objects, name)
    large = len(one.tensors), one.entries, 4 * one.entries
    return ShownFisher(name, one.examples, one.tokens, one.seed, *large, one.trace)


def _facts_of(repo: Repository, commit: Commit, vector: VectorId, name: str) -> Mapping[str, Any]:
    """What a commit knows of the run that made a vector, under the name that it had there."""
    names = [one.name for one in Recipe.get(repo.objects, commit.recipe).vectors if one.id == vector]
    return facts_of(commit.run, name if name in names else names[0])


def _link(repo: Repository, named: Named, recipe: Recipe) -> NodeLink | None:
    """The vector's node and its state; None without a node, or without a graph."""
    head = named.commit or repo.head()
    graph = graph_of(repo, head)
    links = coverage(pinned(recipe, (repo.recipe(head),), graph), graph, repo.objects).links if graph else ()
    return next((link for link in links if named.entry and link.vector == named.entry.name), None)


@dataclass(frozen=True)
class ShownReadout:
    """A readout, where it was committed first, and what its manifest says.

    ``tables`` are numbers by concept and layer: ``norms``, ``centers``, ``spreads``, ``auc`` and ``control``, those of
    them that are there. ``revision`` is the commit that it was captured on, ``since`` are the vectors and settings that
    the recipe has otherwise than that one, null where there is no such commit here. ``of`` is the commit whose recipe has
    it, None for ``persona.toml``.
    """

    name: str
    id: ReadoutId
    base: BaseId
    base_name: str
    concepts: tuple[str, ...]
    layers: tuple[int, ...]
    hidden: int
    tables: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    revision: CommitId | None = None
    since: tuple[str, ...] | None = None
    commit: CommitId | None = None
    time: str | None = None
    of: CommitId | None = None


def shown_readout(repo: Repository, named: NamedReadout) -> ShownReadout:
    """The readout that a text means."""
    stored = StoredReadout.get(repo.objects, named.id)
    first = first_commit(repo, named.id, named.commit)
    shape = (len(stored.concepts), len(stored.layers))
    tables = {key: stored.about[key] for key in TABLES if is_table(stored.about.get(key), shape)}
    counts = stored.about.get("counts")
    known = {*tables, *(("counts",) if isinstance(counts, Mapping) else ())}
    return ShownReadout(
        name=named.name,
        id=named.id,
        base=stored.base,
        base_name=named.recipe.base_name,
        concepts=stored.concepts,
        layers=stored.layers,
        hidden=stored.tensors[stored.layers[0]].shape[1],
        tables=tables,
        counts=counts if isinstance(counts, Mapping) else {},
        about={key: value for key, value in stored.about.items() if key not in known},
        revision=stored.revision,
        since=changed_since(repo, stored, named.recipe),
        commit=first,
        time=repo.commit(first).time if first else None,
        of=named.commit,
    )
