"""A readout in the forms that other programs read: vLLM's pair of files, control vectors for llama.cpp, numpy arrays."""

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
"""Directions of length 1; or as long as they were before, which is the manifest's ``norms``."""

_NOT_IN_A_NAME = re.compile(r"[^\w.-]+")


def encoded(readout: Readout, form: str, scale: str, model_hint: str) -> dict[str, bytes]:
    """The files of a format by name; a ``.npz`` is one file."""
    if form == VLLM:
        if scale != UNIT:
            raise UsageError("the pair of files for vLLM has directions of length 1", "Leave --scale out.")
        return encode(readout)
    vectors = scaled(readout, scale)
    return gguf_files(readout, vectors, model_hint) if form == GGUF else {"readout.npz": npz(readout, vectors)}


def scaled(readout: Readout, scale: str) -> dict[int, Float32]:
    """Directions by layer, ``[concepts, hidden]``, of length 1 or of their own."""
    import numpy as np

    if scale == UNIT:
        return dict(readout.vectors)
    norms = readout.about.get("norms")
    shape = (len(readout.concepts), len(readout.layers))
    if not isinstance(norms, list) or not is_table(norms, shape) or None in chain(*norms):
        raise UsageError("the readout does not say how long its directions were", "Export them with --scale unit.")
    table = np.asarray(norms, np.float64)
    return {
        layer: (readout.vectors[layer] * table[:, place, None]).astype(np.float32)
        for place, layer in enumerate(readout.layers)
    }


def gguf_files(readout: Readout, vectors: Mapping[int, Float32], model_hint: str) -> dict[str, bytes]:
    """A file for each concept, of all layers but 0; UsageError if no other is left."""
    layers = [layer for layer in readout.layers if layer != 0]
    if not layers:
        raise UsageError(
            "llama.cpp cannot steer layer 0, and the readout has no other", "Train it on deeper layers, or export npz."
        )
    names = file_names(readout.concepts)
    return {
        f"{names[concept]}.gguf": control_vector({layer: vectors[layer][row] for layer in layers}, model_hint)
        for row, concept in enumerate(readout.concepts)
    }


def file_names(concepts: tuple[str, ...]) -> dict[str, str]:
    """A file's name for each concept, none twice, also where capitals do not count."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for concept in concepts:
        stem = _NOT_IN_A_NAME.sub("-", concept).strip(".-")[:60] or "concept"
        name, number = stem, 2
        while name.casefold() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.casefold())
        found[concept] = name
    return found


def npz(readout: Readout, vectors: Mapping[int, Float32]) -> bytes:
    """``concepts``, ``layers``, and ``layer_<i>`` ``[concepts, hidden]`` for each layer; numpy.load needs no pickle."""
    import numpy as np

    arrays = {f"layer_{layer}": vectors[layer] for layer in readout.layers}
    out = io.BytesIO()
    np.savez(out, concepts=np.array(readout.concepts), layers=np.array(readout.layers, np.int64), **arrays)  # type: ignore[arg-type]
    return out.getvalue()
