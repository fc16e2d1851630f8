"""What a comparison reads: the tensors of a plan (built on the fly), of a folder, or the τ of a vector.

Each is a table of parts by tensor name. A part knows dtype and shape before any weight is read, and yields its entries
in blocks. Two parts with equal ``origin`` have equal bytes, so they need not be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from persona.building.acting import active_vectors
from persona.building.plan import Plan, Term
from persona.building.run import streamed
from persona.building.streams import tau_blocks
from persona.checkpoints.dtypes import ARITHMETIC, BITS, as_bits, byte_size
from persona.checkpoints.folder import Checkpoint
from persona.checkpoints.tensorfile import TensorInfo, TensorSource
from persona.checkpoints.ties import tied_names
from persona.progress import SILENT, Progress
from persona.recipe.model import Recipe
from persona.store.nouns import Base, TensorSpec, Vector
from persona.store.packs import BLOCK
from persona.store.tensors import TensorStore

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Bits


@dataclass(frozen=True)
class Part:
    """One tensor of a side. A block is only valid until the next one is read."""

    dtype: str
    shape: tuple[int, ...]
    blocks: Callable[[], Iterator[Bits]]
    origin: object = None

    @property
    def entries(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def units(self) -> int:
        """Length in the units of a block: entries, or bytes for formats narrower than a byte."""
        return self.entries if BITS[self.dtype] >= 8 else byte_size(self.dtype, self.entries)

    def is_surely(self, other: Part) -> bool:
        """Whether both are known to have the same bytes, without reading them."""
        return self.origin is not None and self.origin == other.origin


Parts = Mapping[str, Part]


def of_plan(plan: Plan, store: TensorStore, progress: Progress = SILENT) -> dict[str, Part]:
    """The tensors that a build of ``plan`` would write."""
    plan, blocks = streamed(plan, store, progress)
    rule: Any = (plan.method, plan.scale, plan.parameters)
    return {
        o.name: Part(o.dtype, o.shape, partial(blocks, o), ("stored", o.copy.id) if o.copy else (*rule, o))
        for o in plan.outputs
    }


def of_folder(checkpoint: Checkpoint, own: Collection[str] = ()) -> dict[str, Part]:
    """The tensors of a folder. A tied head that was also written out is left out, unless ``own`` has its name."""
    tensors = checkpoint.tensors
    for head, embedding in tied_names(checkpoint.config, tensors).items():
        if head in tensors and head not in own and _same_bytes(checkpoint, tensors[head], tensors[embedding]):
            del tensors[head]
    return {
        name: Part(info.dtype, info.shape, partial(_of_file, checkpoint.owner[name], info))
        for name, info in tensors.items()
    }


def _same_bytes(checkpoint: Checkpoint, one: TensorInfo, other: TensorInfo) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    pairs = zip(checkpoint.owner[one.name].chunks(one), checkpoint.owner[other.name].chunks(other), strict=True)
    return all(bool((a == b).all()) for a, b in pairs)


def _of_file(file: TensorSource, info: TensorInfo) -> Iterator[Bits]:
    step = BLOCK * max(BITS[info.dtype], 8) // 8
    for start in range(0, info.nbytes, step):
        yield as_bits(file.read(info, start, min(start + step, info.nbytes)), info.dtype)


def of_vector(recipe: Recipe, base: Base, vectors: Mapping[str, Vector], store: TensorStore) -> dict[str, Part]:
    """τ in fp32 of the only vector of ``recipe``, at the float tensors that the base has."""
    (active,) = active_vectors(recipe, base, vectors)
    parts = {}
    for name in active.vector.names:
        touch, before = active.touch_at(name), base.spec(name)
        if touch is None or before is None or before.dtype not in ARITHMETIC:
            continue
        if isinstance(touch.source, TensorSpec) and touch.source.dtype not in ARITHMETIC:
            continue
        blocks = partial(_of_term, Term(active.name, 1.0, touch.source), before, store)
        parts[name] = Part("F32", before.shape, blocks, ("τ", touch.source, before))
    return parts


def _of_term(term: Term, before: TensorSpec, store: TensorStore) -> Iterator[Bits]:
    import numpy as np

    for tau in tau_blocks(term, before, store, BLOCK):
        yield tau.view(np.uint32)


def of_base(base: Base, store: TensorStore) -> dict[str, Part]:
    """The float tensors of a base, tied ones under both of their names."""
    names = [*base.tensors, *base.tied]
    specs = {name: spec for name in names if (spec := base.spec(name)) is not None}
    return {
        name: Part(spec.dtype, spec.shape, partial(store.blocks, spec.id), ("stored", spec.id))
        for name, spec in specs.items()
        if spec.dtype in ARITHMETIC
    }


def zeros(like: Part) -> Part:
    """A part of zeros: the change of a vector that leaves a tensor alone."""
    return Part(like.dtype, like.shape, partial(_zeros, like))


def _zeros(like: Part) -> Iterator[Bits]:
    import numpy as np

    block = np.zeros(min(BLOCK, like.units), f"<u{BITS[like.dtype] // 8}")
    for start in range(0, like.units, BLOCK):
        yield block[: like.units - start]
