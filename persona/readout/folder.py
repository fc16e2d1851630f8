"""Read and write a readout as two files: `vectors.safetensors` and `manifest.json`.

    vectors.safetensors    layer_<index>.vectors   F32 [concepts, hidden], rows of length 1

    manifest.json   format          1
                    concepts        names, in row order
                    layers          0-based block indices, ascending
                    site            "block_output": the residual stream after the block
                    pooling         tokens averaged over: "mean", "last" or "assistant"; without sinks
                    aggregator      how texts became directions: "mean", "pca", "logistic" or "whitened"
                    normalisation   "unit"
                    norms           [concepts][layers]: lengths of the directions before normalization
                    centers, spreads  [concepts][layers]: mean and standard deviation of the projections of the negative
                                    training texts: what is usual without the concept
                    auc, control    [concepts][layers]: AUC on held-out texts, of the directions and of random ones (mean);
                                    null if no texts are held out
                    auc_low, auc_high, control_high
                                    95 % interval of auc, and what one random direction in twenty reaches
                    sinks           attention sinks left out of the training texts: {beyond, texts, first, others, first_length,
                                    length}, the last three by layer (`readout.sinks.SinksLeftOut`). Without this field, a
                                    readout was made over all tokens, and is read so
                    best            [concepts]: best layer by cross-validation on the training texts, or null
                    counts          {concept: {positive, negative, held_out: [positive, negative]}}; the first two count
                                    training texts
                    seed, components  seed of the split; number of components that "whitened" removed, if given
                    blocks, dtype   number of blocks of the model, and its dtype
                    hidden          width of the residual stream
                    base, revision  ids of the base and commit it was captured on; null for a folder
                    model           description of the model it was captured on
                    source          {file, digest}: the file of pairs and its BLAKE3

Readouts by other tools need only `concepts` and `layers`; other fields are kept unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from persona import files
from persona.checkpoints.dtypes import ARITHMETIC, as_bits, widen
from persona.checkpoints.tensorfile import TensorFile, layout
from persona.errors import CheckpointError, Refusal
from persona.readout.model import Readout

VECTORS = "vectors.safetensors"
MANIFEST = "manifest.json"
FORMAT = 1
UNIT = 1e-3
"""Tolerance for the length of a row."""


def tensor_name(layer: int) -> str:
    """Name of the tensor with a layer's directions."""
    return f"layer_{layer}.vectors"


def manifest_of(readout: Readout) -> dict[str, Any]:
    """The contents of `manifest.json`."""
    return {"format": FORMAT, "concepts": list(readout.concepts), "layers": list(readout.layers), **readout.about}


def encode(readout: Readout) -> dict[str, bytes]:
    """Encode both files, by name; the same readout always gives the same bytes."""
    import numpy as np

    shape = (len(readout.concepts), readout.hidden)
    head, _ = layout(((tensor_name(layer), "F32", shape) for layer in readout.layers), {"format": "pt"})
    data = [np.ascontiguousarray(readout.vectors[layer], "<f4").tobytes() for layer in readout.layers]
    text = json.dumps(manifest_of(readout), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return {VECTORS: head + b"".join(data), MANIFEST: text.encode()}


def write_readout(folder: Path, readout: Readout, *, replace: bool = False) -> None:
    """Write a readout to a new folder, atomically.

    Args:
        replace: Overwrite an existing readout.

    Raises:
        Refusal: the folder exists and is not empty.
    """
    if folder.exists() and not (replace and is_readout(folder)) and any(folder.iterdir()):
        raise Refusal(f"{folder} already exists", "Choose another name. Nothing was changed.")
    with files.staged_folder(folder, replace=replace) as staging:
        for name, data in encode(readout).items():
            files.write_file(staging / name, data)


def is_readout(folder: Path) -> bool:
    """Whether a folder has the two files of a readout."""
    return (folder / VECTORS).is_file() and (folder / MANIFEST).is_file()


def read_readout(folder: Path | str) -> Readout:
    """Read a readout and check that its manifest matches its vectors.

    Raises:
        CheckpointError: the folder is not a readout, or its files do not match.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not is_readout(folder):
        raise CheckpointError(
            f"{folder} is not a readout",
            f"Give a folder written by 'persona readout train', with {MANIFEST} and {VECTORS}.",
        )
    fields = _manifest(path)
    concepts, layers = _names(path, fields), _layers(path, fields)
    file = TensorFile(folder / VECTORS)
    vectors = {layer: _rows(file, layer, len(concepts)) for layer in layers}
    widths = sorted({rows.shape[1] for rows in vectors.values()})
    if len(widths) > 1:
        raise CheckpointError(f"{file.path}: layers differ in width: {widths}", "Train the readout again.")
    about = {key: value for key, value in fields.items() if key not in ("concepts", "layers", "format")}
    return Readout(concepts, layers, vectors, about)


def _manifest(path: Path) -> Mapping[str, Any]:
    with files.translated(path):
        data = files.read_bytes(path)
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}", "Copy it again, or train the readout again.") from None
    if not isinstance(fields, dict):
        raise CheckpointError(f"{path} is not a JSON object", "Copy it again, or train the readout again.")
    if fields.get("format", FORMAT) != FORMAT:
        raise CheckpointError(f"{path} has unknown format {fields['format']!r}", "Upgrade persona.")
    return fields


def _names(path: Path, fields: Mapping[str, Any]) -> tuple[str, ...]:
    names = fields.get("concepts")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise CheckpointError(f"{path}: 'concepts' is not a list of names", "List one name per row of the vectors.")
    if len(set(names)) != len(names):
        raise CheckpointError(f"{path}: 'concepts' has a duplicate name", "Give each row its own name.")
    return tuple(names)


def _layers(path: Path, fields: Mapping[str, Any]) -> tuple[int, ...]:
    layers = fields.get("layers")
    whole = isinstance(layers, list) and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in layers)
    if not whole or not layers or len(set(layers)) != len(layers):
        raise CheckpointError(f"{path}: 'layers' is not a list of block indices", "List each index once, from 0.")
    return tuple(sorted(layers))


def _rows(file: TensorFile, layer: int, concepts: int) -> Any:
    import numpy as np

    info = file.tensors.get(tensor_name(layer))
    if info is None:
        raise CheckpointError(
            f"{file.path} has no {tensor_name(layer)}", "The manifest and the vectors are from different readouts."
        )
    if len(info.shape) != 2 or info.shape[0] != concepts or info.shape[1] < 1 or info.dtype not in ARITHMETIC:
        raise CheckpointError(
            f"{file.path}: {info.name} is {info.dtype} {list(info.shape)}, but the manifest has {concepts} concepts",
            "The manifest and the vectors are from different readouts.",
        )
    rows = widen(as_bits(file.data(info), info.dtype).reshape(info.shape), info.dtype)
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    if not np.all(np.abs(lengths - 1) < UNIT):  # also for NaN
        worst = int(np.argmax(np.nan_to_num(np.abs(lengths - 1), nan=np.inf)))
        raise CheckpointError(
            f"{file.path}: row {worst} of {info.name} has length {lengths[worst]:.4g}", "Normalize rows to length 1."
        )
    return rows
