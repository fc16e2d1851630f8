"""``persona build --as-adapter``: the part of the verb that makes an adapter of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona.building.adapter import Pair, Surroundings, exact_pairs
from persona.building.adapter_folder import small_files, write_adapter
from persona.building.compress import Compressed, TensorError, UncoveredTensor, compress
from persona.building.publish import Shard
from persona.building.run import loops_for
from persona.building.sidefiles import model_card
from persona.errors import Refusal, UsageError
from persona.progress import Progress
from persona.recipe.model import Recipe
from persona.repository import Repository
from persona.workspace.readouts import built_files, said_of


@dataclass(frozen=True)
class AdapterReport:
    """What an adapter says of its recipe.

    ``rank`` is the largest. An exact one has no ``error``; otherwise it is ‖δ − BA‖_F / ‖δ‖_F over all that the
    recipe changes, ``tensors`` has the same one by one, and ``left_out`` what no adapter can say.
    """

    rank: int
    modules: int
    error: float | None = None
    tensors: tuple[TensorError, ...] = ()
    left_out: tuple[UncoveredTensor, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class AdapterOptions:
    """What the caller wants: where, in which dtype ("F32" unless said otherwise), and at most which rank."""

    target: Path
    dtype: str | None
    rank: int | None
    replace: bool


def check_rank(rank: int | None, *, as_adapter: bool, sharded: bool) -> None:
    """Raise where options do not go together."""
    if rank is not None and not as_adapter:
        raise UsageError("a rank is an adapter's", "Add --as-adapter.")
    if rank is not None and rank < 1:
        raise UsageError(f"an adapter cannot have rank {rank}", "Give 1 or more, such as --rank 16.")
    if as_adapter and sharded:
        raise UsageError("an adapter is one file, as PEFT and vLLM read it", "Leave --shard-size out.")


def make_adapter(
    repo: Repository,
    recipe: Recipe,
    asked: AdapterOptions,
    about: Mapping[str, Any],
    progress: Progress,
) -> tuple[AdapterReport, Shard, bytes]:
    """Write the adapter that ``recipe`` is, or comes nearest to: the report, the weight file and the receipt."""
    prepared = repo.prepare(recipe, None if asked.rank is None else "F32")
    plan, base, dtype = prepared.plan, prepared.base, asked.dtype or "F32"
    around = Surroundings(base, repo.model_config(base), prepared.active)
    if asked.rank is None:
        pairs = exact_pairs(plan, around, repo.tensors)
        report = _report(pairs)
    else:
        found = compress(plan, around, repo.tensors, asked.rank, dtype, progress)
        pairs, report = list(found.pairs), _report(found.pairs, found)
        about = {**about, "made": {**about["made"], "kernels": loops_for(plan).name()}}
    _check_any(pairs, report)
    card = model_card(recipe.encode(), about["commit"], about["edited"], said_of(repo, recipe))
    files = small_files(pairs, recipe.base_name, around.config, card) | built_files(repo, recipe)
    about = {**about, "adapter": {"rank": report.rank, "error": report.error}}
    return report, *write_adapter(asked.target, pairs, dtype, about, files, replace=asked.replace)


def _report(pairs: list[Pair] | tuple[Pair, ...], found: Compressed | None = None) -> AdapterReport:
    rank = max((pair.rank for pair in pairs), default=0)
    if found is None:
        return AdapterReport(rank, len(pairs))
    return AdapterReport(rank, len(pairs), found.error, found.errors, found.left_out, found.files)


def _check_any(pairs: list[Pair], report: AdapterReport) -> None:
    if pairs:
        return
    if report.left_out:
        one = report.left_out[0]
        what = f"no adapter can say what this recipe changes: {one.name}, for one, because {one.why}"
        raise Refusal(what, "Build the whole model: leave --as-adapter out.")
    raise Refusal("this recipe changes nothing, and an adapter cannot be empty", "See 'persona vectors'.")
