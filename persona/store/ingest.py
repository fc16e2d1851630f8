"""Ingesting checkpoints: a folder becomes a :class:`Base`, a training run becomes a :class:`Vector`.

Tensors are hashed and compared in one pass; what has to be stored is hashed again as it is written. Nothing is recorded
if a file changed between the first read and the last. The user's files are only read.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from persona import kernels
from persona.checkpoints.alignment import Aligned, aligned
from persona.checkpoints.computed import same_but_rows
from persona.checkpoints.dtypes import ARITHMETIC, BITS, as_bits, widen
from persona.checkpoints.folder import Checkpoint
from persona.checkpoints.tensorfile import TensorInfo
from persona.checkpoints.ties import tied_names
from persona.errors import CheckpointError, WrongBase
from persona.ids import BaseId, TensorId, tensor_hasher
from persona.progress import SILENT, Progress, Task
from persona.store.ingest_files import base_config, code_notes, read_run_files, read_side_files, settings_of
from persona.store.kept import Keep
from persona.store.nouns import Base, TensorSpec, Vector
from persona.store.packwriter import Incoming
from persona.store.padding import padded, rows_of
from persona.store.tensors import TensorStore
from persona.threads import run_all

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from persona.checkpoints.dtypes import Bits

BLOCK = 1 << 17
"""Entries per block: small enough that fp32 copies stay in a core's cache."""

OTHER_BASE = "It was trained from another base. Create a repository for that base: persona init --base PATH"

UNRELATED = 1.0
"""‖τ‖/‖W‖ from which a run is not a fine-tune of the base: for unrelated weights of the same size it is about 1.4."""


@dataclass(frozen=True)
class Ingested:
    """An ingested vector.

    ``relative_norm`` is ‖τ‖/‖W‖ over its dense tensors, or None; ``notes`` say what is unusual about it.
    """

    vector: Vector
    total_bytes: int
    relative_norm: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Surveyed:
    """A tensor of a run, compared with the base's tensor of the same name: Σ τ² and Σ W_base² in fp32 values."""

    spec: TensorSpec
    info: TensorInfo
    delta_square: float = 0.0
    base_square: float = 0.0


@dataclass
class _Changes:
    """How a run differs from its base: changed or added tensors, removed tensors, and notes."""

    changed: dict[str, Surveyed] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def ingest_base(
    checkpoint: Checkpoint,
    store: TensorStore,
    progress: Progress = SILENT,
    keep: Keep = "copy",
    *,
    allow_code: bool = False,
) -> Base:
    """Store a pretrained checkpoint: weight files unchanged, small files as blobs.

    Args:
        keep: Copy, hard-link or only reference the weight files.
        allow_code: Store its Python files too.
    """
    tensors: dict[str, TensorSpec] = {}
    with progress.task("storing the base", checkpoint.nbytes) as task:
        for file in checkpoint.files:
            ids = store.adopt_safetensors(file.path, task, keep).tensors
            for name, info in file.tensors.items():
                tensors[name] = TensorSpec(ids[name], info.dtype, info.shape)
    tied = _drop_tied(checkpoint.config, tensors)
    with store.writer() as writer:
        blobs = {
            name: writer.add_blob(data) for name, data in read_side_files(checkpoint, allow_code=allow_code).items()
        }
        checkpoint.watch.check()
        writer.finish()
    return Base(tensors, blobs, tied)


def _drop_tied(config: Mapping[str, object], tensors: dict[str, TensorSpec]) -> dict[str, str]:
    """Remove a saved copy of a tied head from ``tensors``; returns tied names → the tensor that they share."""
    tied = {}
    for head, embedding in tied_names(config, tensors).items():
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
    """Store what a full fine-tune changed; tensors equal to the base's take no space.

    Args:
        own: The checkpoint was built from this base, so skip the check that it is close to it.

    Raises:
        WrongBase: the checkpoint was trained from another base.
        CheckpointError: a tensor is quantized.
        Storage: a file cannot be read, or changed while it was being read.
    """
    run = under_base(checkpoint, base, store)
    checkpoint, short = padded(run.checkpoint, base, base_config(base, store), store)
    _check_shapes(checkpoint, base)
    kernels.choose(2 * sum(math.prod(info.shape) for info in checkpoint.tensors.values()))
    surveyed = survey(checkpoint, base, store, progress)
    changes = _changes(checkpoint, base, surveyed, run.ignored)
    if not own:
        _check_related(checkpoint, surveyed.values())
    try:
        run_files = read_run_files(checkpoint.folder, checkpoint.side_files)
    except CheckpointError:
        checkpoint.watch.check()  # a file that was written to meanwhile may look cut short
        raise
    changed_files, patch, notes = settings_of(run_files, base, store)
    notes += code_notes(checkpoint.folder, run_files, base)
    with store.writer(checkpoint.watch.paths) as writer:
        blobs = {name: writer.add_blob(data) for name, data in changed_files.items()}
        with progress.task("storing what changed", sum(s.info.nbytes for s in changes.changed.values())) as task:
            writer.add_tensors(_incoming(checkpoint, base, changes.changed), task)
        checkpoint.watch.check()
        writer.finish()
    relative = relative_norm(surveyed.values())
    vector = Vector(
        base=base_id,
        form="dense",
        tensors={name: changes.changed[name].spec for name in sorted(changes.changed)},
        gone=tuple(changes.gone),
        files=blobs,
        config=patch,
    )
    return Ingested(
        vector,
        checkpoint.nbytes,
        relative,
        (*checkpoint.notes, *run.notes, *short, *_kept(run.ignored), *changes.notes, *notes),
    )


