"""The folder of an adapter: ``adapter_model.safetensors`` and ``adapter_config.json`` as PEFT writes them, receipt, card.

The receipt is a build's, and ``persona verify`` reads it as one. It says besides, under ``adapter``, the largest
rank, and the error of the whole where the adapter is not exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.building.adapter import Pair
from persona.building.publish import OutputFolder, Shard, output_folder
from persona.building.receipt import make_receipt
from persona.building.target import check_replaceable
from persona.checkpoints.adapter import CONFIG, WEIGHTS
from persona.checkpoints.adapters.writing import config_json
from persona.checkpoints.dtypes import narrow
from persona.checkpoints.folder import RECEIPT
from persona.checkpoints.tensorfile import layout
from persona.errors import Refusal
from persona.ids import TensorId, tensor_id

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32

CARD = "README.md"


def adapter_shard(pairs: Sequence[Pair], dtype: str) -> Shard:
    """The one weight file; PEFT sorts its keys."""
    shapes = {key: shape for p in pairs for key, shape in zip(p.module.keys, p.module.shapes(p.rank), strict=True)}
    head, infos = layout(((key, dtype, shapes[key]) for key in sorted(shapes)), {"format": "pt"})
    return Shard(WEIGHTS, head, infos)


def small_files(pairs: Sequence[Pair], base_name: str, config: Mapping[str, Any], card: bytes) -> dict[str, bytes]:
    """Everything beside weights and receipt; ``card`` is a build's, and says here that PEFT loads it."""
    ranks = {pair.module.path: pair.rank for pair in pairs}
    turned = all(pair.module.kind == "conv1d" for pair in pairs)
    card = card.replace(b"library_name: transformers", b"library_name: peft", 1)
    return {CONFIG: config_json(ranks, base_name, config, fan_in_fan_out=turned), CARD: card}


def write_adapter(
    target: Path,
    pairs: Sequence[Pair],
    dtype: str,
    about: Mapping[str, Any],
    files: Mapping[str, bytes],
    *,
    replace: bool,
) -> tuple[Shard, bytes]:
    """Make the folder, whole or not at all; its weight file and its receipt."""
    shard = adapter_shard(pairs, dtype)
    with output_folder(target, [shard], replace=replace) as folder:
        folder.reserve()
        ids = write_pairs(folder, shard, pairs, dtype)
        receipt = make_receipt(about, dict(sorted(ids.items())), [shard], files)
        for name, data in [*files.items(), (RECEIPT, receipt)]:
            folder.add_file(name, data)
        if target.exists() and any(target.iterdir()):
            check_replaceable(target)  # once more: somebody may have put something there meanwhile
        folder.publish()
    return shard, receipt


def write_pairs(folder: OutputFolder, shard: Shard, pairs: Sequence[Pair], dtype: str) -> dict[str, TensorId]:
    """Write the factors of every module; their ids by key."""
    ids: dict[str, TensorId] = {}
    for pair in pairs:
        ids |= _write_pair(folder, shard, pair, dtype)
    return ids


def _write_pair(folder: OutputFolder, shard: Shard, pair: Pair, dtype: str) -> dict[str, TensorId]:
    ids = {}
    for key, matrix in zip(pair.module.keys, pair.make(), strict=True):
        bits = _finite(matrix, dtype, pair)
        folder.write(key, 0, bits)
        ids[key] = tensor_id(dtype, shard.tensors[key].shape, [bits])
    return ids


def _finite(matrix: Float32, dtype: str, pair: Pair) -> Any:
    import numpy as np

    bits = narrow(np.ascontiguousarray(matrix).reshape(-1), dtype)
    float_bits = bits.view(np.float16) if dtype == "F16" else matrix
    if not np.isfinite(float_bits).all():
        raise Refusal(
            f"the factors for {pair.module.tensor} are not finite in {dtype}",
            "Write them in a wider format (--dtype bf16 or fp32), or lower the alphas.",
        )
    return bits
