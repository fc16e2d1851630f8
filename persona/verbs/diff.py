"""`persona diff`: compare revisions, the working tree, vectors, built folders and checkpoints, or two readouts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.errors import NoRepository, Refusal, UsageError
from persona.evaluate.results import FigureDiff, moves
from persona.history import refs as refs_
from persona.ids import SHORT, ReadoutId, VectorId
from persona.notebook import Shown
from persona.progress import SILENT, Progress
from persona.recipe.changes import READOUT_RETRAINED, RecipeChange, changes
from persona.recipe.model import Recipe
from persona.repository import Repository
from persona.verbs.interference import report_on
from persona.workspace import operands
from persona.workspace.operands import CHECKPOINT, READOUT, REVISION, WORK_TREE, Operand
from persona.workspace.readouts import load_readout, readout_at
from persona.workspace.record import entry_of

if TYPE_CHECKING:
    from persona.building.compare import Comparison
    from persona.building.interference import Interference
    from persona.building.receipt import ReceiptDifference
    from persona.readout.model import Readout
    from persona.workspace.weights import FileChange


@dataclass(frozen=True, repr=False)
class DiffResult(Shown):
    """Differences from `before` to `after`, the names of the two sides; `kinds` says what each side is.

    `changes` compares the recipes, and `readouts` those readouts that were retrained. `tensors` and `files` compare the
    models, and `weights` reports how much the vectors of `after` interfere; they are None, or empty, unless weights were
    asked for. `unlike` lists what changed in a built folder since the build. `measured` compares stored evaluation results.
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
    """Compare two operands.

    Args:
        repo: None to compare two folders outside a repository.
        before: Revision, vector (`NAME`, `NAME@REV`), readout or folder. The default is HEAD.
        after: Like `before`. The default is `persona.toml`, or what has the name of `before` in it.
        weights: Compare the weights in detail (those that a build of a revision would have), and report how much the
            vectors of `after` interfere.
        stat: Compare the weights. Weights are always compared if a side is a checkpoint.
        by: Rows of the comparison, `layer` or `tensor`.
        cwd: Folder that relative paths start from.

    Raises:
        NoRepository: A side needs a repository, and `repo` is None.
        UsageError: A side does not exist, or the sides cannot be compared.
        Refusal: The weights of a side cannot be built.
    """
    old, new = _operands(repo, before, after, Path(cwd))
    if READOUT in (old.kind, new.kind):
        _check_readouts(old, new, weights=weights, stat=stat)
    recipe_changes, readouts = compare_readouts(repo, _changes(repo, old, new))
    unlike = (*old.unlike, *new.unlike)
    result = DiffResult(
        before=old.label,
        after=new.label,
        kinds=(old.kind, new.kind),
        differs=bool(recipe_changes or unlike),
        changes=recipe_changes,
        unlike=unlike,
        notes=(*old.notes, *new.notes),
        readouts=readouts,
        measured=_measured(repo, old, new),
    )
    if not (weights or stat or CHECKPOINT in result.kinds):
        return result
    report = _report(repo, old, new, by, progress) if weights else None
    result = _with_weights(repo, replace(result, weights=report), old, new, by, progress)
    return _with_cosines(repo, result, old, new, progress)


def _operands(repo: Repository | None, before: str | Path | None, after: str | Path | None, cwd: Path) -> list[Operand]:
    if repo is None and (before is None or after is None):
        raise NoRepository("no persona repository here", "Outside a repository, compare two folders: persona diff A B")
    old = operands.operand_of(repo, before if before is not None else refs_.HEAD, cwd, readouts=True)
    if after is not None or repo is None:
        return [old, operands.operand_of(repo, after or "", cwd, readouts=True)]
    if old.kind == READOUT:
        return _with_worktree_readout(repo, old, str(before))
    if old.vector is None:
        return [old, operands.worktree_operand(repo)]
    name = old.vector.name
    if before == name:  # compare what was committed with the working tree
        head = repo.recipe(repo.head())
        old = operands.vector_operand(entry_of(head, name), head, f"{name}@{refs_.HEAD}")
    return [old, operands.worktree_vector(repo, name)]


def _with_worktree_readout(repo: Repository, old: Operand, spec: str) -> list[Operand]:
    """A readout, and the one with the same name in `persona.toml`; for a bare name, HEAD's and that one."""
    name = _recipe(old).readouts[0].name
    new = readout_at(repo, name)
    if new is None:
        raise UsageError(f"no readout '{name}' in persona.toml", f"Name a second readout: persona diff {spec} NAME")
    if spec == name and (committed := readout_at(repo, f"{name}@{refs_.HEAD}")) is not None:
        old = operands.readout_operand(committed, f"{name}@{refs_.HEAD}")
    return [old, operands.readout_operand(new, name)]


def _check_readouts(old: Operand, new: Operand, *, weights: bool, stat: bool) -> None:
    if old.kind != new.kind:
        raise UsageError(
            "a readout can only be compared with a readout", "Name two readouts: persona diff NAME@REV NAME"
        )
    if weights or stat:
        raise UsageError("readouts have no weights", "Leave --weights and --stat out.")