def under_base(checkpoint: Checkpoint, base: Base, store: TensorStore) -> Aligned:
    """A run with the tensors that its base has, under their names.

    Raises:
        CheckpointError: two of the run's tensors have the same name in the base.
    """
    shapes = {name: spec.shape for name, spec in base.tensors.items()}
    run = aligned(checkpoint, shapes, base.tied, base_config(base, store))
    return replace(run, checkpoint=_split(run.checkpoint, base))


def _split(checkpoint: Checkpoint, base: Base) -> Checkpoint:
    """A run that ties tensors that are several in its base, with a copy under each of their names."""
    tied = tied_names(checkpoint.config, checkpoint.infos)
    copies = {alias: name for alias, name in tied.items() if alias in base.tensors and alias not in checkpoint.infos}
    infos = {alias: replace(checkpoint.infos[name], name=alias) for alias, name in copies.items()}
    owner = {alias: checkpoint.owner[name] for alias, name in copies.items()}
    return replace(checkpoint, infos={**checkpoint.infos, **infos}, owner={**checkpoint.owner, **owner})


def _kept(ignored: Sequence[str]) -> Iterator[str]:
    if ignored:
        yield f"keeps {len(ignored)} tensor(s) of the base that the model's class does not load: {few(list(ignored))}"


def _incoming(checkpoint: Checkpoint, base: Base, changed: Mapping[str, Surveyed]) -> Iterator[Incoming]:
    for name, tensor in changed.items():
        before = base.tensors.get(name)
        file = checkpoint.owner[name]
        label = f"{file.path}: {name}"
        yield Incoming(*spec_fields(tensor.spec), file.lazy(tensor.info), before.id if before else None, label)


def spec_fields(spec: TensorSpec) -> tuple[TensorId, str, tuple[int, ...]]:
    """A tensor's id, dtype and shape: the first fields of :class:`Incoming`."""
    return spec.id, spec.dtype, spec.shape


def _check_shapes(checkpoint: Checkpoint, base: Base) -> None:
    """Raise WrongBase unless the run has at least half of the base's entries, with the base's shapes or added rows."""
    tensors = checkpoint.tensors
    shared = [name for name in base.tensors if name in tensors]
    if sum(base.tensors[n].entries for n in shared) * 2 < sum(s.entries for s in base.tensors.values()):
        other = next((name for name in tensors if name not in base.tensors), None)
        missing = next((name for name in base.tensors if name not in tensors), None)
        raise WrongBase(
            f"{checkpoint.folder} has only {len(shared)} of the base's {len(base.tensors)} tensors"
            + (f": it has '{other}', for example, and the base has '{missing}'" if other else ""),
            "It was trained from another base or saved by another model class, or the checkpoint is incomplete.",
        )
    for name in shared:
        check_shape(str(checkpoint.folder), name, tensors[name].shape, base.tensors[name].shape)


