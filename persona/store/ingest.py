"""Ingesting checkpoints: a folder becomes a :class:`Base`, a training run becomes a :class:`Vector`.

Tensors are hashed and compared in one pass; what has to be stored is hashed again as it is written, so a file that
changes in between is noticed. The user's files are only read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from persona import kernels
from persona.checkpoints import code, groups, settings
from persona.checkpoints.dtypes import ARITHMETIC, as_bits, widen
from persona.checkpoints.folder import Checkpoint
from persona.checkpoints.sidefiles import check_side_file, side_files
from persona.checkpoints.subfolders import subfolders
from persona.checkpoints.tensorfile import TensorInfo
from persona.checkpoints.ties import tied_names
from persona.errors import CheckpointError, WrongBase
from persona.files import translated
from persona.ids import BaseId, TensorId, blob_id, tensor_hasher
from persona.progress import SILENT, Progress, Task
from persona.store.kept import Keep
from persona.store.nouns import Base, ConfigPatch, TensorSpec, Vector
from persona.store.packwriter import Incoming
from persona.store.tensors import TensorStore
from persona.threads import run_all

if TYPE_CHECKING:
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
        writer.finish()
    return Base(tensors, blobs, tied)


def read_side_files(checkpoint: Checkpoint, *, allow_code: bool = False) -> dict[str, bytes]:
    """Read a checkpoint's small files, those in subfolders included, by name.

    Args:
        allow_code: Read Python files too.
    """
    folder = checkpoint.folder
    below = subfolders(folder)
    scripts = below.code if allow_code else {}
    return _read(folder, {**dict(side_files(folder, code=allow_code)), **below.data, **scripts})


def read_run_files(folder: Path) -> dict[str, bytes]:
    """Read those of a run's small files that it may bring to a build."""
    with translated(folder):
        paths = {**dict(side_files(folder)), **subfolders(folder, of_groups=True).data}
    listed = paths.get(groups.MODULES_JSON)
    modules = _read(folder, {groups.MODULES_JSON: listed})[groups.MODULES_JSON] if listed else None
    wanted = {*settings.CONFIGS, *groups.compared(paths, modules)}
    return _read(folder, {name: path for name, path in paths.items() if name in wanted})


def _read(folder: Path, paths: Mapping[str, Path]) -> dict[str, bytes]:
    contents = {}
    for name, path in paths.items():
        with translated(path):
            check_side_file(path, folder)
            contents[name] = path.read_bytes()
    return contents


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
        CheckpointError: a tensor is quantized, or changed while it was being read.
    """
    _check_shapes(checkpoint, base)
    kernels.choose(2 * sum(math.prod(info.shape) for info in checkpoint.tensors.values()))
    surveyed = survey(checkpoint, base, store, progress)
    changes = _changes(checkpoint, base, surveyed)
    if not own:
        _check_related(checkpoint, surveyed.values())
    run_files = read_run_files(checkpoint.folder)
    changed_files, patch, notes = settings_of(run_files, base, store)
    notes += _code_notes(checkpoint.folder, run_files, base)
    with store.writer() as writer:
        blobs = {name: writer.add_blob(data) for name, data in changed_files.items()}
        with progress.task("storing what changed", sum(s.info.nbytes for s in changes.changed.values())) as task:
            writer.add_tensors(_incoming(checkpoint, base, changes.changed), task)
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
    return Ingested(vector, checkpoint.nbytes, relative, (*changes.notes, *notes))


def _incoming(checkpoint: Checkpoint, base: Base, changed: Mapping[str, Surveyed]) -> Iterator[Incoming]:
    for name, tensor in changed.items():
        before = base.tensors.get(name)
        file = checkpoint.owner[name]
        label = f"{file.path}: {name}"
        yield Incoming(*spec_fields(tensor.spec), file.data(tensor.info), before.id if before else None, label)


def spec_fields(spec: TensorSpec) -> tuple[TensorId, str, tuple[int, ...]]:
    """A tensor's id, dtype and shape: the first fields of :class:`Incoming`."""
    return spec.id, spec.dtype, spec.shape


