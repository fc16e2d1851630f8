"""``persona fisher``: which weights a vector needs most, estimated on examples, for methods that weigh entries by that.

The model is base + that vector alone, at an alpha of 1, in memory. The diagonal is the true Fisher's (``training/fisher``),
over the tensors that the vector changes and the model has as weights under the same name.
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
from persona.training.examples import read_examples
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
    """What ``fisher`` did. ``recorded`` is None when the recipe had this very diagonal already.

    ``examples`` and ``tokens`` are what the mean is over; ``tensors``, ``entries``, ``nbytes`` and ``trace`` say how large it
    is. ``uncovered`` are tensors that the vector changes and the model has no weight for, ``waiting`` other vectors of the
    recipe that act and have no diagonal yet.
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
class _Found:
    """A diagonal in memory, by the base's names, and its sums."""

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
    """Estimate the Fisher diagonal of the vector ``name`` on the examples ``data``, keep it, and commit it as the vector's.

    Examples are read as ``train`` reads them: ``preset`` and ``changes`` say how, of which only what concerns data counts.
    ``limit`` is how many are used, drawn by ``seed``, which draws the labels, too. ``dtype`` is what the model runs in.
    Memory: the model, the gradients of what the vector changes in the model's dtype, and 4 bytes for each entry of it.
    """
    path = Path(data)
    settings = read_settings(preset, changes)
    if limit is not None and limit < 1:
        raise UsageError(f"a limit of {limit} makes no sense", "Give a number from 1 on.")
    refuse_while_merging(repo)
    recipe = worktree_recipe(repo)
    check_clean(repo)
    entry = entry_of(recipe, name)
    alone = Recipe(recipe.base, recipe.base_name, (Entry(name, entry.id),))
    _check_machine(dtype, device)
    prepared = _prepare(repo, alone, path, speaker, settings)
    printed = fingerprint(path)
    found = _estimated(repo, alone, prepared, seed, limit, dtype, device, progress)
    with clean_recipe(repo, command) as (change, text):
        now = resolve(parse(text), repo.objects, repo.recipe(repo.head()), text)
        if entry_of(now, name).id != entry.id:
            raise Refusal(
                f"'{name}' is another vector than when this began ({entry.id[:12]})", "Run the command again."
            )
        kept = Fisher(
            base=recipe.base_id,
            data=(printed["digest"],),
            examples=found.examples,
            tokens=found.tokens,
            seed=seed,
            tensors=keep_fisher(found.tensors, repo.tensors, progress),
            recipe=alone.put(repo.objects),
            trace=found.trace,
            norm=found.norm,
        )
        of = kept.put(repo.objects)
        done = _result(name, entry, of, kept, prepared, found, now)
        if entry_of(now, name).fisher == of:
            return done
        text = edit.set_fisher(text, name, of)
        said = message or f"estimate the Fisher diagonal of {name}"
        recorded = record(repo, change, text, said, author, {"fisher": _facts(done, speaker), "data": [printed]})
    return replace(done, recorded=recorded, notes=_notes(done))


def _check_machine(dtype: str | None, device: str) -> None:
    """What is slow to import, after all that can be told at once."""
    from persona.inference.load import checked_device, checked_dtype

    checked_device(device)
    checked_dtype(dtype)


