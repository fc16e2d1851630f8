"""``persona build``: write the model that a recipe describes as a folder that transformers can load."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from persona import kernels
from persona.building.budget import DEFAULT as MEMORY
from persona.building.card import CardRow, model_card, usage_of_model
from persona.building.device import CPU, Device
from persona.building.device import find as find_device
from persona.building.prepare import Prepared
from persona.building.publish import SHARD_SIZE, Shard, index_json, make_shards, output_folder
from persona.building.receipt import make_receipt
from persona.building.run import loops_for, run
from persona.building.stated import check_stated, weight_files
from persona.building.target import check_target, publish
from persona.checkpoints import settings
from persona.checkpoints.dtypes import named_dtype
from persona.checkpoints.sidefiles import INDEX
from persona.errors import UsageError
from persona.evaluate.results import FigureReading, readings
from persona.history.evaluations import number_called
from persona.ids import CommitId
from persona.notebook import Shown
from persona.progress import SILENT, Progress
from persona.recipe.model import Recipe
from persona.repository import Repository
from persona.workspace.adapter import AdapterOptions, AdapterReport, check_rank, make_adapter
from persona.workspace.readouts import built_files, describe_readouts
from persona.workspace.record import recipe_to_build


@dataclass(frozen=True, repr=False)
class BuildResult(Shown):
    """A finished build.

    ``edited`` says that it includes uncommitted edits of persona.toml on top of ``commit``. ``copied`` counts tensors
    that equal a committed one bit for bit, ``combined`` those that were computed. ``id`` is the id of its receipt.
    ``not_finite`` are the tensors that have infinities or NaNs. ``adapter`` is null unless the build is an adapter.
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
    not_finite: tuple[str, ...] = ()
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
    """Build a revision, or the current ``persona.toml``, into a new folder.

    Args:
        out: Folder to create. It appears complete or not at all.
        rev: Revision to build. By default the current ``persona.toml``.
        dtype: ``bf16``, ``fp16`` or ``fp32`` for all float tensors. By default each keeps its own.
        shard_size: Maximum number of bytes per weight file; a single larger tensor gets a file of its own.
        replace: Replace an earlier build in ``out``.
        memory: Bytes of tensors to hold at once. Less is slower; the result is the same.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        as_adapter: Write a PEFT adapter: the recipe exactly or, with ``rank``, the nearest adapter of that rank.
        rank: Rank of the adapter.

    Raises:
        UsageError: an option or the recipe is invalid.
        Refusal: ``out`` is in use, two vectors cannot be built together, or no exact adapter exists.
    """
    on_device = find_device(device)
    if shard_size < 1:
        raise UsageError(f"a shard cannot have {shard_size} bytes", "Give a size such as 5GB.")
    if memory < 1:
        raise UsageError(f"a build cannot work in {memory} bytes", "Give a size such as 512MB.")
    if as_adapter and on_device is not None:
        raise UsageError("adapters are built on the CPU", "Leave out --device.")
    check_rank(rank, as_adapter=as_adapter, sharded=shard_size != SHARD_SIZE)
    job = _Job(repo, *recipe_to_build(repo, rev), Path(out), dtype, replace, progress)
    check_target(job.target, replace=replace)
    return _build_adapter(job, rank) if as_adapter else _build_model(job, shard_size, memory, on_device)


@dataclass(frozen=True)
class _Job:
    """What to build, and into which folder."""

    repo: Repository
    commit: CommitId
    edited: bool
    recipe: Recipe
    out: Path
    dtype: str | None
    replace: bool
    progress: Progress

    @property
    def target(self) -> Path:
        """The folder as an absolute path."""
        return self.out.resolve()

    def about(self, device: str, kernel: str) -> dict[str, Any]:
        """The receipt's fields that say what was built, and by which software."""
        return {
            "commit": self.commit,
            "edited": self.edited,
            "recipe": self.recipe.encode(),
            "dtype": self.dtype,
            "device": device,
            "made": {
                "persona": version("persona-vcs"),
                "numpy": version("numpy"),
                "kernels": kernel,
                "python": platform.python_version(),
            },
        }

    def small_files(self, prepared: Prepared) -> dict[str, bytes]:
        """Everything beside weights and receipt: configs, tokenizer, model card and readouts."""
        beside = prepared.beside(self.repo.tensors)
        for note in beside.notes:
            self.progress.note(note)
        small = dict(beside.files)
        small["README.md"] = model_card(
            self.recipe.encode(),
            self.commit,
            self.edited,
            describe_readouts(self.repo, self.recipe),
            usage=usage_of_model(settings.parse(small.get(settings.CONFIG)), small),
            measured=self.measured(),
        )
        return small | built_files(self.repo, self.recipe)

    def measured(self) -> tuple[CardRow, ...]:
        """What is known of these weights: nothing, if they are rounded to another dtype than those that were measured."""
        if self.dtype is not None:
            return ()
        return tuple(
            CardRow(
                one.source, number_called(one.measure, one.name), f"{one.value:.4g} {one.unit}".rstrip(), _interval(one)
            )
            for one in readings(self.repo, self.recipe)
        )

    def result(
        self,
        receipt: bytes,
        shards: list[Shard],
        copied: int,
        *,
        not_finite: Iterable[str] = (),
        adapter: AdapterReport | None = None,
    ) -> BuildResult:
        """The result, once the folder is there."""
        tensors = sum(len(shard.tensors) for shard in shards)
        return BuildResult(
            folder=self.out,
            commit=self.commit,
            edited=self.edited,
            recipe=self.recipe,
            tensors=tensors,
            copied=copied,
            combined=tensors - copied,
            shards=len(shards),
            nbytes=sum(shard.size for shard in shards),
            id=json.loads(receipt)["id"],
            not_finite=tuple(sorted(not_finite)),
            adapter=adapter,
        )


def _interval(reading: FigureReading) -> str:
    if reading.low is None or reading.high is None:
        return ""
    return f"{reading.low:.4g} to {reading.high:.4g}"


def _build_model(job: _Job, shard_size: int, memory: int, device: Device | None) -> BuildResult:
    prepared = job.repo.prepare(job.recipe, named_dtype(job.dtype))
    plan = prepared.plan
    check_stated(plan, job.repo.tensors)
    shards = make_shards(plan, shard_size)
    small = job.small_files(prepared)
    if len(shards) > 1:
        small[INDEX] = index_json(shards)
    with output_folder(job.target, shards, replace=job.replace, like=weight_files(plan, job.repo.tensors)) as folder:
        folder.reserve()
        ids = run(plan, job.repo.tensors, folder, job.progress, memory=memory, on=device, compare=True)
        made = ("cpu", loops_for(plan).name()) if device is None else (device.label, device.software)
        receipt = make_receipt(job.about(*made), ids, shards, small)
        publish(folder, small, receipt)
    copied = sum(output.copy is not None for output in plan.outputs)
    return job.result(receipt, shards, copied, not_finite=folder.not_finite)


def _build_adapter(job: _Job, rank: int | None) -> BuildResult:
    options = AdapterOptions(job.target, named_dtype(job.dtype), rank, job.replace)
    about = job.about("cpu", kernels.current().name())
    report, shard, receipt = make_adapter(job.repo, job.recipe, options, about, job.progress)
    return job.result(receipt, [shard], 0, adapter=report)
