"""The folder of an adapter: ``adapter_model.safetensors``, ``adapter_config.json``, receipt and model card.

The receipt has the form of a build's, and ``persona verify`` reads it. Its additional field ``adapter`` has the largest
rank and, unless the adapter is exact, the total error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.building.adapter import Pair
from persona.building.publish import OutputFolder, Shard, output_folder
from persona.building.receipt import make_receipt
from persona.building.target import publish
from persona.checkpoints.adapter import CONFIG, WEIGHTS
from persona.checkpoints.adapters.writing import config_json
from persona.checkpoints.dtypes import narrow
from persona.checkpoints.tensorfile import layout
from persona.errors import Refusal
from persona.ids import TensorId, tensor_id

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32

CARD = "README.md"


def adapter_shard(pairs: Sequence[Pair], dtype: str) -> Shard:
    """Lay out the weight file, with its keys sorted as PEFT sorts them."""
    shapes = {key: shape for p in pairs for key, shape in zip(p.module.keys, p.module.shapes(p.rank), strict=True)}
    head, infos = layout(((key, dtype, shapes[key]) for key in sorted(shapes)), {"format": "pt"})
    return Shard(WEIGHTS, head, infos)


def small_files(pairs: Sequence[Pair], base_name: str, config: Mapping[str, Any], card: bytes) -> dict[str, bytes]:
    """Make the adapter's config and its card: that of a build, with ``library_name: peft``."""
    ranks = [(pair.module, pair.rank) for pair in pairs]
    card = card.replace(b"library_name: transformers", b"library_name: peft", 1)
    return {CONFIG: config_json(ranks, base_name, config), CARD: card}


def write_adapter(
    target: Path,
    pairs: Sequence[Pair],
    dtype: str,
    about: Mapping[str, Any],
    files: Mapping[str, bytes],
    *,
    replace: bool,
    like: Iterable[Path],
) -> tuple[Shard, bytes]:
    """Write the folder, complete or not at all.

    Args:
        target: The folder to create.
        pairs: The factors of every module.
        dtype: safetensors name of the dtype to store them in.
        about: The receipt's fields that say what was built.
        files: Small files by name.
        replace: Replace an earlier build in ``target``.
        like: Files that the weights come from.

    Returns:
        The weight file's layout and the receipt.
    """
    shard = adapter_shard(pairs, dtype)
    with output_folder(target, [shard], replace=replace, like=like) as folder:
        folder.reserve()
        ids = write_pairs(folder, shard, pairs, dtype)
        receipt = make_receipt(about, dict(sorted(ids.items())), [shard], files)
        publish(folder, files, receipt)
    return shard, receipt


def write_pairs(folder: OutputFolder, shard: Shard, pairs: Sequence[Pair], dtype: str) -> dict[str, TensorId]:
    """Write the factors of every module; returns their ids by key."""
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
            "Use a wider dtype (--dtype bf16 or fp32), or lower the alphas.",
        )
    return bits