def _check_shapes(checkpoint: Checkpoint, base: Base) -> None:
    """Raise WrongBase unless the run has at least half of the base's entries, with the base's shapes or added rows."""
    tensors = checkpoint.tensors
    shared = [name for name in base.tensors if name in tensors]
    if sum(base.tensors[n].entries for n in shared) * 2 < sum(s.entries for s in base.tensors.values()):
        raise WrongBase(
            f"{checkpoint.folder} has only {len(shared)} of the base's {len(base.tensors)} tensors",
            "It was trained from another base, or the checkpoint is incomplete.",
        )
    for name in shared:
        check_shape(str(checkpoint.folder), name, tensors[name].shape, base.tensors[name].shape)


def check_shape(where: str, name: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Raise WrongBase unless ``shape`` is ``wanted``, possibly with rows added at the end."""
    if shape == wanted:
        return
    if len(shape) == len(wanted) in (1, 2) and shape[1:] == wanted[1:]:
        if shape[0] > wanted[0]:
            return
        raise WrongBase(
            f"{where}: {name} has {shape[0]} rows but the base has {wanted[0]}",
            "A run may add rows (tokens) but not remove any: resize to at least the base's rows before saving.",
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


def _changes(checkpoint: Checkpoint, base: Base, surveyed: dict[str, Surveyed]) -> _Changes:
    specs = {name: tensor.spec for name, tensor in surveyed.items()}
    _drop_tied(checkpoint.config, specs)
    for alias, embedding in base.tied.items():  # a run saved without its config
        if alias in specs and embedding in specs and specs[alias].id == specs[embedding].id:
            del specs[alias]
    changes = _Changes(
        changed={name: surveyed[name] for name, spec in specs.items() if base.tensors.get(name) != spec},
        gone=[name for name in base.tensors if name not in surveyed],
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
        yield f"adds {known[grown[0]][0] - base.tensors[grown[0]].shape[0]} row(s) to {few(grown)}"
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


def settings_of(
    run_files: Mapping[str, bytes], base: Base, store: TensorStore
) -> tuple[dict[str, bytes], dict[str, ConfigPatch], list[str]]:
    """What a run changed besides the weights: files to store, changed settings by file, and notes about both."""
    wanted = {*settings.CONFIGS, *groups.compared(base.files, _modules(base, store))} if run_files else set()
    base_files = {name: store.blob(blob) for name, blob in base.files.items() if name in wanted}
    changed = groups.changed(base_files, run_files)
    patches = {
        name: patch
        for name in settings.CONFIGS
        if (patch := settings.config_patch(settings.parse(base_files.get(name)), settings.parse(run_files.get(name))))
    }
    notes = []
    for group in changed:
        how = groups.difference(
            groups.meaning(group, base_files, base_files), groups.meaning(group, run_files, base_files)
        )
        notes.append(f"brings its own {groups.title(group)}; differences: {how}")
    if settings.quantizes(
        settings.parse(base_files.get(settings.CONFIG)), settings.parse(run_files.get(settings.CONFIG))
    ):
        notes.append("its quantization_config is left out: the weights are not quantized")
    for name, patch in sorted(patches.items()):
        notes.append(f"changes {name}: {', '.join('.'.join(path) for path, _ in patch)}")
    files = {name: run_files[name] for names in changed.values() for name in names}
    return dict(sorted(files.items())), patches, notes


def _code_notes(folder: Path, run_files: Mapping[str, bytes], base: Base) -> list[str]:
    """A note if a run has Python code that is not the base's: builds never have a run's code."""
    paths = {name: folder / name for name in code.referred(run_files)}
    own = []
    for name, path in paths.items():
        with translated(path):
            if path.is_file() and blob_id(path.read_bytes()) != base.files.get(name):
                own.append(name)
    return [f"its code ({', '.join(own)}) is not stored: builds have only the base's"] if own else []


def _modules(base: Base, store: TensorStore) -> bytes | None:
    blob = base.files.get(groups.MODULES_JSON)
    return store.blob(blob) if blob is not None else None
