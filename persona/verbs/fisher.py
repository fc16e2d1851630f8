"""``persona fisher``: estimate how important each weight is to a vector, for merge methods that use that.

The model is the base with that vector alone, at alpha 1, in memory. The result is the diagonal of the true Fisher information
(``training/fisher``), for the tensors that the vector changes and that the model has as weights under the same name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona import methods
from persona.checkpoints.dtypes import ARITHMETIC
from persona.checkpoints.provenance.dataset import fingerprint
from persona.errors import Refusal, UsageError
from persona.ids import FisherId, VectorId
from persona.progress import SILENT, Progress
from persona.recipe import alphas, edit
from persona.recipe.model import Entry, Recipe
from persona.recipe.parse import parse
from persona.recipe.resolve import resolve
from persona.repository import Repository
from persona.store.fishers import Fisher, keep_fisher
from persona.training.plan import examples_for
from persona.training.problems import DataSummary, Prepared, prepare
from persona.training.settings import Settings, read_settings
from persona.workspace.loading import reader_of_recipe
from persona.workspace.record import (
    RecordedCommit,
    check_clean,
    clean_recipe,
    entry_of,
    record,
    refuse_while_merging,
    worktree_recipe,
)

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32


@dataclass(frozen=True)
class FisherResult:
    """The Fisher diagonal of a vector. ``recorded`` is null if the recipe already had the same diagonal.

    ``examples`` and ``tokens`` count what the mean is over; ``tensors``, ``entries``, ``nbytes`` and ``trace`` give the size of the
    diagonal. ``uncovered`` are tensors that the vector changes but that are not weights of the model. ``waiting`` are other active
    vectors of the recipe that have no diagonal yet, and ``weighs`` says whether the recipe's merge method uses diagonals.
    """

    recorded: RecordedCommit | None
    name: str
    vector: VectorId
    fisher: FisherId
    data: DataSummary
    examples: int
    tokens: int
    seed: int
    tensors: int
    entries: int
    nbytes: int
    trace: float
    uncovered: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    weighs: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Diagonal:
    """A diagonal in memory, by the base's tensor names, and its sums."""

    tensors: Mapping[str, Float32]
    examples: int
    tokens: int
    trace: float
    norm: float
    uncovered: tuple[str, ...]


def fisher(
    repo: Repository,
    name: str,
    data: Path | str,
    *,
    speaker: str | None = None,
    preset: str | Path = "default",
    changes: Mapping[str, Any] | None = None,
    seed: int = 0,
    limit: int | None = None,
    dtype: str | None = None,
    device: str = "cpu",
    message: str | None = None,
    author: str = "",
    command: str = "fisher",
    progress: Progress = SILENT,
) -> FisherResult:
    """Estimate the Fisher diagonal of a vector on examples, and commit it.

    Needs memory for the model, the gradients of the weights that the vector changes in the model's dtype, and 4 bytes for each of
    these weights.

    Args:
        name: The vector.
        data: File of examples, read as ``train`` reads it.
        speaker: Whose turns count in conversations between ``[NAME]`` markers.
        preset: Training preset; only its settings for data are used.
        changes: Settings that override the preset's.
        seed: Draws labels, and the examples if there is a limit.
        limit: Number of examples to use; None for all.
        dtype: Data type to run the model in; None for that of its weights.
        device: Where to run the model.
        command: The command line, for the operation log.

    Raises:
        UsageError: an unknown vector, device or dtype, or data without tokens to learn.
        Refusal: the recipe is edited, a merge is in progress, or the diagonal is not finite.
    """
    path = Path(data)
    settings = read_settings(preset, changes)
    if limit is not None and limit < 1:
        raise UsageError(f"invalid limit: {limit}", "Give 1 or more.")
    refuse_while_merging(repo)
    recipe = worktree_recipe(repo)
    check_clean(repo)
    entry = entry_of(recipe, name)
    alone = Recipe(recipe.base, recipe.base_name, (Entry(name, entry.id),))
    _check_machine(dtype, device)
    prepared = _prepare(repo, alone, path, speaker, settings)
    printed = fingerprint(path)
    diagonal = _estimated(repo, alone, prepared, seed, limit, dtype, device, progress)
    with clean_recipe(repo, command) as (change, text):
        now = resolve(parse(text), repo.objects, repo.recipe(repo.head()), text)
        if entry_of(now, name).id != entry.id:
            raise Refusal(
                f"'{name}' was replaced by another vector during the estimate (it was {entry.id[:12]})",
                "Run the command again.",
            )
        kept = Fisher(
            base=recipe.base_id,
            data=(printed["digest"],),
            examples=diagonal.examples,
            tokens=diagonal.tokens,
            seed=seed,
            tensors=keep_fisher(diagonal.tensors, repo.tensors, progress),
            recipe=alone.put(repo.objects),
            trace=diagonal.trace,
            norm=diagonal.norm,
        )
        fisher_id = kept.put(repo.objects)
        done = _result(name, entry, fisher_id, kept, prepared, diagonal, now)
        if entry_of(now, name).fisher == fisher_id:
            return done
        text = edit.set_fisher(text, name, fisher_id)
        message = message or f"estimate the Fisher diagonal of {name}"
        recorded = record(repo, change, text, message, author, {"fisher": _facts(done, speaker), "data": [printed]})
    return replace(done, recorded=recorded, notes=_notes(done))