def _prepare(repo: Repository, alone: Recipe, path: Path, speaker: str | None, settings: Settings) -> Prepared:
    """The examples in tokens; raises where there is nothing to estimate on."""
    label = f"base + {alone.vectors[0].name}"
    examples = read_examples(path, speaker, settings.turns, settings.loss == "all")
    tokenizer, most = reader_of_recipe(repo, alone, label)
    prepared = prepare(tokenizer, examples, settings, most)
    if not prepared.rows:
        said = "; ".join(f"{one.count} × {one.what}" for one in prepared.summary.problems)
        raise UsageError(f"{path} has no token that counts: {said}", "Or count all of the text: --set loss=all")
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
) -> _Found:
    from persona.training.fisher import drawn, estimate
    from persona.workspace.workbench import Workbench

    name = alone.vectors[0].name
    shapes = dict(_changed(repo, alone))
    bench = Workbench(repo, dtype, device, progress)
    live = bench.become(alone, f"base + {name}")
    parameters = {key for key, one in live.model.named_parameters(remove_duplicate=False) if one.is_floating_point()}
    covered = [key for key in shapes if key in bench.weights and key in parameters]
    if not covered:
        raise Refusal(
            f"the model has none of the {len(shapes)} tensors that '{name}' changes as a weight of its own",
            "There is nothing to weigh it by: choose a method that needs no Fisher diagonal ('persona methods').",
        )
    rows = drawn(prepared.rows, limit or len(prepared.rows), seed)
    diagonal, tokens = estimate(live.model, rows, seed, progress, covered)
    tensors = {key: _of_base(one, shapes[key]) for key, one in diagonal.items()}
    return _Found(tensors, len(rows), tokens, *_sums(name, tensors), tuple(sorted(shapes.keys() - {*covered})))


def _changed(repo: Repository, alone: Recipe) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The tensors of the base that the vector changes, with their shapes there."""
    base = repo.base(alone.base_id)
    for name in repo.vector(VectorId(alone.vectors[0].id)).names:
        spec = base.spec(name)
        if spec is not None and spec.dtype in ARITHMETIC:
            yield name, spec.shape


def _of_base(diagonal: Any, shape: tuple[int, ...]) -> Float32:
    """A diagonal on the host, of the rows that the base has."""
    found: Float32 = diagonal.detach().cpu().numpy().reshape(-1)[: math.prod(shape)].reshape(shape)
    return found


def _sums(name: str, tensors: Mapping[str, Float32]) -> tuple[float, float]:
    """Σ F and √Σ F², in fp64; refused where they are no numbers."""
    import numpy as np

    trace, squares = 0.0, 0.0
    for tensor, one in tensors.items():
        trace += float(one.sum(dtype=np.float64))
        squares += float(np.square(one, dtype=np.float64).sum())
        if not np.isfinite(squares):
            raise Refusal(
                f"the Fisher diagonal of '{name}' is no number at {tensor}: gradients overflow, or the model is broken",
                "Run the model in fp32 (--dtype fp32), and look at what it says.",
            )
    return trace, float(np.sqrt(squares))


def _result(
    name: str, entry: Entry, of: FisherId, kept: Fisher, prepared: Prepared, found: _Found, recipe: Recipe
) -> FisherResult:
    acting = [one for one in recipe.vectors if alphas.acts(one.alpha) and one.name != name]
    return FisherResult(
        recorded=None,
        name=name,
        vector=VectorId(entry.id),
        fisher=of,
        data=prepared.summary,
        examples=kept.examples,
        tokens=kept.tokens,
        seed=kept.seed,
        tensors=len(kept.tensors),
        entries=kept.entries,
        nbytes=4 * kept.entries,
        trace=found.trace,
        uncovered=found.uncovered,
        waiting=tuple(one.name for one in acting if not one.fisher),
        weighs=methods.weighs(methods.load(recipe.method)),
        notes=(f"'{name}' has this very diagonal already; nothing new was recorded",),
    )


def _notes(done: FisherResult) -> tuple[str, ...]:
    """What a person should know of a diagonal."""
    found = []
    if done.uncovered:
        found.append(f"the model has no weight of its own for {_few(done.uncovered)}: vectors are not weighed there")
    if not done.trace:
        found.append("every entry is 0: the model is certain of every token, and the vector is not weighed at all")
    return tuple(found)


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} others" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def _facts(done: FisherResult, speaker: str | None) -> dict[str, Any]:
    """What the commit keeps of how it was estimated."""
    facts: dict[str, Any] = {
        "vector": done.name,
        "examples": done.examples,
        "tokens": done.tokens,
        "seed": done.seed,
        "tensors": done.tensors,
        "trace": done.trace,
    }
    return facts | ({"speaker": speaker} if speaker else {})
