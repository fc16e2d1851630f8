"""What the verbs share that know readouts: by what name, what is kept of them, and their two files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.errors import UsageError, did_you_mean
from persona.ids import CommitId, ReadoutId
from persona.recipe.model import Recipe
from persona.recipe.naming import split
from persona.repository import Repository
from persona.store.readouts import StoredReadout, layers_text
from persona.workspace.record import worktree_recipe

if TYPE_CHECKING:
    from persona.readout.model import Readout

_ORDER = (
    "site", "pooling", "aggregator", "normalisation", "norms", "centers", "spreads", "auc", "control", "counts",
    "hidden", "base", "revision", "model", "source",
)  # fmt: skip
"""Of a manifest's fields; others follow by name."""


@dataclass(frozen=True)
class NamedReadout:
    """A readout that a text means. ``commit`` is whose recipe has it, None for the one that stands."""

    name: str
    id: ReadoutId
    recipe: Recipe
    commit: CommitId | None = None


def readout_at(repo: Repository, text: str, standing: Recipe | None = None) -> NamedReadout | None:
    """``NAME`` of the recipe as it stands, or ``NAME@REV`` of another; None if no such recipe has it."""
    name, rev = split(text)
    if rev is None:
        recipe = standing if standing is not None else worktree_recipe(repo)
        entry = recipe.readout(name)
        return NamedReadout(name, ReadoutId(entry.id), recipe) if entry else None
    try:
        commit = repo.resolve(rev)
    except UsageError:
        return None
    recipe = repo.recipe(commit)
    entry = recipe.readout(name)
    return NamedReadout(name, ReadoutId(entry.id), recipe, commit) if entry else None


def known_name(recipe: Recipe, name: str) -> None:
    """Raise, with a suggestion, unless the recipe calls a vector or a readout so."""
    if name not in recipe.names:
        hint = did_you_mean(name, recipe.names) or "The recipe has no vectors and no readouts yet."
        raise UsageError(f"no vector or readout '{name}' in the recipe", hint)


def open_readout(repo: Repository | None, said: str | Path, cwd: Path) -> tuple[str, Readout]:
    """A name for it, and the readout that ``said`` means: ``NAME``, ``NAME@REV``, or a folder relative to ``within``.

    What begins with ``.`` or ``/``, any other path of several parts and any ``Path`` is a folder; so is everything outside
    of a repository.
    """
    from persona.readout.folder import is_readout, read_readout

    text, folder = str(said), cwd / said
    parts = "/" in text and "@" not in text  # a name has no /, and a branch may have one
    is_path = isinstance(said, Path) or text.startswith((".", "/")) or parts or repo is None
    found = None if is_path or repo is None else readout_at(repo, text)
    if found is not None and repo is not None:
        return found.name, load_readout(repo, found.id)
    if is_path or is_readout(folder):
        return folder.resolve().name, read_readout(folder)
    names = [entry.name for entry in worktree_recipe(repo).readouts] if repo is not None else []
    hint = did_you_mean(text, names) or "Give a readout of the recipe, or the folder of 'persona readout train'."
    raise UsageError(f"'{text}' is no readout of the recipe and no folder of one", hint)


def load_readout(repo: Repository, name: ReadoutId) -> Readout:
    """A readout of the store; its directions are checked against their ids."""
    from persona.readout.model import Readout

    stored = StoredReadout.get(repo.objects, name)
    vectors = {
        layer: repo.tensors.read(spec.id).view("<f4").reshape(spec.shape) for layer, spec in stored.tensors.items()
    }
    return Readout(stored.concepts, stored.layers, vectors, manifest_fields(stored))


def manifest_fields(stored: StoredReadout) -> dict[str, Any]:
    """What the manifest says besides concepts and layers, in its order."""
    hidden = stored.tensors[stored.layers[0]].shape[1]
    fields = {**stored.about, "hidden": hidden, "base": stored.base, "revision": stored.revision}
    return {key: fields[key] for key in [*(k for k in _ORDER if k in fields), *sorted(fields.keys() - {*_ORDER})]}


def built_files(repo: Repository, recipe: Recipe) -> dict[str, bytes]:
    """Both files of every readout of a recipe, by their paths in a build."""
    from persona.building.receipt import READOUTS  # building is not for those who only look
    from persona.readout.folder import encode

    found = {}
    for entry in recipe.readouts:
        for file, data in encode(load_readout(repo, ReadoutId(entry.id))).items():
            found[f"{READOUTS}/{entry.name}/{file}"] = data
    return found


def said_of(repo: Repository, recipe: Recipe) -> dict[str, str]:
    """What every readout of a recipe measures and where, as a model card says it."""
    stored = {entry.name: StoredReadout.get(repo.objects, ReadoutId(entry.id)) for entry in recipe.readouts}
    return {name: f"{', '.join(one.concepts)}; {layers_text(one.layers)}" for name, one in stored.items()}


@dataclass(frozen=True)
class ReadoutState:
    """One readout of a recipe, and how old it is.

    ``revision`` is the commit that it was captured on, null where that is not known; ``since`` are the vectors and
    settings in which the recipe differs from that commit's, null where there is no such commit here.
    """

    name: str
    id: ReadoutId
    concepts: tuple[str, ...]
    layers: tuple[int, ...]
    revision: CommitId | None = None
    since: tuple[str, ...] | None = None


def states(repo: Repository, recipe: Recipe) -> tuple[ReadoutState, ...]:
    """The readouts of a recipe, from small files only."""
    found = []
    for entry in recipe.readouts:
        stored = StoredReadout.get(repo.objects, ReadoutId(entry.id))
        since = changed_since(repo, stored, recipe)
        found.append(
            ReadoutState(entry.name, ReadoutId(entry.id), stored.concepts, stored.layers, stored.revision, since)
        )
    return tuple(found)


def changed_since(repo: Repository, stored: StoredReadout, recipe: Recipe) -> tuple[str, ...] | None:
    """Names of vectors (and of settings) that would make ``recipe``'s model another than the readout was captured on."""
    if stored.revision is None or stored.revision not in repo.objects:
        return None
    return tuple(_moved(repo.recipe(stored.revision), recipe))


def _moved(then: Recipe, now: Recipe) -> Iterator[str]:
    """Vectors that are not as they were, and settings; what no weight depends on is left out."""
    old, new = ({one.name: replace(one, node=None) for one in recipe.vectors} for recipe in (then, now))
    yield from (name for name in {**old, **new} if old.get(name) != new.get(name))
    for key in ("base", "method", "scale", "parameters"):
        if getattr(then, key) != getattr(now, key):
            yield key
