"""What verbs share about readouts: finding them by name, loading them from the store, their two files, their age."""

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
"""Order of a manifest's fields; others follow by name."""


@dataclass(frozen=True)
class NamedReadout:
    """A readout found by name. ``recipe`` has it, of ``commit`` or, if that is None, the current one."""

    name: str
    id: ReadoutId
    recipe: Recipe
    commit: CommitId | None = None


def readout_at(repo: Repository, text: str, current: Recipe | None = None) -> NamedReadout | None:
    """Find ``NAME`` in the current recipe or ``NAME@REV`` in another; None if it is not there.

    ``current`` is the recipe to use for ``NAME``, by default that of ``persona.toml``.
    """
    name, rev = split(text)
    if rev is None:
        recipe = current if current is not None else worktree_recipe(repo)
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
    """Check that the recipe has a vector or readout of that name.

    Raises:
        UsageError: it does not; the hint suggests a similar name.
    """
    if name not in recipe.names:
        hint = did_you_mean(name, recipe.names) or "The recipe has no vectors and no readouts yet."
        raise UsageError(f"no vector or readout '{name}' in the recipe", hint)


def open_readout(repo: Repository | None, spec: str | Path, cwd: Path) -> tuple[str, Readout]:
    """Open a readout, and return it after its name.

    Args:
        repo: The repository; None outside of one.
        spec: ``NAME``, ``NAME@REV`` or a folder. A ``Path``, text that starts with ``.`` or ``/`` or has several path
            components, and everything outside a repository is a folder.
        cwd: Folder that relative paths start from.

    Raises:
        UsageError: it is neither a readout of the recipe nor a readout folder.
    """
    from persona.readout.folder import is_readout, read_readout

    text, folder = str(spec), cwd / spec
    parts = "/" in text and "@" not in text  # a readout's name has no /, but REV may be a branch with one
    is_path = isinstance(spec, Path) or text.startswith((".", "/")) or parts or repo is None
    named = None if is_path or repo is None else readout_at(repo, text)
    if named is not None and repo is not None:
        return named.name, load_readout(repo, named.id)
    if is_path or is_readout(folder):
        return folder.resolve().name, read_readout(folder)
    names = [entry.name for entry in worktree_recipe(repo).readouts] if repo is not None else []
    hint = did_you_mean(text, names) or "Give a readout of the recipe, or a folder from 'persona readout train'."
    raise UsageError(f"'{text}' is neither a readout of the recipe nor a readout folder", hint)


def load_readout(repo: Repository, name: ReadoutId) -> Readout:
    """Load a readout from the store, checking its directions against their ids."""
    from persona.readout.model import Readout

    stored = StoredReadout.get(repo.objects, name)
    vectors = {
        layer: repo.tensors.read(spec.id).view("<f4").reshape(spec.shape) for layer, spec in stored.tensors.items()
    }
    return Readout(stored.concepts, stored.layers, vectors, manifest_fields(stored))


def manifest_fields(stored: StoredReadout) -> dict[str, Any]:
    """The fields of a readout's manifest besides concepts and layers, in order."""
    hidden = stored.tensors[stored.layers[0]].shape[1]
    fields = {**stored.about, "hidden": hidden, "base": stored.base, "revision": stored.revision}
    return {key: fields[key] for key in [*(k for k in _ORDER if k in fields), *sorted(fields.keys() - {*_ORDER})]}


def built_files(repo: Repository, recipe: Recipe) -> dict[str, bytes]:
    """Both files of every readout of a recipe, by their paths in a build."""
    from persona.building.receipt import READOUTS  # imported here so that 'persona show' stays quick
    from persona.readout.folder import encode

    files = {}
    for entry in recipe.readouts:
        for file, data in encode(load_readout(repo, ReadoutId(entry.id))).items():
            files[f"{READOUTS}/{entry.name}/{file}"] = data
    return files


def describe_readouts(repo: Repository, recipe: Recipe) -> dict[str, str]:
    """Describe the concepts and layers of every readout of a recipe for a model card, by name."""
    stored = {entry.name: StoredReadout.get(repo.objects, ReadoutId(entry.id)) for entry in recipe.readouts}
    return {name: f"{', '.join(r.concepts)}; {layers_text(r.layers)}" for name, r in stored.items()}


@dataclass(frozen=True)
class ReadoutState:
    """One readout of a recipe, and how old it is.

    ``revision`` is the commit whose model it was trained on, null if unknown. ``since`` lists the vectors and settings
    that differ between that commit's recipe and this one, null if this repository does not have the commit.
    """

    name: str
    id: ReadoutId
    concepts: tuple[str, ...]
    layers: tuple[int, ...]
    revision: CommitId | None = None
    since: tuple[str, ...] | None = None


def states(repo: Repository, recipe: Recipe) -> tuple[ReadoutState, ...]:
    """Describe the readouts of a recipe without reading their directions."""
    states = []
    for entry in recipe.readouts:
        stored = StoredReadout.get(repo.objects, ReadoutId(entry.id))
        since = changed_since(repo, stored, recipe)
        states.append(
            ReadoutState(entry.name, ReadoutId(entry.id), stored.concepts, stored.layers, stored.revision, since)
        )
    return tuple(states)


def changed_since(repo: Repository, stored: StoredReadout, recipe: Recipe) -> tuple[str, ...] | None:
    """Names of vectors and settings in which ``recipe`` differs from the one that a readout was trained on."""
    if stored.revision is None or stored.revision not in repo.objects:
        return None
    return tuple(_moved(repo.recipe(stored.revision), recipe))


def _moved(then: Recipe, now: Recipe) -> Iterator[str]:
    """Vectors and settings that differ; nodes are ignored, as no weight depends on them."""
    old, new = ({entry.name: replace(entry, node=None) for entry in recipe.vectors} for recipe in (then, now))
    yield from (name for name in {**old, **new} if old.get(name) != new.get(name))
    for key in ("base", "method", "scale", "parameters"):
        if getattr(then, key) != getattr(now, key):
            yield key
