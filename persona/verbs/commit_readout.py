"""`persona commit --readout`: record a readout in the recipe."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.errors import CheckpointError, WrongBase
from persona.ids import BaseId, CommitId, ReadoutId, tensor_id
from persona.progress import SILENT
from persona.recipe import edit
from persona.recipe.model import ReadoutEntry, Recipe
from persona.recipe.parse import checked_vector_name, parse
from persona.recipe.resolve import resolve
from persona.repository import Repository
from persona.store.nouns import TensorSpec
from persona.store.objects import canonical
from persona.store.readouts import StoredReadout
from persona.workspace.record import RecordedCommit, record, refuse_while_merging, worktree_text

if TYPE_CHECKING:
    from persona.readout.model import Readout

_OWN = ("base", "revision", "hidden")
"""Manifest fields that the stored object has in another form."""


@dataclass(frozen=True)
class CommitReadoutResult:
    """A committed readout.

    `recorded` is null if the recipe already had the same readout. `hidden` is the width of the directions. `revision` is
    the commit that the readout was captured on, null if unknown. `auc` is the mean over concepts and layers.
    """

    recorded: RecordedCommit | None
    name: str
    readout: ReadoutId
    concepts: tuple[str, ...]
    layers: tuple[int, ...]
    hidden: int
    revision: CommitId | None = None
    auc: float | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)


def commit_readout(
    repo: Repository,
    folder: Path | str,
    *,
    name: str | None = None,
    message: str | None = None,
    author: str = "",
    command: str = "commit",
) -> CommitReadoutResult:
    """Record a readout in the recipe.

    Args:
        folder: Folder written by `persona readout train`.
        name: Name in the recipe; by default that of the folder.
        command: Name of the operation in the operation log.

    Raises:
        CheckpointError: the folder is not a readout, or its manifest cannot be stored.
        WrongBase: the readout was captured on another base.
        UsageError: the name is invalid or a vector's, or the readout does not fit the base.
    """
    from persona.readout.folder import read_readout

    folder = Path(folder)
    readout = read_readout(folder)
    name = checked_vector_name(name or folder.resolve().name, "readout")
    about = _about(folder, readout)
    with repo.transaction(command) as change:
        refuse_while_merging(repo)
        text = worktree_text(repo)
        recipe = resolve(parse(text), repo.objects, repo.recipe(repo.head()), text)
        edit.check_no_vector(recipe, name)
        result = _stored(repo, folder, readout, about, recipe, name)
        before = recipe.readout(name)
        if before is not None and before.id == result.readout:
            same = f"'{name}' already is this readout; nothing was recorded"
            return replace(result, notes=(*result.notes, same))
        text = edit.put_readout(text, ReadoutEntry(name, result.readout))
        message = message or f"{'retrain' if before else 'add'} readout {name}"
        facts = {"readout": _facts(folder, result, about)}
        return replace(result, recorded=record(repo, change, text, message, author, facts))


def _stored(
    repo: Repository, folder: Path, readout: Readout, about: dict[str, Any], recipe: Recipe, name: str
) -> CommitReadoutResult:
    """Store the readout, if it fits the recipe's base."""
    revision, notes = _origin(repo, folder, readout, recipe.base_id, recipe.base_name)
    _check_fits(repo, readout, recipe.base_id, recipe.base_name)
    kept = _keep(repo, StoredReadout(recipe.base_id, readout.concepts, readout.layers, {}, revision, about), readout)
    return CommitReadoutResult(
        recorded=None,
        name=name,
        readout=kept,
        concepts=readout.concepts,
        layers=readout.layers,
        hidden=readout.hidden,
        revision=revision,
        auc=_mean_of(about.get("auc")),
        notes=tuple(notes),
    )


def _keep(repo: Repository, stored: StoredReadout, readout: Readout) -> ReadoutId:
    """Write the directions to a pack and the object to the store; return its id."""
    import numpy as np

    data = {
        layer: np.ascontiguousarray(readout.vectors[layer], "<f4").reshape(-1).view(np.uint8)
        for layer in readout.layers
    }
    shape = (len(readout.concepts), readout.hidden)
    specs = {layer: TensorSpec(tensor_id("F32", shape, [rows]), "F32", shape) for layer, rows in data.items()}
    with repo.tensors.writer() as writer, SILENT.task("", 0) as task:
        writer.add_tensors([(spec.id, "F32", shape, data[layer], None) for layer, spec in specs.items()], task)
        writer.finish()
    return replace(stored, tensors=specs).put(repo.objects)


def _about(folder: Path, readout: Readout) -> dict[str, Any]:
    """The manifest's other fields; raises CheckpointError if they cannot be stored."""
    about = {key: value for key, value in readout.about.items() if key not in _OWN}
    try:
        canonical([list(readout.concepts), about])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{folder / 'manifest.json'} cannot be stored: {error}",
            "Numbers must be finite; train the readout again.",
        ) from None
    return about


def _origin(
    repo: Repository, folder: Path, readout: Readout, base: BaseId, base_name: str
) -> tuple[CommitId | None, list[str]]:
    """The revision that the readout was captured on, and notes on what is unknown; WrongBase for another base."""
    own_base, revision = (_id(readout.about.get(key)) for key in ("base", "revision"))
    if own_base is not None and own_base != base:
        raise WrongBase(
            f"the readout in {folder} was captured on base {own_base[:12]}, "
            f"but the recipe's base is {base_name or 'unnamed'} ({base.short})",
            "Train the readout on a model of this base: persona readout train --model REV.",
        )
    notes = [] if own_base is not None else ["its manifest does not say which base it was captured on"]
    if revision is None:
        notes += ["its manifest does not say which revision it was captured on"] if own_base is not None else []
        return None, notes
    if CommitId(revision) not in repo.objects:
        notes.append(f"it was captured on revision {revision[:12]}, which is not in this repository")
    elif repo.objects.kind(CommitId(revision)) != "commit":
        return None, [*notes, f"its manifest says that it was captured on {revision[:12]}, which is not a commit"]
    return CommitId(revision), notes


def _id(value: object) -> str | None:
    """A full id, or None; other tools may write anything."""
    try:
        return BaseId(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _check_fits(repo: Repository, readout: Readout, base_id: BaseId, base_name: str) -> None:
    from persona.readout.fit import check_fits

    base = repo.base(base_id)
    shapes = {name: spec.shape for name, spec in base.tensors.items()}
    check_fits(readout, repo.model_config(base), shapes, f"the base {base_name or base_id.short}")


def _facts(folder: Path, result: CommitReadoutResult, about: Mapping[str, Any]) -> dict[str, Any]:
    """Facts about the readout for the commit."""
    facts = {
        "name": result.name,
        "folder": os.fsencode(folder).decode(errors="replace"),
        "concepts": list(result.concepts),
        "layers": list(result.layers),
        **{key: about[key] for key in ("aggregator", "pooling", "model") if isinstance(about.get(key), str)},
    }
    return facts if result.auc is None else facts | {"auc": result.auc}


def _mean_of(table: object) -> float | None:
    """Mean of a nested table of numbers; None if it has none."""
    numbers = list(_numbers(table))
    return sum(numbers) / len(numbers) if numbers else None


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, list):
        for inner in value:
            yield from _numbers(inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)
