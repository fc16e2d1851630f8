"""Taking checkpoints in: a folder becomes a :class:`Base`, a training run becomes a :class:`Vector`.

Nothing is believed twice: tensors are hashed and compared while they are read once, and what has to be kept is
hashed again as it is written. Nothing a user owns is touched.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from persona import kernels
from persona.checkpoints import folder as folders
from persona.checkpoints import settings
from persona.checkpoints.dtypes import ARITHMETIC, as_bits, widen
from persona.checkpoints.folder import Checkpoint
from persona.checkpoints.tensorfile import TensorInfo
from persona.errors import CheckpointError, WrongBase
from persona.files import translated
from persona.ids import BaseId, BlobId, TensorId, tensor_hasher
from persona.progress import SILENT, Progress, Task
from persona.store.kept import Keep
from persona.store.nouns import Base, ConfigPatch, TensorSpec, Vector
from persona.store.packwriter import Incoming
from persona.store.tensors import TensorStore
from persona.threads import run_all

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Bits

BLOCK = 1 << 17
"""Entries that are looked at together: small enough that fp32 copies stay in a core's cache."""

UNRELATED = 1.0
"""‖τ‖/‖W‖ from which a run is no fine-tune: unrelated weights of the same size have about 1.4."""


@dataclass(frozen=True)
class Ingested:
    """A vector and what taking it in showed. ``relative_norm`` is ‖τ‖/‖W‖ over its dense tensors, or None."""

    vector: Vector
    total_bytes: int
    relative_norm: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Surveyed:
    """One tensor of a run beside the base's of the same name; squares are sums over entries, in fp32 values."""

    spec: TensorSpec
    info: TensorInfo
    delta_square: float = 0.0
    base_square: float = 0.0


@dataclass
class Kept:
    """What a run brings, sorted out."""

    changed: dict[str, Surveyed] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def ingest_base(checkpoint: Checkpoint, store: TensorStore, progress: Progress = SILENT, keep: Keep = "copy") -> Base:
    """Keep a pretrained checkpoint: its weight files as they came, its small files as blobs."""
    tensors: dict[str, TensorSpec] = {}
    with progress.task("keeping the base", checkpoint.nbytes) as task:
        for file in checkpoint.files:
            ids = store.adopt_safetensors(file.path, task, keep).tensors
            for name, info in file.tensors.items():
                tensors[name] = TensorSpec(ids[name], info.dtype, info.shape)
    tied = _drop_tied(checkpoint.config, tensors)
    with store.writer() as writer:
        blobs = {name: writer.add_blob(data) for name, data in read_side_files(checkpoint).items()}
        writer.finish()
    return Base(tensors, blobs, tied)


def read_side_files(checkpoint: Checkpoint) -> dict[str, bytes]:
    """The bytes of a checkpoint's small files."""
    found = {}
    for name, path in checkpoint.side_files.items():
        with translated(path):
            found[name] = path.read_bytes()
    return found


def _drop_tied(config: Mapping[str, object], tensors: dict[str, TensorSpec]) -> dict[str, str]:
    """Remove a head that was written out although it is the embedding; the names that are tied."""
    tied = {}
    for head, embedding in folders.tied_names(config, tensors).items():
        if head in tensors and tensors[head].id != tensors[embedding].id:
            continue
        tensors.pop(head, None)
        tied[head] = embedding
    return tied


def ingest_run(
    checkpoint: Checkpoint,
    base_id: BaseId,
    base: Base,
    store: TensorStore,
    progress: Progress = SILENT,
    *,
    own: bool = False,
) -> Ingested:
    """Keep what a full fine-tune changed; tensors that equal the base's cost nothing.

    An ``own`` checkpoint was built of this very base, however far from it.
    """
    _check_shapes(checkpoint, base)
    kernels.choose(2 * sum(math.prod(info.shape) for info in checkpoint.tensors.values()))
    surveyed = survey(checkpoint, base, store, progress)
    kept = _sort_out(checkpoint, base, surveyed)
    if not own:
        _check_related(checkpoint, surveyed.values())
    changed_files, patch, notes = settings_of(read_side_files(checkpoint), base, store)
    with store.writer() as writer:
        blobs = {name: writer.add_blob(data) for name, data in changed_files.items()}
        with progress.task("keeping what changed", sum(s.info.nbytes for s in kept.changed.values())) as task:
            writer.add_tensors(_incoming(checkpoint, base, kept.changed), task)
        writer.finish()
    relative = relative_norm(surveyed.values())
    vector = Vector(
        base=base_id,
        form="dense",
        tensors={name: kept.changed[name].spec for name in sorted(kept.changed)},
        gone=tuple(kept.gone),
        files=blobs,
        config=patch,
    )
    return Ingested(vector, checkpoint.nbytes, relative, (*kept.notes, *notes))


