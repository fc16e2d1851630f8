"""``persona build``: the model that a recipe describes, as a folder that transformers loads."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from persona import kernels
from persona.building.budget import DEFAULT as MEMORY
from persona.building.device import CPU, Device
from persona.building.device import find as find_device
from persona.building.plan import Plan
from persona.building.prepare import Prepared
from persona.building.publish import SHARD_SIZE, Shard, index_json, make_shards, output_folder
from persona.building.receipt import make_receipt
from persona.building.run import loops_for, run
from persona.building.sidefiles import model_card
from persona.building.target import check_replaceable, check_target
from persona.checkpoints.dtypes import named_dtype
from persona.checkpoints.folder import INDEX, RECEIPT
from persona.errors import UsageError
from persona.ids import CommitId
from persona.progress import SILENT, Progress
from persona.recipe.model import Recipe
from persona.repository import Repository
from persona.workspace.adapter import AdapterOptions, AdapterReport, check_rank, make_adapter
from persona.workspace.readouts import built_files, said_of
from persona.workspace.record import recipe_to_build


@dataclass(frozen=True)
class BuildResult:
    """A finished build. ``copied`` tensors are bit for bit what was committed, ``combined`` were computed.

    ``adapter`` is None unless it is one.
    """

    folder: Path
    commit: CommitId
    edited: bool
    recipe: Recipe
    tensors: int
    copied: int
    combined: int
    shards: int
    nbytes: int
    id: str
    adapter: AdapterReport | None = None


def build(
    repo: Repository,
    out: Path | str,
    rev: str | None = None,
    *,
    dtype: str | None = None,
    shard_size: int = SHARD_SIZE,
    replace: bool = False,
    memory: int = MEMORY,
    device: str = CPU,
    as_adapter: bool = False,
    rank: int | None = None,
    progress: Progress = SILENT,
) -> BuildResult:
    """Build ``rev``, or the recipe as it stands in ``persona.toml``, into the new folder ``out``.

    ``memory`` is how many bytes of tensors may be held at once; it changes how long it takes, never a byte.
    ``device`` is ``cpu``, or a GPU: ``cuda``, ``cuda:1``. ``as_adapter`` makes a PEFT adapter: exactly what the
    recipe is, or with ``rank`` the nearest one of that rank.
    """
    target = Path(out).resolve()
    wanted, on = named_dtype(dtype), find_device(device)
    if shard_size < 1:
        raise UsageError(f"a shard cannot have {shard_size} bytes", "Give a size such as 5GB.")
    if memory < 1:
        raise UsageError(f"a build cannot work in {memory} bytes", "Give a size such as 512MB.")
    if as_adapter and on is not None:
        raise UsageError("an adapter is made on the CPU", "Leave --device out.")
    check_rank(rank, as_adapter=as_adapter, sharded=shard_size != SHARD_SIZE)
    check_target(target, replace=replace)
    commit, edited, recipe = recipe_to_build(repo, rev)
    if as_adapter:
        asked = AdapterOptions(target, wanted, rank, replace)
        about = _about(recipe, commit, edited, dtype, ("cpu", kernels.current().name()))
        report, shard, receipt = make_adapter(repo, recipe, asked, about, progress)
        return _built_adapter(Path(out), commit, edited, recipe, report, shard, _receipt_id(receipt))
    prepared = repo.prepare(recipe, wanted)
    plan = prepared.plan
    shards = make_shards(plan, shard_size)
    small = _small_files(repo, prepared, commit, edited)
    if len(shards) > 1:
        small[INDEX] = index_json(shards)
    with output_folder(target, shards, replace=replace) as folder:
        folder.reserve()
        ids = run(plan, repo.tensors, folder, progress, memory=memory, on=on)
        receipt = make_receipt(_about(recipe, commit, edited, dtype, _made(plan, on)), ids, shards, small)
        for name, data in [*small.items(), (RECEIPT, receipt)]:
            folder.add_file(name, data)
        if target.exists() and any(target.iterdir()):
            check_replaceable(target)  # once more: somebody may have put something there meanwhile
        folder.publish()
    copied = sum(output.copy is not None for output in plan.outputs)
    return BuildResult(
        folder=Path(out),
        commit=commit,
        edited=edited,
        recipe=recipe,
        tensors=len(plan.outputs),
        copied=copied,
        combined=len(plan.outputs) - copied,
        shards=len(shards),
        nbytes=sum(shard.size for shard in shards),
        id=_receipt_id(receipt),
    )


def _built_adapter(
    out: Path, commit: CommitId, edited: bool, recipe: Recipe, report: AdapterReport, shard: Shard, name: str
) -> BuildResult:
    tensors = len(shard.tensors)
    return BuildResult(out, commit, edited, recipe, tensors, 0, tensors, 1, shard.size, name, report)


def _small_files(repo: Repository, prepared: Prepared, commit: CommitId, edited: bool) -> dict[str, bytes]:
    found, recipe = prepared.side_files(repo.tensors), prepared.recipe
    found["README.md"] = model_card(recipe.encode(), commit, edited, said_of(repo, recipe))
    return found | built_files(repo, recipe)


def _made(plan: Plan, on: Device | None) -> tuple[str, str]:
    """The device, and who computed there."""
    return ("cpu", loops_for(plan).name()) if on is None else (on.said, on.made)


def _about(recipe: Recipe, commit: CommitId, edited: bool, dtype: str | None, made: tuple[str, str]) -> dict[str, Any]:
    return {
        "commit": commit,
        "edited": edited,
        "recipe": recipe.encode(),
        "dtype": dtype,
        "device": made[0],
        "made": {
            "persona": version("persona-vcs"),
            "numpy": version("numpy"),
            "kernels": made[1],
            "python": platform.python_version(),
        },
    }


def _receipt_id(receipt: bytes) -> str:
    import json

    return str(json.loads(receipt)["id"])
