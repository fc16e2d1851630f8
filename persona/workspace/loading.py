"""What a person named, as a model in memory: shared by the commands that run one."""

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
from persona.workspace.operands import Operand, operand_of, worktree_operand

if TYPE_CHECKING:
    from persona.inference.load import LoadedModel


def load_model(
    repo: Repository | None,
    said: str | Path | None,
    cwd: Path,
    *,
    dtype: str | None = None,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> LoadedModel:
    """The model that ``said`` means, ready to run: a revision, ``persona.toml`` as it stands (None), a vector on its base
    (``NAME``, ``NAME@REV``), a built folder or any folder of a causal model. A revision is never written to disk.
    """
    if said is None:
        if repo is None:
            raise UsageError("which model?", "Outside of a repository, give a folder.")
        return load_operand(repo, worktree_operand(repo), dtype=dtype, device=device, progress=progress)
    return load_operand(repo, operand_of(repo, said, cwd), dtype=dtype, device=device, progress=progress)


def load_operand(
    repo: Repository | None,
    side: Operand,
    *,
    dtype: str | None = None,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> LoadedModel:
    """The same of a side that was found already."""
    from persona.inference.load import checked_device, from_folder

    checked_device(device)
    if side.folder is not None:
        if is_adapter(side.folder):
            raise UsageError(
                f"{side.folder} is an adapter, and no model",
                "Commit it and give the vector's name, or build the recipe and give that folder.",
            )
        base = side.recipe.base if side.recipe is not None else None
        return warn_if_slow(
            from_folder(side.folder, side.label, dtype, device, base=base, revision=side.commit), progress
        )
    assert repo is not None
    assert side.recipe is not None
    live = load_recipe(repo, side.recipe, side.label, side.commit, dtype=dtype, device=device, progress=progress)
    return warn_if_slow(live, progress)


def warn_if_slow(live: LoadedModel, progress: Progress) -> LoadedModel:
    """The model; before it is run, whoever waits hears if there is a much quicker way."""
    from persona.inference.load import is_emulated

    if is_emulated(live):
        progress.note(
            f"{live.label} runs in {live.dtype}, which this CPU has no sums in: --dtype fp32 takes twice the memory, "
            "and a small part of the time"
        )
    return live


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
    """What a recipe builds, in memory."""
    from persona.inference.load import from_tensors

    plan, small = planned(repo, recipe)
    tensors = build_in_memory(plan, repo.tensors, progress)
    return from_tensors(small, tensors, label, dtype, device, base=recipe.base, revision=commit)


def planned(repo: Repository, recipe: Recipe) -> tuple[Plan, dict[str, bytes]]:
    """What a build of a recipe would compute, and its small files; no weight is read."""
    prepared = repo.prepare(recipe)
    return prepared.plan, prepared.side_files(repo.tensors)


def reader_of_recipe(repo: Repository, recipe: Recipe, label: str) -> tuple[Any, int | None]:
    """The tokenizer of what a recipe builds, and how many tokens it reads at once; no weight is read. Raises where it has none."""
    from persona.inference.load import reader_of

    tokenizer, most = reader_of(planned(repo, recipe)[1], label)
    if tokenizer is None:
        raise UsageError(f"{label} has no tokenizer", "Save one beside the base: tokenizer.save_pretrained.")
    return tokenizer, most