def _changes(repo: Repository | None, old: Operand, new: Operand) -> list[RecipeChange]:
    """Compare the recipes, or two vectors by their properties."""
    if old.recipe is None or new.recipe is None:
        return []
    if repo is not None and old.vector is not None and new.vector is not None:
        return list(_between_vectors(repo, old, new))
    if old.kind == new.kind == READOUT:  # compared under one name, even if their names differ
        [entry], name = old.recipe.readouts, new.recipe.readouts[0].name
        return changes(old.recipe.with_readouts([replace(entry, name=name)]), new.recipe)
    return changes(old.recipe, new.recipe, repo.objects if repo is not None else None)


def _measured(repo: Repository | None, old: Operand, new: Operand) -> tuple[FigureDiff, ...]:
    if repo is None or old.recipe is None or new.recipe is None:
        return ()
    return moves(repo, old.recipe, new.recipe)


def _between_vectors(repo: Repository, old: Operand, new: Operand) -> Iterator[RecipeChange]:
    ids = [VectorId(side.vector.id) for side in (old, new) if side.vector is not None]
    first, second = (repo.vector(name) for name in ids)
    facts: dict[str, tuple[Any, Any]] = {
        "id": (ids[0].short, ids[1].short),
        "base": (first.base[:SHORT], second.base[:SHORT]),
        "form": (first.form, second.form),
        "tensors": (len(first.names), len(second.names)),
        "files": (tuple(sorted(first.files)), tuple(sorted(second.files))),
    }
    for name, (before, after) in facts.items():
        if before != after:
            yield RecipeChange("setting", name, before, after)


def _report(repo: Repository | None, old: Operand, new: Operand, by: str, progress: Progress) -> Interference | None:
    """The interference report of the newer recipe, if both sides are recipes on the same base."""
    if repo is None or not {old.kind, new.kind} <= {REVISION, WORK_TREE} or _recipe(old).base != _recipe(new).base:
        return None
    return report_on(repo, _recipe(new), _recipe(old), by, progress)


def _with_weights(
    repo: Repository | None, result: DiffResult, old: Operand, new: Operand, by: str, progress: Progress
) -> DiffResult:
    """Add the comparison of the models, or a note if one cannot be built but has an interference report."""
    from persona.workspace.weights import compare_weights

    try:
        compared = compare_weights(repo, old, new, by, progress)
    except (Refusal, UsageError) as error:
        if result.weights is None:
            raise
        return replace(result, notes=(*result.notes, f"the builds are not compared: {error.message}"))
    differs = result.differs or bool(compared.files or compared.tensors.whole.changed)
    return replace(result, tensors=compared.tensors, files=compared.files, differs=differs)


def _with_cosines(
    repo: Repository | None, result: DiffResult, old: Operand, new: Operand, progress: Progress
) -> DiffResult:
    """Add to each retrained vector its cosine with the vector before."""
    from persona.workspace.weights import cosine_with_before

    if repo is None:
        return result
    known = {vector.name: vector.cosine for vector in result.weights.whole.retrained} if result.weights else {}

    def with_cosine(change: RecipeChange) -> RecipeChange:
        if change.kind != "retrained":
            return change
        if change.name not in known:
            known[change.name] = cosine_with_before(repo, change.name, _recipe(old), _recipe(new), progress)
        return replace(change, cosine=known[change.name])

    return replace(result, changes=tuple(map(with_cosine, result.changes)))


def _recipe(side: Operand) -> Recipe:
    assert side.recipe is not None
    return side.recipe


@dataclass(frozen=True)
class ReadoutDiff:
    """A retrained readout. `cosines` compares old and new directions, by concept and layer of either readout.

    A cosine is None where only one of the two readouts has that concept and layer.
    """

    name: str
    before: ReadoutId
    after: ReadoutId
    concepts: tuple[str, ...]
    layers: tuple[int, ...]
    cosines: tuple[tuple[float | None, ...], ...]

    @property
    def mean(self) -> float | None:
        """Mean cosine; None if the readouts have no direction in common."""
        known = [cosine for row in self.cosines for cosine in row if cosine is not None]
        return sum(known) / len(known) if known else None


def compare_readouts(
    repo: Repository | None, changes: Iterable[RecipeChange]
) -> tuple[tuple[RecipeChange, ...], tuple[ReadoutDiff, ...]]:
    """Compare the retrained readouts among `changes`.

    Returns the changes, with the mean cosine of each retrained readout, and the comparisons. Readouts that are not in
    the repository are not compared.
    """
    completed, diffs = [], []
    for change in changes:
        if repo is not None and change.kind == READOUT_RETRAINED:
            ids = (ReadoutId(change.before), ReadoutId(change.after))
            if all(name in repo.objects for name in ids):
                diffs.append(_compare(change.name, *ids, *(load_readout(repo, name) for name in ids)))
                change = replace(change, cosine=diffs[-1].mean)
        completed.append(change)
    return tuple(completed), tuple(diffs)


def _compare(name: str, before: ReadoutId, after: ReadoutId, old: Readout, new: Readout) -> ReadoutDiff:
    concepts = tuple(dict.fromkeys([*new.concepts, *old.concepts]))
    layers = tuple(sorted({*old.layers, *new.layers}))
    cosines = tuple(tuple(_cosine(old, new, concept, layer) for layer in layers) for concept in concepts)
    return ReadoutDiff(name, before, after, concepts, layers, cosines)


def _cosine(old: Readout, new: Readout, concept: str, layer: int) -> float | None:
    import numpy as np

    both = (old, new)
    if old.hidden != new.hidden or any(concept not in r.concepts or layer not in r.layers for r in both):
        return None
    a, b = (readout.vectors[layer][readout.row(concept)].astype(np.float64) for readout in both)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
