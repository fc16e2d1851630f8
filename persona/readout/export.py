"""Encode a readout for other programs: vLLM's two files, llama.cpp control vectors, numpy arrays."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING

from persona.errors import UsageError
from persona.readout.folder import encode
from persona.readout.gguf import control_vector
from persona.readout.model import Readout
from persona.readout.select import is_table

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32

VLLM, GGUF, NPZ = FORMATS = ("vllm", "gguf", "npz")
UNIT, RAW = SCALES = ("unit", "raw")
"""Directions of length 1, or of their original length (the manifest's `norms`)."""

_NOT_IN_A_NAME = re.compile(r"[^\w.-]+")


def encoded(readout: Readout, form: str, scale: str, model_hint: str) -> dict[str, bytes]:
    """Encode a readout; return the contents of each file by name.

    Args:
        form: One of `FORMATS`.
        scale: One of `SCALES`; vLLM supports "unit" only.
        model_hint: Architecture of the model, written to GGUF files.

    Raises:
        UsageError: the format cannot hold this readout or scale.
    """
    if form == VLLM:
        if scale != UNIT:
            raise UsageError("the vllm format has directions of length 1 only", "Omit --scale.")
        return encode(readout)
    vectors = scaled(readout, scale)
    return gguf_files(readout, vectors, model_hint) if form == GGUF else {"readout.npz": npz(readout, vectors)}


def scaled(readout: Readout, scale: str) -> dict[int, Float32]:
    """Directions [concepts, hidden] by layer, in the requested scale."""
    import numpy as np

    if scale == UNIT:
        return dict(readout.vectors)
    norms = readout.about.get("norms")
    shape = (len(readout.concepts), len(readout.layers))
    if not isinstance(norms, list) or not is_table(norms, shape) or None in chain(*norms):
        raise UsageError("the readout has no 'norms', which --scale raw needs", "Use --scale unit.")
    table = np.asarray(norms, np.float64)
    return {
        layer: (readout.vectors[layer] * table[:, place, None]).astype(np.float32)
        for place, layer in enumerate(readout.layers)
    }


def gguf_files(readout: Readout, vectors: Mapping[int, Float32], model_hint: str) -> dict[str, bytes]:
    """Encode one file per concept, with all layers but 0, which llama.cpp cannot steer."""
    layers = [layer for layer in readout.layers if layer != 0]
    if not layers:
        raise UsageError(
            "llama.cpp cannot steer layer 0, the readout's only layer", "Train it on deeper layers, or export npz."
        )
    names = file_names(readout.concepts)
    return {
        f"{names[concept]}.gguf": control_vector({layer: vectors[layer][row] for layer in layers}, model_hint)
        for row, concept in enumerate(readout.concepts)
    }


def file_names(concepts: tuple[str, ...]) -> dict[str, str]:
    """Choose a file name for each concept, unique even on case-insensitive file systems."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for concept in concepts:
        stem = _NOT_IN_A_NAME.sub("-", concept).strip(".-")[:60] or "concept"
        name, number = stem, 2
        while name.casefold() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.casefold())
        names[concept] = name
    return names


def npz(readout: Readout, vectors: Mapping[int, Float32]) -> bytes:
    """Encode `concepts`, `layers`, and `layer_<i>` [concepts, hidden] for each layer; loads without pickle."""
    import numpy as np

    arrays = {f"layer_{layer}": vectors[layer] for layer in readout.layers}
    out = io.BytesIO()
    np.savez(out, concepts=np.array(readout.concepts), layers=np.array(readout.layers, np.int64), **arrays)  # type: ignore[arg-type]
    return out.getvalue()
