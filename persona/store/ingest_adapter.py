"""Ingesting PEFT adapters: factors are stored as factors; other changes are made dense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from persona.checkpoints.adapter import Adapter, Factor, LowRank, MadeDense, open_adapter
from persona.checkpoints.adapters.model import Cuts
from persona.checkpoints.dtypes import ARITHMETIC
from persona.checkpoints.folder import open_checkpoint
from persona.checkpoints.modules import Modules
from persona.checkpoints.settings import CONFIGS
from persona.checkpoints.sidefiles import side_files
from persona.checkpoints.stability import Watch
from persona.checkpoints.tensorfile import TensorInfo
from persona.errors import CheckpointError, WrongBase
from persona.files import translated
from persona.ids import BaseId, TensorId, tensor_id
from persona.progress import SILENT, Progress
from persona.store.ingest import Ingested, check_shape, few, spec_fields
from persona.store.ingest_files import base_config, read_run_files, settings_of
from persona.store.nouns import Base, ConfigPatch, LowRankSpec, TensorSpec, Vector
from persona.store.packwriter import Incoming
from persona.store.tensors import TensorStore

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Bits

SAMPLE = 64 << 20
"""Bytes to compare between the base that an adapter names, if its folder still exists, and the repository's."""


@dataclass(frozen=True)
class StoredBase:
    """A stored base as the adapter reader's :class:`BaseView`."""

    base: Base
    store: TensorStore

    @property
    def names(self) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """Tensor name → (dtype, shape)."""
        return {name: (spec.dtype, spec.shape) for name, spec in self.base.tensors.items()}

    @property
    def tied(self) -> Mapping[str, str]:
        """Names that share another tensor."""
        return self.base.tied

    @cached_property
    def modules(self) -> Modules | None:
        """The loaded model, if transformers has it."""
        config = base_config(self.base, self.store)
        return Modules.of(config) if config else None

    def bits(self, name: str) -> Bits:
        """A tensor's bits in its shape, checked against its id."""
        spec = self.base.tensors[name]
        return self.store.read(spec.id).reshape(spec.shape)


