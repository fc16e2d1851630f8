"""`persona show`: describe a commit, a vector or a readout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from persona.errors import PersonaError, UsageError, WrongBase, did_you_mean
from persona.evaluate.results import FigureReading, readings
from persona.graph.coverage import NodeLink, coverage
from persona.graph.pins import pinned
from persona.history.commits import Commit
from persona.history.headline import facts_of
from persona.ids import BaseId, CommitId, FisherId, ReadoutId, VectorId
from persona.notebook import Shown
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


@dataclass(frozen=True, repr=False)
class ShownCommit(Shown):
    """A commit. `changes` compares it with its first parent, `text` is its `persona.toml`.

    `run` holds the facts stored with the commit, `measured` stored evaluation results of its build.
    """

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
    """A vector's Fisher diagonal, and the data that it was estimated on. `trace` is the sum of its entries."""

    id: FisherId
    examples: int
    tokens: int
    seed: int
    tensors: int
    entries: int
    nbytes: int
    trace: float | None


@dataclass(frozen=True, repr=False)
class ShownVector(Shown):
    """A vector. `changed` lists its tensors, `run` the facts about its training, `link` the state of its node.

    `commit` and `time` say when it was first recorded. `of` is the commit whose recipe was read, None for
    `persona.toml`. `in_recipe` is False if the vector was named by its id, so that it has no alpha.
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
    """Describe a commit, a vector or a readout.

    Args:
        what: Name of a vector or readout, `NAME@REV`, the id of a vector, or a revision.

    Raises:
        UsageError: `what` is none of these.
    """
    recipe, problem = _recipe(repo)
    refs = repo.refs()
    if "@" not in what or names_a_vector(what, refs):
        readout = readout_at(repo, what, recipe)
        if readout is not None:
            return shown_readout(repo, readout)
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
        raise UsageError(f"'{what}' is not a vector, readout or revision", hint) from None
    return _commit(repo, commit)


def _recipe(repo: Repository) -> tuple[Recipe, PersonaError | None]:
    """The recipe in `persona.toml`; if that is invalid, HEAD's, and the error."""
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
        text=repo.text(name),
        run=commit.run,
        measured=readings(repo, after),
    )


def _vector(repo: Repository, worktree: Recipe, named: Named) -> ShownVector:
    vector, recipe = named.id, named.recipe or worktree
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
    fisher = Fisher.get(repo.objects, name)
    tensors, entries, nbytes = len(fisher.tensors), fisher.entries, 4 * fisher.entries
    return ShownFisher(name, fisher.examples, fisher.tokens, fisher.seed, tensors, entries, nbytes, fisher.trace)


def _facts_of(repo: Repository, commit: Commit, vector: VectorId, name: str) -> Mapping[str, Any]:
    """The facts about a vector's run in the commit that recorded it, where it may have had another name."""
    names = [entry.name for entry in Recipe.get(repo.objects, commit.recipe).vectors if entry.id == vector]
    return facts_of(commit.run, name if name in names else names[0])


def _link(repo: Repository, named: Named, recipe: Recipe) -> NodeLink | None:
    """The vector's node and its state; None without a node or a graph."""
    head = named.commit or repo.head()
    graph = graph_of(repo, head)
    links = coverage(pinned(recipe, (repo.recipe(head),), graph), graph, repo.objects).links if graph else ()
    return next((link for link in links if named.entry and link.vector == named.entry.name), None)


@dataclass(frozen=True)
class ShownReadout:
    """A readout. `commit` and `time` say when it was first recorded, `about` holds the rest of its manifest.

    `tables` has numbers by concept and layer: `norms`, `centers`, `spreads`, `auc` and `control`, if known. `counts` are
    numbers of training texts. `revision` is the commit whose model it was trained on, and `since` lists the vectors and
    settings that the recipe has changed since then, None if that commit is not in this repository. `of` is the commit
    whose recipe was read, None for `persona.toml`.
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
    """Describe a readout."""
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
