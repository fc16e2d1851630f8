"""Loading a model by what the user typed, for the commands that run one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.building.inmemory import build_in_memory
from persona.building.plan import Plan
from persona.checkpoints.folder import is_adapter
from persona.errors import UsageError
from persona.progress import SILENT, Progress
from persona.recipe.model import Recipe
from persona.repository import Repository
from persona.workspace.operands import REVISION, Operand, is_known, operand_of, usable_recipe, worktree_operand

if TYPE_CHECKING:
    from persona.inference.load import LoadedModel

BASE = "base"
"""Names the base alone."""


def load_model(
    repo: Repository | None,
    spec: str | Path | None,
    cwd: Path,
    *,
    dtype: str | None = None,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> LoadedModel:
    """Load the model that ``spec`` names, without writing it to disk.

    Args:
        repo: The repository; None outside of one, where only folders can be loaded.
        spec: A revision, ``NAME`` or ``NAME@REV`` (one vector on its base), a folder, or None for the current
            ``persona.toml``.
        cwd: Folder that relative paths in ``spec`` start from.
        dtype: Data type to run in. By default as stored.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        progress: Where progress and warnings are reported.

    Raises:
        UsageError: ``spec`` names nothing, or an adapter.
        CheckpointError: the folder cannot be loaded.
    """
    if spec is not None:
        operand = operand_of(repo, spec, cwd)
    elif repo is not None:
        operand = worktree_operand(repo)
    else:
        raise UsageError("no model given", "Outside a repository, give a folder.")
    return load_operand(repo, operand, dtype=dtype, device=device, progress=progress)


def model_operand(repo: Repository, spec: str | Path | None, cwd: Path) -> Operand:
    """Find the model that ``spec`` names: see :func:`load_model`. ``base`` is the base alone, unless a revision or vector
    is called so.

    Raises:
        UsageError: ``spec`` names nothing.
    """
    if spec is None:
        return worktree_operand(repo)
    if spec == BASE and not is_known(repo, BASE):
        current = usable_recipe(repo)
        return Operand(REVISION, BASE, Recipe(current.base, current.base_name))
    return operand_of(repo, spec, cwd)


def load_operand(
    repo: Repository | None,
    operand: Operand,
    *,
    dtype: str | None = None,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> LoadedModel:
    """Load the model of an operand that was already found; see :func:`load_model`."""
    from persona.inference.load import checked_device, from_folder

    checked_device(device)
    recipe, label, commit = operand.recipe, operand.label, operand.commit
    if operand.folder is not None:
        if is_adapter(operand.folder):
            raise UsageError(
                f"{operand.folder} is an adapter, not a model",
                "Commit it and give the vector's name, or build the recipe and give that folder.",
            )
        base = recipe.base if recipe is not None else None
        loaded = from_folder(operand.folder, label, dtype, device, base=base, revision=commit)
    else:
        assert repo is not None
        assert recipe is not None
        loaded = load_recipe(repo, recipe, label, commit, dtype=dtype, device=device, progress=progress)
    return warn_if_slow(loaded, progress)


def warn_if_slow(loaded: LoadedModel, progress: Progress) -> LoadedModel:
    """Warn if the CPU emulates the model's dtype, which is many times slower than fp32. Returns ``loaded``."""
    from persona.inference.load import is_emulated

    if is_emulated(loaded):
        progress.note(
            f"{loaded.label} runs in {loaded.dtype}, which this CPU does not support natively: "
            "--dtype fp32 is many times faster and needs twice the memory"
        )
    return loaded


def load_recipe(
    repo: Repository,
    recipe: Recipe,
    label: str,
    commit: str | None = None,
    *,
    dtype: str | None = None,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> LoadedModel:
    """Build a recipe in memory and load it. ``label`` names it in messages, ``commit`` is its id if it has one."""
    from persona.inference.load import from_tensors

    plan, small = planned(repo, recipe)
    tensors = build_in_memory(plan, repo.tensors, progress)
    return from_tensors(small, tensors, label, dtype, device, base=recipe.base, revision=commit)


def planned(repo: Repository, recipe: Recipe) -> tuple[Plan, dict[str, bytes]]:
    """Plan the build of a recipe and make its small files, without reading weights."""
    prepared = repo.prepare(recipe)
    return prepared.plan, prepared.side_files(repo.tensors)


def reader_of_recipe(repo: Repository, recipe: Recipe, label: str) -> tuple[Any, int | None]:
    """Load the tokenizer that a recipe builds, without reading weights.

    Returns:
        The tokenizer, and the length of the model's context (None if unknown).

    Raises:
        UsageError: there is no tokenizer.
    """
    from persona.inference.load import reader_of

    tokenizer, context = reader_of(planned(repo, recipe)[1], label)
    if tokenizer is None:
        raise UsageError(f"{label} has no tokenizer", "Save one in the base's folder with tokenizer.save_pretrained.")
    return tokenizer, context
