"""``persona build --as-adapter``: write a recipe as a PEFT adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona.building.adapter import Surroundings, exact_pairs
from persona.building.adapter_folder import small_files, write_adapter
from persona.building.card import model_card, usage_of_adapter
from persona.building.compress import Compressed, TensorError, UncoveredTensor, compress
from persona.building.publish import Shard
from persona.building.run import loops_for
from persona.building.stated import weight_files
from persona.errors import Refusal, UsageError
from persona.progress import Progress
from persona.recipe.choices import SETTINGS
from persona.recipe.model import Recipe
from persona.recipe.parse import FILE
from persona.repository import Repository
from persona.workspace.readouts import built_files, describe_readouts


@dataclass(frozen=True)
class AdapterReport:
    """How closely an adapter represents its recipe.

    ``rank`` is the largest rank of a module. ``error`` is ‖δ − BA‖_F / ‖δ‖_F over everything that the recipe changes,
    and null for an exact adapter. ``tensors`` has the error of each tensor. ``left_out`` are tensors that an adapter
    cannot represent, ``files`` the tokenizer and config files that vectors change and the adapter does not contain.
    """

    rank: int
    modules: int
    error: float | None = None
    tensors: tuple[TensorError, ...] = ()
    left_out: tuple[UncoveredTensor, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class AdapterOptions:
    """How to write an adapter. ``dtype`` is a safetensors name (default F32); ``rank`` None means exactly."""

    target: Path
    dtype: str | None
    rank: int | None
    replace: bool


def check_rank(rank: int | None, *, as_adapter: bool, sharded: bool) -> None:
    """Check the options of an adapter.

    Raises:
        UsageError: they are out of range or cannot be combined.
    """
    if rank is not None and not as_adapter:
        raise UsageError("--rank is only for adapters", "Add --as-adapter.")
    if rank is not None and rank < 1:
        raise UsageError(f"an adapter cannot have rank {rank}", "Give 1 or more, such as --rank 16.")
    if as_adapter and sharded:
        raise UsageError("an adapter cannot be sharded: PEFT and vLLM read one file", "Leave out --shard-size.")


def make_adapter(
    repo: Repository,
    recipe: Recipe,
    options: AdapterOptions,
    about: Mapping[str, Any],
    progress: Progress,
) -> tuple[AdapterReport, Shard, bytes]:
    """Write ``recipe`` as an adapter: exactly, or the nearest one of ``options.rank``.

    Args:
        recipe: A resolved recipe.
        options: Where and how.
        about: The receipt's fields that say what was built.

    Returns:
        The report, the weight file's layout and the receipt.

    Raises:
        Refusal: no exact adapter exists, or there is nothing to write.
    """
    prepared = repo.prepare(recipe, None if options.rank is None else "F32")
    if recipe.choices.settings and options.rank is None:
        raise Refusal(
            f"{FILE} sets {'.'.join(recipe.choices.settings[0][0])} in [{SETTINGS}], which an adapter cannot contain",
            "Remove it there, or build the whole model.",
        )
    plan, base, dtype = prepared.plan, prepared.base, options.dtype or "F32"
    around = Surroundings(base, repo.model_config(base), prepared.active)
    if options.rank is None:
        made, error = Compressed(tuple(exact_pairs(plan, around, repo.tensors))), None
    else:
        made = compress(plan, around, repo.tensors, options.rank, dtype, progress)
        error = made.error
        about = {**about, "made": {**about["made"], "kernels": loops_for(plan).name()}}
    _check_any(made)
    rank = max(pair.rank for pair in made.pairs)
    report = AdapterReport(rank, len(made.pairs), error, made.errors, made.left_out, made.files)
    described, usage = describe_readouts(repo, recipe), usage_of_adapter(around.config)
    card = model_card(recipe.encode(), about["commit"], about["edited"], described, usage=usage)
    files = small_files(made.pairs, recipe.base_name, around.config, card) | built_files(repo, recipe)
    files = prepared.adapter_files(repo.tensors) | files
    about = {**about, "adapter": {"rank": rank, "error": error}}
    like = weight_files(plan, repo.tensors)
    return report, *write_adapter(options.target, made.pairs, dtype, about, files, replace=options.replace, like=like)


def _check_any(made: Compressed) -> None:
    """Refuse to write an adapter without any module."""
    if made.pairs:
        return
    if made.left_out:
        tensor = made.left_out[0]
        what = f"no adapter can represent this recipe: {tensor.name} cannot be adapted, because {tensor.why}"
        raise Refusal(what, "Build the whole model: leave out --as-adapter.")
    raise Refusal("the recipe changes nothing, and an adapter cannot be empty", "See 'persona vectors'.")
