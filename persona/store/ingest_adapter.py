"""Taking a PEFT adapter in: factors stay factors, and what no factors can say is made dense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from persona.checkpoints import folder as folders
from persona.checkpoints.adapter import Adapter, LowRank, MadeDense, open_adapter
from persona.checkpoints.dtypes import ARITHMETIC
from persona.checkpoints.tensorfile import TensorInfo
from persona.errors import CheckpointError, WrongBase
from persona.files import translated
from persona.ids import BaseId, tensor_id
from persona.progress import SILENT, Progress
from persona.store.ingest import Ingested, check_shape, spec_fields
from persona.store.nouns import Base, ConfigPatch, LowRankSpec, TensorSpec, Vector
from persona.store.packwriter import Incoming
from persona.store.tensors import TensorStore

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Bits

SAMPLE = 64 << 20
"""Bytes of the base that an adapter names which are compared with ours, where that folder is still there."""


@dataclass(frozen=True)
class StoredBase:
    """A base in the store, as the adapter reader wants to see it."""

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

    def bits(self, name: str) -> Bits:
        """A tensor's bits, verified, in its shape."""
        spec = self.base.tensors[name]
        return self.store.read(spec.id).reshape(spec.shape)


def ingest_adapter(
    folder: Path, base_id: BaseId, base: Base, store: TensorStore, progress: Progress = SILENT
) -> Ingested:
    """Keep an adapter as a vector of ``base``."""
    adapter = checked_adapter(folder, base_id, base, store)
    total = sum(info.nbytes for info in adapter.file.tensors.values())
    with store.writer() as writer, progress.task("keeping the adapter", total) as task:
        kept: dict[str, TensorSpec] = {}
        writer.add_tensors(_incoming(adapter, base, kept), task)
        writer.finish()
    vector = Vector(
        base=base_id,
        form="lora",
        tensors={name: kept[name] for name in sorted({*adapter.full, *adapter.made})},
        low_rank={name: _low_rank(spec, kept) for name, spec in sorted(adapter.low_rank.items())},
        config=_patch(adapter),
    )
    return Ingested(vector, adapter.file.size, None, tuple(_notes(adapter, base)))


def checked_adapter(folder: Path, base_id: BaseId, base: Base, store: TensorStore) -> Adapter:
    """The adapter in ``folder``, if it can be a vector of ``base``; its weights are not read yet."""
    adapter = open_adapter(folder, StoredBase(base, store))
    _check_base(folder, adapter, base_id, base)
    for name, info in adapter.full.items():
        if name in base.tensors:
            check_shape(str(adapter.file.path), name, info.shape, base.tensors[name].shape)
    return adapter


def _incoming(adapter: Adapter, base: Base, kept: dict[str, TensorSpec]) -> Iterator[Incoming]:
    """Every tensor to keep; ``kept`` learns their ids, factors under the names that the adapter file gives them."""
    for spec in adapter.low_rank.values():
        for factor in (spec.left, spec.right):
            yield _stored(adapter, factor.info.name, factor.info, None, kept)
    for name, info in adapter.full.items():
        yield _stored(adapter, name, info, base.tensors.get(name), kept)
    for one in adapter.made.values():
        yield _made(one, base.tensors.get(one.name), kept)


def _stored(
    adapter: Adapter, key: str, info: TensorInfo, before: TensorSpec | None, kept: dict[str, TensorSpec]
) -> Incoming:
    chunks = adapter.file.chunks(info)
    kept[key] = TensorSpec(tensor_id(info.dtype, info.shape, chunks), info.dtype, info.shape)
    label = f"{adapter.file.path}: {info.name}"
    return Incoming(*spec_fields(kept[key]), adapter.file.data(info), before.id if before else None, label)


def _made(one: MadeDense, before: TensorSpec | None, kept: dict[str, TensorSpec]) -> Incoming:
    import numpy as np

    data = np.ascontiguousarray(one.compute()).reshape(-1).view(np.uint8)
    kept[one.name] = TensorSpec(tensor_id(one.dtype, one.shape, [data]), one.dtype, one.shape)
    return Incoming(*spec_fields(kept[one.name]), data, before.id if before else None, one.name)


def _low_rank(spec: LowRank, kept: Mapping[str, TensorSpec]) -> LowRankSpec:
    left, right = spec.left, spec.right
    return LowRankSpec(
        kept[left.info.name], kept[right.info.name], left.transposed, right.transposed, float(spec.scale)
    )


def _patch(adapter: Adapter) -> dict[str, ConfigPatch]:
    """A head that gets weights of its own is no longer tied."""
    return {"config.json": ((("tie_word_embeddings",), False),)} if adapter.untied else {}


def _notes(adapter: Adapter, base: Base) -> Iterator[str]:
    made = sorted({one.how for one in adapter.made.values()})
    if made:
        yield f"{len(adapter.made)} tensor(s) made dense: {', '.join(made)}"
    whole = [name for name in adapter.full if name in base.tensors]
    new = [name for name in adapter.full if name not in base.tensors]
    if whole:
        yield f"{len(whole)} tensor(s) saved whole: {', '.join(whole[:3])}"
    if new:
        yield f"brings {len(new)} tensor(s) that the base has not: {', '.join(new[:3])}"


def _check_base(folder: Path, adapter: Adapter, base_id: BaseId, base: Base) -> None:
    """If the checkpoint that the adapter names is still there, it must hold the tensors that our base has.

    Of the tensors that the adapter changes, the smallest are compared, up to ``SAMPLE`` bytes.
    """
    named = adapter.config.get("base_model_name_or_path")
    if not isinstance(named, str) or not named or not Path(named).is_dir():
        return
    try:
        theirs = folders.open_checkpoint(Path(named))
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
                f"{folder} was trained on {named}, whose {name} is not that of this repository's base ({base_id.short})",
                "Train it on this base, or make a repository for the other: persona init --base PATH",
            )


def _touched(adapter: Adapter, base: Base) -> list[str]:
    names = {*adapter.low_rank, *adapter.full, *adapter.made}
    return [name for name in names if name in base.tensors and base.tensors[name].dtype in ARITHMETIC]