def ingest_adapter(
    folder: Path,
    base_id: BaseId,
    base: Base,
    store: TensorStore,
    progress: Progress = SILENT,
    *,
    tied: str | None = None,
) -> Ingested:
    """Store an adapter as a vector of ``base``.

    Args:
        tied: What to do with a change to one of two tied names: ``untie`` or ``merge`` (see ``adapters.ties``).

    Raises:
        CheckpointError: ``folder`` is not an adapter, or its weights cannot be expressed as a vector.
        WrongBase: the adapter was trained on another base.
        Storage: a file cannot be read, or changed while it was being read.
    """
    with translated(folder):
        watch = Watch(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
    adapter = checked_adapter(folder, base_id, base, store, tied=tied)
    files, _, notes = settings_of(_tokenizer_files(folder), base, store)
    total = sum(info.nbytes for info in adapter.file.tensors.values())
    kept: dict[str, TensorSpec] = {}
    with store.writer(watch.paths) as writer:
        with progress.task("storing the adapter", total) as task:
            writer.add_tensors(_incoming(adapter, base, kept), task)
        blobs = {name: writer.add_blob(data) for name, data in files.items()}
        watch.check()
        writer.finish()
    vector = Vector(
        base=base_id,
        form="lora",
        tensors={name: kept[name] for name in sorted({*adapter.full, *adapter.made})},
        low_rank={name: _low_rank(spec, kept) for name, spec in sorted(adapter.low_rank.items())},
        files=blobs,
        config=_patch(adapter),
    )
    return Ingested(vector, adapter.file.size, None, (*_notes(adapter, base), *notes))


def _tokenizer_files(folder: Path) -> dict[str, bytes]:
    """The files beside an adapter that trainers write from what they trained with: no settings, which are the base's."""
    return {
        name: data for name, data in read_run_files(folder, dict(side_files(folder))).items() if name not in CONFIGS
    }


def checked_adapter(
    folder: Path, base_id: BaseId, base: Base, store: TensorStore, *, tied: str | None = None
) -> Adapter:
    """Open the adapter in ``folder`` and check that it can be a vector of ``base``, without reading its weights.

    Raises:
        CheckpointError: ``folder`` is not an adapter, or its weights cannot be expressed as a vector.
        WrongBase: the adapter was trained on another base.
    """
    adapter = open_adapter(folder, StoredBase(base, store), tied)
    _check_base(folder, adapter, base_id, base)
    for name, info in adapter.full.items():
        if name in base.tensors:
            check_shape(str(adapter.file.path), name, info.shape, base.tensors[name].shape)
    return adapter


def tensor_ids(adapter: Adapter, base: Base) -> Iterator[TensorId]:
    """The ids of the tensors that would be stored; each is read or computed when it is asked for."""
    return (incoming.id for incoming in _incoming(adapter, base, {}))


def _incoming(adapter: Adapter, base: Base, kept: dict[str, TensorSpec]) -> Iterator[Incoming]:
    """Every tensor to store; adds each to ``kept``, factors under their names in the adapter file."""
    cuts = Cuts(adapter.file)
    for spec in adapter.low_rank.values():
        for factor in (spec.left, spec.right):
            yield _factor(adapter, factor, cuts, kept)
    for name, info in adapter.full.items():
        yield _stored(adapter, name, info, base.tensors.get(name), kept)
    for tensor in adapter.made.values():
        yield _made(tensor, base.tensors.get(tensor.name), kept)


def _factor(adapter: Adapter, factor: Factor, cuts: Cuts, kept: dict[str, TensorSpec]) -> Incoming:
    if not factor.is_cut:
        return _stored(adapter, factor.info.name, factor.info, None, kept)
    bits = cuts.bits(factor)
    data = bits.reshape(-1).view("uint8")
    spec = TensorSpec(tensor_id(factor.info.dtype, bits.shape, [data]), factor.info.dtype, bits.shape)
    kept[factor.label] = spec
    return Incoming(*spec_fields(spec), data, None, f"{adapter.file.path}: {factor.label}")


def _stored(
    adapter: Adapter, key: str, info: TensorInfo, before: TensorSpec | None, kept: dict[str, TensorSpec]
) -> Incoming:
    chunks = adapter.file.chunks(info)
    kept[key] = TensorSpec(tensor_id(info.dtype, info.shape, chunks), info.dtype, info.shape)
    label = f"{adapter.file.path}: {info.name}"
    return Incoming(*spec_fields(kept[key]), adapter.file.lazy(info), before.id if before else None, label)


def _made(tensor: MadeDense, before: TensorSpec | None, kept: dict[str, TensorSpec]) -> Incoming:
    import numpy as np

    data = np.ascontiguousarray(tensor.compute()).reshape(-1).view(np.uint8)
    spec = TensorSpec(tensor_id(tensor.dtype, tensor.shape, [data]), tensor.dtype, tensor.shape)
    kept[tensor.name] = spec
    return Incoming(*spec_fields(spec), data, before.id if before else None, tensor.name)


def _low_rank(spec: LowRank, kept: Mapping[str, TensorSpec]) -> LowRankSpec:
    left, right = spec.left, spec.right
    return LowRankSpec(kept[left.label], kept[right.label], left.transposed, right.transposed, float(spec.scale))


def _patch(adapter: Adapter) -> dict[str, ConfigPatch]:
    """Untie the head in the configuration if the adapter gives it its own weights."""
    return {"config.json": ((("tie_word_embeddings",), False),)} if adapter.untied else {}


def _notes(adapter: Adapter, base: Base) -> Iterator[str]:
    made = sorted({tensor.how for tensor in adapter.made.values()})
    if made:
        yield f"{len(adapter.made)} tensor(s) made dense: {', '.join(made)}"
    whole = [name for name in adapter.full if name in base.tensors]
    new = [name for name in adapter.full if name not in base.tensors]
    if whole:
        yield f"{len(whole)} tensor(s) saved whole: {few(whole)}"
    if new:
        yield f"adds {len(new)} tensor(s) that the base does not have: {few(new)}"


def _check_base(folder: Path, adapter: Adapter, base_id: BaseId, base: Base) -> None:
    """Raise WrongBase if the checkpoint that the adapter names still exists and differs from the repository's base.

    Compares the smallest of the tensors that the adapter changes, up to ``SAMPLE`` bytes.
    """
    named = adapter.config.get("base_model_name_or_path")
    if not isinstance(named, str) or not named or not Path(named).is_dir():
        return
    try:
        theirs = open_checkpoint(Path(named))
    except CheckpointError:
        return
    spent = 0
    for name in sorted(_touched(adapter, base), key=lambda name: (base.tensors[name].entries, name)):
        info = theirs.tensors.get(name)
        if info is None or (spent := spent + info.nbytes) > SAMPLE:
            continue
        with translated(theirs.owner[name].path):
            actual = tensor_id(info.dtype, info.shape, theirs.owner[name].chunks(info))
        if actual != base.tensors[name].id and info.dtype == base.tensors[name].dtype:
            raise WrongBase(
                f"{folder} was trained on {named}, whose {name} differs from this repository's base ({base_id.short})",
                "Train it on this base, or create a repository for the other one: persona init --base PATH",
            )


def _touched(adapter: Adapter, base: Base) -> list[str]:
    names = {*adapter.low_rank, *adapter.full, *adapter.made}
    return [name for name in names if name in base.tensors and base.tensors[name].dtype in ARITHMETIC]
