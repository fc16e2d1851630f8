"""``persona commit --readout``: version a readout with the recipe that it measures."""

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
"""Fields of a manifest that the object says in its own way."""


@dataclass(frozen=True)
class CommitReadoutResult:
    """What ``commit --readout`` did. ``recorded`` is None when the very same readout was there already.

    ``revision`` is the commit that it was captured on, None where that is not known.
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
    """Record the readout in ``folder`` (what ``persona readout train`` wrote) as ``name`` of the recipe.

    It must fit the base, and have been captured on it.
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
        done = _taken(repo, folder, readout, about, recipe, name)
        before = recipe.readout(name)
        if before is not None and before.id == done.readout:
            same = f"'{name}' has this very readout already; nothing new was recorded"
            return replace(done, notes=(*done.notes, same))
        text = edit.put_readout(text, ReadoutEntry(name, done.readout))
        said = message or f"{'retrain' if before else 'add'} readout {name}"
        facts = {"readout": _facts(folder, done, about)}
        return replace(done, recorded=record(repo, change, text, said, author, facts))


def _taken(
    repo: Repository, folder: Path, readout: Readout, about: dict[str, Any], recipe: Recipe, name: str
) -> CommitReadoutResult:
    """Keep it, if it is one of the recipe's base."""
    revision, notes = _origin(repo, folder, readout, recipe.base_id, recipe.base_name)
    _check_fits(repo, readout, recipe.base_id, recipe.base_name)
    kept = keep(repo, StoredReadout(recipe.base_id, readout.concepts, readout.layers, {}, revision, about), readout)
    return CommitReadoutResult(
        recorded=None,
        name=name,
        readout=kept,
        concepts=readout.concepts,
        layers=readout.layers,
        hidden=readout.hidden,
        revision=revision,
        auc=mean_of(about.get("auc")),
        notes=tuple(notes),
    )


def keep(repo: Repository, stored: StoredReadout, readout: Readout) -> ReadoutId:
    """Keep the directions in a pack, and the object; its id."""
    import numpy as np

    data = {
        layer: np.ascontiguousarray(readout.vectors[layer], "<f4").reshape(-1).view(np.uint8)
        for layer in readout.layers
    }
    shape = (len(readout.concepts), readout.hidden)
    specs = {layer: TensorSpec(tensor_id("F32", shape, [one]), "F32", shape) for layer, one in data.items()}
    with repo.tensors.writer() as writer, SILENT.task("", 0) as task:
        writer.add_tensors([(spec.id, "F32", shape, data[layer], None) for layer, spec in specs.items()], task)
        writer.finish()
    return replace(stored, tensors=specs).put(repo.objects)


def _about(folder: Path, readout: Readout) -> dict[str, Any]:
    """The manifest's other fields, if they are JSON that can be kept."""
    about = {key: value for key, value in readout.about.items() if key not in _OWN}
    try:
        canonical([list(readout.concepts), about])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{folder / 'manifest.json'} cannot be kept: {error}", "Numbers are finite: train the readout again."
        ) from None
    return about


def _origin(
    repo: Repository, folder: Path, readout: Readout, base: BaseId, base_name: str
) -> tuple[CommitId | None, list[str]]:
    """The revision that it was captured on, and what of its origin is not known; WrongBase if it is another base's."""
    said, revision = (_id(readout.about.get(key)) for key in ("base", "revision"))
    if said is not None and said != base:
        raise WrongBase(
            f"the readout in {folder} was captured on base {said[:12]}, "
            f"and the recipe's base is {base_name or 'unnamed'} ({base.short})",
            "Train it on a model of this base: persona readout train --model REV.",
        )
    notes = [] if said is not None else ["its manifest does not say which base it was captured on"]
    if revision is None:
        notes += ["its manifest does not say which revision it was captured on"] if said is not None else []
        return None, notes
    if CommitId(revision) not in repo.objects:
        notes.append(f"it was captured on revision {revision[:12]}, which is not in this repository")
    elif repo.objects.kind(CommitId(revision)) != "commit":
        return None, [*notes, f"its manifest says that it was captured on {revision[:12]}, which is no commit"]
    return CommitId(revision), notes


def _id(value: object) -> str | None:
    """A whole id; None for anything else, as other tools may write."""
    try:
        return BaseId(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _check_fits(repo: Repository, readout: Readout, base_id: BaseId, base_name: str) -> None:
    from persona.readout.fit import check_fits

    base = repo.base(base_id)
    shapes = {name: spec.shape for name, spec in base.tensors.items()}
    check_fits(readout, repo.model_config(base), shapes, f"the base {base_name or base_id.short}")


def _facts(folder: Path, done: CommitReadoutResult, about: Mapping[str, Any]) -> dict[str, Any]:
    """What the commit keeps of it, for the log and for people."""
    said = {key: about[key] for key in ("aggregator", "pooling", "model") if isinstance(about.get(key), str)}
    facts = {
        "name": done.name,
        "folder": os.fsencode(folder).decode(errors="replace"),
        "concepts": list(done.concepts),
        "layers": list(done.layers),
        **said,
    }
    return facts if done.auc is None else facts | {"auc": done.auc}


def mean_of(table: object) -> float | None:
    """The mean of a table of numbers by concept and layer; None if it is none."""
    numbers = list(_numbers(table))
    return sum(numbers) / len(numbers) if numbers else None


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, list):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)