def _check_machine(dtype: str | None, device: str) -> None:
    """Check device and dtype, after everything that needs no slow imports."""
    from persona.inference.load import checked_device, checked_dtype

    checked_device(device)
    checked_dtype(dtype)


def _prepare(repo: Repository, alone: Recipe, path: Path, speaker: str | None, settings: Settings) -> Prepared:
    """The examples in tokens; raises UsageError if no token counts."""
    label = f"base + {alone.vectors[0].name}"
    examples = examples_for(settings, path, speaker)
    tokenizer, most = reader_of_recipe(repo, alone, label)
    prepared = prepare(tokenizer, examples, settings, most)
    if not prepared.rows:
        problems = "; ".join(f"{problem.count} × {problem.what}" for problem in prepared.summary.problems)
        raise UsageError(f"{path} has no token that counts: {problems}", "To count all of the text: --set loss=all")
    return prepared


def _estimated(
    repo: Repository,
    alone: Recipe,
    prepared: Prepared,
    seed: int,
    limit: int | None,
    dtype: str | None,
    device: str,
    progress: Progress,
) -> _Diagonal:
    from persona.training.fisher import drawn, estimate
    from persona.workspace.workbench import Workbench

    name = alone.vectors[0].name
    shapes = dict(_changed(repo, alone))
    bench = Workbench(repo, dtype, device, progress)
    live = bench.become(alone, f"base + {name}")
    parameters = {key for key, p in live.model.named_parameters(remove_duplicate=False) if p.is_floating_point()}
    covered = [key for key in shapes if key in bench.weights and key in parameters]
    if not covered:
        raise Refusal(
            f"none of the {len(shapes)} tensors that '{name}' changes is a weight of the model",
            "Choose a merge method that needs no Fisher diagonal (persona methods).",
        )
    rows = drawn(prepared.rows, limit or len(prepared.rows), seed)
    diagonal, tokens = estimate(live.model, rows, seed, progress, covered)
    tensors = {key: _of_base(values, shapes[key]) for key, values in diagonal.items()}
    return _Diagonal(tensors, len(rows), tokens, *_sums(name, tensors), tuple(sorted(shapes.keys() - {*covered})))


def _changed(repo: Repository, alone: Recipe) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The tensors of the base that the vector changes, with their shapes in the base."""
    base = repo.base(alone.base_id)
    for name in repo.vector(VectorId(alone.vectors[0].id)).names:
        spec = base.spec(name)
        if spec is not None and spec.dtype in ARITHMETIC:
            yield name, spec.shape


def _of_base(diagonal: Any, shape: tuple[int, ...]) -> Float32:
    """A diagonal as an array, cut to the rows that the base has."""
    values: Float32 = diagonal.detach().cpu().numpy().reshape(-1)[: math.prod(shape)].reshape(shape)
    return values


def _sums(name: str, tensors: Mapping[str, Float32]) -> tuple[float, float]:
    """Σ F and √Σ F², in fp64; raises Refusal if they are not finite."""
    import numpy as np

    trace, squares = 0.0, 0.0
    for tensor, values in tensors.items():
        trace += float(values.sum(dtype=np.float64))
        squares += float(np.square(values, dtype=np.float64).sum())
        if not np.isfinite(squares):
            raise Refusal(
                f"the Fisher diagonal of '{name}' is not finite at {tensor}: gradients overflow, or the model is broken",
                "Run the model in fp32 (--dtype fp32), and check its replies.",
            )
    return trace, float(np.sqrt(squares))


def _result(
    name: str, entry: Entry, fisher_id: FisherId, kept: Fisher, prepared: Prepared, diagonal: _Diagonal, recipe: Recipe
) -> FisherResult:
    others = [other for other in recipe.vectors if alphas.acts(other.alpha) and other.name != name]
    return FisherResult(
        recorded=None,
        name=name,
        vector=VectorId(entry.id),
        fisher=fisher_id,
        data=prepared.summary,
        examples=kept.examples,
        tokens=kept.tokens,
        seed=kept.seed,
        tensors=len(kept.tensors),
        entries=kept.entries,
        nbytes=4 * kept.entries,
        trace=diagonal.trace,
        uncovered=diagonal.uncovered,
        waiting=tuple(other.name for other in others if not other.fisher),
        weighs=methods.weighs(methods.load(recipe.method)),
        notes=(f"'{name}' already has this diagonal; nothing was committed",),
    )


def _notes(done: FisherResult) -> tuple[str, ...]:
    """Warnings about a diagonal."""
    notes = []
    if done.uncovered:
        notes.append(f"the model has no weights named {_few(done.uncovered)}, so the diagonal does not cover them")
    if not done.trace:
        notes.append("every entry is 0: the model is certain of every token, so the diagonal says nothing")
    return tuple(notes)


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} others" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def _facts(done: FisherResult, speaker: str | None) -> dict[str, Any]:
    """What the commit records about the estimate."""
    facts: dict[str, Any] = {
        "vector": done.name,
        "examples": done.examples,
        "tokens": done.tokens,
        "seed": done.seed,
        "tensors": done.tensors,
        "trace": done.trace,
    }
    return facts | ({"speaker": speaker} if speaker else {})
