"""``persona diff``: what changed between any two of revision, work tree, vector, built folder and checkpoint, or readouts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.errors import NoRepository, Refusal, UsageError
from persona.evaluate.results import FigureDiff, moves
from persona.history import refs as refs_
from persona.ids import SHORT, ReadoutId, VectorId
from persona.progress import SILENT, Progress
from persona.recipe.changes import READOUT_RETRAINED, RecipeChange, changes
from persona.recipe.model import Recipe
from persona.repository import Repository
from persona.verbs.interference import report_on
from persona.workspace import operands as sides
from persona.workspace.operands import CHECKPOINT, READOUT, REVISION, WORK_TREE, Operand
from persona.workspace.readouts import load_readout, readout_at
from persona.workspace.record import entry_of

if TYPE_CHECKING:
    from persona.building.compare import Comparison
    from persona.building.interference import Interference
    from persona.building.receipt import ReceiptDifference
    from persona.readout.model import Readout
    from persona.workspace.weights import FileChange


@dataclass(frozen=True)
class DiffResult:
    """Differences from ``before`` to ``after``, both named as a person would.

    ``weights`` is the interference report of two recipes; ``tensors`` and ``files`` are the models themselves. They are
    None, or empty, where weights were not read. ``readouts`` are those that were trained again. ``unlike`` is what is no longer as
    a folder was built. ``measured`` is what suites found on both sides, where that is kept.
    """

    before: str
    after: str
    kinds: tuple[str, str]
    differs: bool
    changes: tuple[RecipeChange, ...]
    weights: Interference | None = None
    tensors: Comparison | None = None
    files: tuple[FileChange, ...] = ()
    unlike: tuple[ReceiptDifference, ...] = ()
    notes: tuple[str, ...] = ()
    readouts: tuple[ReadoutDiff, ...] = ()
    measured: tuple[FigureDiff, ...] = ()


def diff(
    repo: Repository | None,
    before: str | Path | None = None,
    after: str | Path | None = None,
    *,
    weights: bool = False,
    stat: bool = False,
    by: str = "layer",
    cwd: Path | str = ".",
    progress: Progress = SILENT,
) -> DiffResult:
    """Between two sides; ``after`` is the edited recipe unless given, ``before`` HEAD unless given.

    A side is a revision, a vector (``NAME``, ``NAME@REV``), or a folder, whose path is relative to ``within``; a vector
    alone is compared with the vector of that name in the edited recipe. A readout is compared with a readout. With ``weights`` or ``stat`` the weights are
    read, by layer or tensor, those of a revision as it would be built; a checkpoint has nothing else, so they always
    are. ``weights`` also reports how far the vectors of ``after`` agree. Two folders need no repository.
    """
    old, new = _sides(repo, before, after, Path(cwd))
    found, unlike = tuple(_changes(repo, old, new)), (*old.unlike, *new.unlike)
    notes = (*old.notes, *new.notes)
    if READOUT in (old.kind, new.kind):
        _check_readouts(old, new, weights=weights, stat=stat)
    found, turned = compare_readouts(repo, found)
    told = DiffResult(
        old.label, new.label, (old.kind, new.kind), bool(found or unlike), found, unlike=unlike, notes=notes
    )
    told = replace(told, readouts=turned, measured=_measured(repo, old, new))
    if not (weights or stat or CHECKPOINT in told.kinds):
        return told
    report = _report(repo, old, new, by, progress) if weights else None
    told = _weighed(repo, replace(told, weights=report), old, new, by, progress)
    return _with_cosines(repo, told, old, new, progress)


def _sides(repo: Repository | None, before: str | Path | None, after: str | Path | None, cwd: Path) -> list[Operand]:
    if repo is None and (before is None or after is None):
        raise NoRepository(
            "there is no persona repository here", "Two folders can be compared without one: persona diff A B"
        )
    old = sides.operand_of(repo, before if before is not None else refs_.HEAD, cwd, readouts=True)
    if after is not None or repo is None:
        return [old, sides.operand_of(repo, after or "", cwd, readouts=True)]
    if old.kind == READOUT:
        return _with_standing_readout(repo, old, str(before))
    if old.vector is None:
        return [old, sides.worktree_operand(repo)]
    name = old.vector.name
    if before == name:  # as it was committed, to as it is now
        head = repo.recipe(repo.head())
        old = sides.vector_operand(entry_of(head, name), head, f"{name}@{refs_.HEAD}")
    return [old, sides.worktree_vector(repo, name)]


def _with_standing_readout(repo: Repository, old: Operand, said: str) -> list[Operand]:
    """A readout, and the one of its name in the edited recipe; of a name alone, from how it was committed."""
    name = _recipe(old).readouts[0].name
    new = readout_at(repo, name)
    if new is None:
        raise UsageError(f"no readout '{name}' in the recipe as it stands", "Name another one as well.")
    if said == name and (committed := readout_at(repo, f"{name}@{refs_.HEAD}")) is not None:
        old = sides.readout_operand(committed, f"{name}@{refs_.HEAD}")
    return [old, sides.readout_operand(new, name)]


def _check_readouts(old: Operand, new: Operand, *, weights: bool, stat: bool) -> None:
    if old.kind != new.kind:
        raise UsageError("a readout can only be compared with a readout", "Name two: persona diff NAME@REV NAME")
    if weights or stat:
        raise UsageError("readouts have no weights", "Leave --weights and --stat out.")


def _changes(repo: Repository | None, old: Operand, new: Operand) -> list[RecipeChange]:
    """What the recipes say; of two vectors, what the vectors are."""
    if old.recipe is None or new.recipe is None:
        return []
    if repo is not None and old.vector is not None and new.vector is not None:
        return list(_between_vectors(repo, old, new))
    if old.kind == new.kind == READOUT:  # two of another name are compared all the same
        [entry], name = old.recipe.readouts, new.recipe.readouts[0].name
        return changes(old.recipe.with_readouts([replace(entry, name=name)]), new.recipe)
    return changes(old.recipe, new.recipe, repo.objects if repo is not None else None)


def _measured(repo: Repository | None, old: Operand, new: Operand) -> tuple[FigureDiff, ...]:
    if repo is None or old.recipe is None or new.recipe is None:
        return ()
    return moves(repo, old.recipe, new.recipe)


def _between_vectors(repo: Repository, old: Operand, new: Operand) -> Iterator[RecipeChange]:
    ids = [VectorId(one.vector.id) for one in (old, new) if one.vector is not None]
    one, other = (repo.vector(name) for name in ids)
    facts: dict[str, tuple[Any, Any]] = {
        "id": (ids[0].short, ids[1].short),
        "base": (one.base[:SHORT], other.base[:SHORT]),
        "form": (one.form, other.form),
        "tensors": (len(one.names), len(other.names)),
        "files": (tuple(sorted(one.files)), tuple(sorted(other.files))),
    }
    for name, (before, after) in facts.items():
        if before != after:
            yield RecipeChange("setting", name, before, after)


def _report(repo: Repository | None, old: Operand, new: Operand, by: str, progress: Progress) -> Interference | None:
    """How far the vectors of the newer recipe agree, where both sides are recipes of this repository on one base."""
    if repo is None or not {old.kind, new.kind} <= {REVISION, WORK_TREE} or _recipe(old).base != _recipe(new).base:
        return None
    return report_on(repo, _recipe(new), _recipe(old), by, progress)


def _weighed(
    repo: Repository | None, told: DiffResult, old: Operand, new: Operand, by: str, progress: Progress
) -> DiffResult:
    """With the models themselves; a recipe that no build accepts still has its report."""
    from persona.workspace.weights import compare_weights

    try:
        read = compare_weights(repo, old, new, by, progress)
    except (Refusal, UsageError) as error:
        if told.weights is None:
            raise
        return replace(told, notes=(*told.notes, f"what would be built is not compared: {error.message}"))
    differs = told.differs or bool(read.files or read.tensors.whole.changed)
    return replace(told, tensors=read.tensors, files=read.files, differs=differs)


def _with_cosines(
    repo: Repository | None, told: DiffResult, old: Operand, new: Operand, progress: Progress
) -> DiffResult:
    from persona.workspace.weights import cosine_with_before

    if repo is None:
        return told
    known = {one.name: one.cosine for one in told.weights.whole.retrained} if told.weights else {}
    found = []
    for change in told.changes:
        if change.kind == "retrained" and change.name not in known:
            known[change.name] = cosine_with_before(repo, change.name, _recipe(old), _recipe(new), progress)
        found.append(replace(change, cosine=known.get(change.name)) if change.kind == "retrained" else change)
    return replace(told, changes=tuple(found))


def _recipe(side: Operand) -> Recipe:
    assert side.recipe is not None
    return side.recipe


@dataclass(frozen=True)
class ReadoutDiff:
    """A readout that is another than before.

    ``cosines`` are by concept and layer, of all that either has; null where one of both has no such direction.
    """

    name: str
    before: ReadoutId
    after: ReadoutId
    concepts: tuple[str, ...]
    layers: tuple[int, ...]
    cosines: tuple[tuple[float | None, ...], ...]

    @property
    def mean(self) -> float | None:
        """Of all cosines; None if no direction is there on both sides."""
        known = [one for row in self.cosines for one in row if one is not None]
        return sum(known) / len(known) if known else None


def compare_readouts(
    repo: Repository | None, changes: Iterable[RecipeChange]
) -> tuple[tuple[RecipeChange, ...], tuple[ReadoutDiff, ...]]:
    """The changes, retrained readouts with their mean cosine, and how far each turned; what is not here is left out."""
    told, found = [], []
    for change in changes:
        if repo is not None and change.kind == READOUT_RETRAINED:
            ids = (ReadoutId(change.before), ReadoutId(change.after))
            if all(one in repo.objects for one in ids):
                found.append(_compared(change.name, *ids, *(load_readout(repo, one) for one in ids)))
                change = replace(change, cosine=found[-1].mean)
        told.append(change)
    return tuple(told), tuple(found)


def _compared(name: str, before: ReadoutId, after: ReadoutId, old: Readout, new: Readout) -> ReadoutDiff:
    concepts = tuple(dict.fromkeys([*new.concepts, *old.concepts]))
    layers = tuple(sorted({*old.layers, *new.layers}))
    cosines = tuple(tuple(_cosine(old, new, concept, layer) for layer in layers) for concept in concepts)
    return ReadoutDiff(name, before, after, concepts, layers, cosines)


def _cosine(old: Readout, new: Readout, concept: str, layer: int) -> float | None:
    import numpy as np

    if any(concept not in one.concepts or layer not in one.layers for one in (old, new)) or old.hidden != new.hidden:
        return None
    a, b = (one.vectors[layer][one.row(concept)].astype(np.float64) for one in (old, new))
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