def _incoming(checkpoint: Checkpoint, base: Base, changed: Mapping[str, Surveyed]) -> Iterator[Incoming]:
    for name, one in changed.items():
        before = base.tensors.get(name)
        file = checkpoint.owner[name]
        label = f"{file.path}: {name}"
        yield Incoming(*spec_fields(one.spec), file.data(one.info), before.id if before else None, label)


def spec_fields(spec: TensorSpec) -> tuple[TensorId, str, tuple[int, ...]]:
    """What a tensor is, in the order in which the store takes it."""
    return spec.id, spec.dtype, spec.shape


def _check_shapes(checkpoint: Checkpoint, base: Base) -> None:
    """A run of this base has its tensors in their shapes; only rows may have been added at the end."""
    tensors = checkpoint.tensors
    shared = [name for name in base.tensors if name in tensors]
    if sum(base.tensors[n].entries for n in shared) * 2 < sum(s.entries for s in base.tensors.values()):
        raise WrongBase(
            f"{checkpoint.folder} has only {len(shared)} of the base's {len(base.tensors)} tensors",
            "It was trained from another base, or is only a part of a checkpoint.",
        )
    for name in shared:
        check_shape(str(checkpoint.folder), name, tensors[name].shape, base.tensors[name].shape)


def check_shape(where: str, name: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Raise unless ``shape`` is ``wanted``, or that with rows added."""
    if shape == wanted:
        return
    if len(shape) == len(wanted) in (1, 2) and shape[1:] == wanted[1:]:
        if shape[0] > wanted[0]:
            return
        raise WrongBase(
            f"{where}: {name} has {shape[0]} rows and the base has {wanted[0]}",
            "A run may add tokens but not drop rows: resize to at least the base's rows before saving.",
        )
    raise WrongBase(
        f"{where}: {name} is {list(shape)} and the base's is {list(wanted)}",
        "It was trained from another base. Make a repository for that one: persona init --base PATH",
    )


def survey(checkpoint: Checkpoint, base: Base, store: TensorStore, progress: Progress = SILENT) -> dict[str, Surveyed]:
    """Hash every tensor of a run and measure how far it is from the base's, in one pass on all cores."""
    tensors = checkpoint.tensors
    with progress.task("comparing with the base", sum(info.nbytes for info in tensors.values())) as task:
        jobs = {
            name: partial(_survey_one, checkpoint, info, base.tensors.get(name), store, task)
            for name, info in sorted(tensors.items(), key=lambda item: -item[1].nbytes)
        }
        surveyed = run_all(jobs)
    return {name: surveyed[name] for name in tensors}


def _survey_one(
    checkpoint: Checkpoint, info: TensorInfo, before: TensorSpec | None, store: TensorStore, task: Task
) -> Surveyed:
    data = as_bits(checkpoint.owner[info.name].data(info), info.dtype)
    hasher = tensor_hasher(info.dtype, info.shape)
    measurable = before is not None and {info.dtype, before.dtype} <= ARITHMETIC
    blocks = store.blocks(before.id, BLOCK) if before is not None and measurable else iter(())
    delta_square = base_square = 0.0
    for start in range(0, len(data), BLOCK):
        ours = data[start : start + BLOCK]
        hasher.update(ours)
        task.advance(ours.nbytes)
        theirs = next(blocks, None)
        if theirs is not None and before is not None:
            squares = _squares(ours[: len(theirs)], info.dtype, theirs, before.dtype)
            delta_square, base_square = delta_square + squares[0], base_square + squares[1]
    spec = TensorSpec(TensorId(hasher.hexdigest()), info.dtype, info.shape)
    return Surveyed(spec, info, delta_square, base_square)


def _squares(ours: Bits, dtype: str, theirs: Bits, base_dtype: str) -> tuple[float, float]:
    """Σ τ² and Σ W_base² of one block."""
    import numpy as np

    if dtype == base_dtype == "BF16":
        return kernels.current().squares(ours, theirs)
    with np.errstate(all="ignore"):
        base = widen(theirs, base_dtype)
        base_square = float(np.dot(base, base))
        if dtype == base_dtype and np.array_equal(ours, theirs):
            return 0.0, base_square
        delta = widen(ours, dtype)
        delta -= base
        return float(np.dot(delta, delta)), base_square


def _sort_out(checkpoint: Checkpoint, base: Base, surveyed: dict[str, Surveyed]) -> Kept:
    kept = Kept()
    specs = {name: one.spec for name, one in surveyed.items()}
    _drop_tied(checkpoint.config, specs)
    for alias, embedding in base.tied.items():  # a run saved without its config
        if alias in specs and embedding in specs and specs[alias].id == specs[embedding].id:
            del specs[alias]
    kept.changed = {name: surveyed[name] for name, spec in specs.items() if base.tensors.get(name) != spec}
    kept.gone = [name for name in base.tensors if name not in surveyed]
    for name, one in kept.changed.items():
        _check_can_differ(checkpoint, name, one, base)
    _note(kept, base)
    return kept


def _check_can_differ(checkpoint: Checkpoint, name: str, one: Surveyed, base: Base) -> None:
    if name in base.tensors and one.spec.dtype not in ARITHMETIC and base.tensors[name].dtype in ARITHMETIC:
        raise CheckpointError(
            f"{checkpoint.folder}: {name} is {one.spec.dtype} and the base's is {base.tensors[name].dtype}",
            "A quantized run has no exact difference to its base: save it dequantized (bf16, fp16 or fp32).",
        )


def _note(kept: Kept, base: Base) -> None:
    new = [name for name in kept.changed if name not in base.tensors]
    grown = [
        name
        for name, one in kept.changed.items()
        if name in base.tensors and one.spec.shape != base.tensors[name].shape
    ]
    broken = [name for name, one in kept.changed.items() if not math.isfinite(one.delta_square)]
    if grown:
        rows = kept.changed[grown[0]].spec.shape[0] - base.tensors[grown[0]].shape[0]
        kept.notes.append(f"adds {rows} row(s) to {_few(grown)}")
    if new:
        kept.notes.append(f"brings {len(new)} tensor(s) that the base has not: {_few(new)}")
    if kept.gone:
        kept.notes.append(f"lacks {len(kept.gone)} tensor(s) of the base: {_few(kept.gone)}")
    if broken:
        kept.notes.append(f"holds NaN or infinity in {len(broken)} tensor(s): {_few(broken)}")


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _check_related(checkpoint: Checkpoint, surveyed: Iterable[Surveyed]) -> None:
    """Raise if the matrices are not near the base's. Norm weights are left out: all models have them near 1."""
    relative = relative_norm(one for one in surveyed if len(one.spec.shape) > 1)
    if relative is not None and relative >= UNRELATED:
        raise WrongBase(
            f"{checkpoint.folder} is no fine-tune of this base: its matrices differ by {relative:.0%} of their norm",
            "It was trained from another base. Make a repository for that one: persona init --base PATH",
        )


def relative_norm(surveyed: Iterable[Surveyed]) -> float | None:
    """‖τ‖/‖W_base‖ over the tensors of a run, or None where it is no finite number."""
    pairs = [(one.delta_square, one.base_square) for one in surveyed]
    delta, base = (sum(column) for column in zip(*pairs, strict=True)) if pairs else (0.0, 0.0)
    ratio = delta / base if base > 0 else math.nan
    return math.sqrt(ratio) if math.isfinite(ratio) else None


def settings_of(
    run_files: Mapping[str, bytes], base: Base, store: TensorStore
) -> tuple[dict[str, bytes], dict[str, ConfigPatch], list[str]]:
    """What a run changed beside the weights: files to take along, settings by file, and notes about both."""
    compared = settings.relevant(base.files, run_files)
    base_files = {name: store.blob(BlobId(base.files[name])) for name in compared if name in base.files}
    changed = {name: run_files[name] for name in settings.changed_files(base_files, run_files)}
    patches = {
        name: patch
        for name in settings.CONFIGS
        if (patch := settings.config_patch(settings.parse(base_files.get(name)), settings.parse(run_files.get(name))))
    }
    notes = [f"brings its own {', '.join(sorted(changed))}"] if changed else []
    for name, patch in sorted(patches.items()):
        notes.append(f"changes {name}: {', '.join('.'.join(path) for path, _ in patch)}")
    return changed, patches, notes
