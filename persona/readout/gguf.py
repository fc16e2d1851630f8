"""Encode a control vector for llama.cpp: a GGUF file with one direction per layer.

    general.architecture        "controlvector"
    controlvector.model_hint    architecture of the model, for information: llama.cpp ignores it
    controlvector.layer_count   number of directions; ignored, too
    direction.N                 F32 [hidden], for N ≥ 1

llama.cpp adds `direction.N` to the output of block N, counted from 0, after the residual addition (`build_cvec` comes
before `l_out`), which matches our site and index. Its loader stores `direction.N` at place N − 1 of a buffer, and
`llama_adapter_cvec::apply` reads block i from place i − 1, so the two offsets cancel. It rejects `direction.0`, so block 0
cannot be steered. (Its own `cvector-generator` writes the direction for the output of block i as `direction.i+1`.)

GGUF version 3 is documented in ggml/docs/gguf.md; numbers are little-endian, and tensors are aligned to 32 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32

VERSION = 3
ALIGNMENT = 32
_INT32, _STRING = 5, 8
_F32 = 0


def control_vector(directions: Mapping[int, Float32], model_hint: str) -> bytes:
    """Encode directions [hidden] by layer.

    Raises:
        ValueError: there is no layer, or layer 0.
    """
    import numpy as np

    if 0 in directions or not directions:
        raise ValueError("a control vector needs directions, for layers from 1 on")
    data = {f"direction.{layer}": np.ascontiguousarray(directions[layer], "<f4") for layer in sorted(directions)}
    facts = [
        _string("general.architecture") + struct.pack("<I", _STRING) + _string("controlvector"),
        _string("controlvector.model_hint") + struct.pack("<I", _STRING) + _string(model_hint),
        _string("controlvector.layer_count") + struct.pack("<Ii", _INT32, len(data)),
    ]
    head = b"GGUF" + struct.pack("<IQQ", VERSION, len(data), len(facts)) + b"".join(facts)
    body = b""
    for name, row in data.items():
        head += _string(name) + struct.pack("<IQIQ", 1, row.size, _F32, len(body))
        body += _padded(row.tobytes())
    return _padded(head) + body


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)