def check_shape(where: str, name: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Raise WrongBase unless ``shape`` is ``wanted``, possibly with rows added at the end."""
    if shape == wanted:
        return
    if same_but_rows(shape, wanted):
        if math.prod(shape) > math.prod(wanted):
            return
        raise WrongBase(
            f"{where}: {name} has shape {list(shape)} but the base's has {list(wanted)}, and no vocab_size says that these are tokens",
            "A run may only have fewer rows where each is a token: resize to the base's rows before saving.",
        )
    raise WrongBase(f"{where}: {name} has shape {list(shape)} but the base's has {list(wanted)}", OTHER_BASE)


def survey(checkpoint: Checkpoint, base: Base, store: TensorStore, progress: Progress = SILENT) -> dict[str, Surveyed]:
    """Hash every tensor of a run and measure its distance from the base's, in one pass on all cores."""
    tensors = checkpoint.tensors
    with progress.task("comparing with the base", sum(info.nbytes for info in tensors.values())) as task:
        jobs = {
            name: partial(_survey_tensor, checkpoint, info, base.tensors.get(name), store, task)
            for name, info in sorted(tensors.items(), key=lambda item: -item[1].nbytes)
        }
        surveyed = run_all(jobs)
    return {name: surveyed[name] for name in tensors}


def _survey_tensor(
    checkpoint: Checkpoint, info: TensorInfo, before: TensorSpec | None, store: TensorStore, task: Task
) -> Surveyed:
    import numpy as np

    file, width = checkpoint.owner[info.name].held(info), max(BITS[info.dtype], 8) // 8
    room, other = np.empty(BLOCK * width, np.uint8), np.empty(BLOCK * 8, np.uint8)
    hasher = tensor_hasher(info.dtype, info.shape)
    measurable = before is not None and {info.dtype, before.dtype} <= ARITHMETIC
    blocks = store.blocks(before.id, BLOCK, partial(_room, other)) if before and measurable else iter(())
    delta_square = base_square = 0.0
    for start in range(0, info.nbytes, len(room)):
        ours = as_bits(file.read(info, start, min(start + len(room), info.nbytes), room), info.dtype)
        hasher.update(ours)
        task.advance(ours.nbytes)
        theirs = next(blocks, None)
        if theirs is not None and before is not None:
            squares = _squares(ours[: len(theirs)], info.dtype, theirs, before.dtype)
            delta_square, base_square = delta_square + squares[0], base_square + squares[1]
    spec = TensorSpec(TensorId(hasher.hexdigest()), info.dtype, info.shape)
    return Surveyed(spec, info, delta_square, base_square)


def _room(memory: npt.NDArray[np.uint8], count: int, width: int) -> Bits:
    """The beginning of ``memory`` as a block."""
    return memory[: count * width].view(f"<u{width}")


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


def _changes(checkpoint: Checkpoint, base: Base, surveyed: dict[str, Surveyed], keeps: Collection[str]) -> _Changes:
    specs = {name: tensor.spec for name, tensor in surveyed.items()}
    for alias, name in {**tied_names(checkpoint.config, specs), **base.tied}.items():  # a run may have no config
        if alias in specs and name in specs and specs[alias].id == specs[name].id and alias not in base.tensors:
            del specs[alias]
    changes = _Changes(
        changed={name: surveyed[name] for name, spec in specs.items() if base.tensors.get(name) != spec},
        gone=[name for name in base.tensors if name not in surveyed and name not in keeps],
    )
    for name, tensor in changes.changed.items():
        _check_dtype(checkpoint, name, tensor.spec.dtype, base)
    changes.notes = list(_notes(changes, base))
    return changes


def _check_dtype(checkpoint: Checkpoint, name: str, dtype: str, base: Base) -> None:
    if name in base.tensors and dtype not in ARITHMETIC and base.tensors[name].dtype in ARITHMETIC:
        raise CheckpointError(
            f"{checkpoint.folder}: {name} is {dtype} but the base's is {base.tensors[name].dtype}",
            "A quantized run has no exact difference to its base: save it dequantized (bf16, fp16 or fp32).",
        )


def _notes(changes: _Changes, base: Base) -> Iterator[str]:
    changed = changes.changed
    known = {name: tensor.spec.shape for name, tensor in changed.items() if name in base.tensors}
    new = [name for name in changed if name not in known]
    grown = [name for name, shape in known.items() if shape != base.tensors[name].shape]
    broken = [name for name, tensor in changed.items() if not math.isfinite(tensor.delta_square)]
    if grown:
        yield f"adds {rows_of(known[grown[0]]) - rows_of(base.tensors[grown[0]].shape)} row(s) to {few(grown)}"
    if new:
        yield f"adds {len(new)} tensor(s) that the base does not have: {few(new)}"
    if changes.gone:
        yield f"lacks {len(changes.gone)} tensor(s) of the base: {few(changes.gone)}"
    if broken:
        yield f"contains NaN or infinity in {len(broken)} tensor(s): {few(broken)}"


def few(names: list[str]) -> str:
    """The first three names."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _check_related(checkpoint: Checkpoint, surveyed: Iterable[Surveyed]) -> None:
    """Raise if the matrices are not close to the base's. Norm weights are skipped: they are near 1 in all models."""
    relative = relative_norm(tensor for tensor in surveyed if len(tensor.spec.shape) > 1)
    if relative is not None and relative >= UNRELATED:
        raise WrongBase(
            f"{checkpoint.folder} is not a fine-tune of this base: its matrices differ by {relative:.0%} of their norm",
            OTHER_BASE,
        )


def relative_norm(surveyed: Iterable[Surveyed]) -> float | None:
    """‖τ‖/‖W_base‖ over the tensors of a run, or None if it is not finite."""
    pairs = [(tensor.delta_square, tensor.base_square) for tensor in surveyed]
    delta, base = (sum(column) for column in zip(*pairs, strict=True)) if pairs else (0.0, 0.0)
    ratio = delta / base if base > 0 else math.nan
    return math.sqrt(ratio) if math.isfinite(ratio) else None
