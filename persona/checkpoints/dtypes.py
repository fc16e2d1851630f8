"""Number formats and their conversion to and from fp32.

Names are those of the safetensors format. Weights are passed around as *bits*, unsigned integers of the format's
width, so that NaN payloads and the signs of zeros are never lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from persona import kernels
from persona.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Bits = npt.NDArray[np.unsignedinteger[npt.NBitBase]]
    Float32 = npt.NDArray[np.float32]

BITS: Final = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
}  # fmt: skip
"""Bits per entry of every safetensors dtype."""

ARITHMETIC: Final = frozenset({"BF16", "F16", "F32", "F64"})
"""Dtypes that persona computes with; the others can only be stored and copied."""

NAMES: Final = {
    "bf16": "BF16", "bfloat16": "BF16", "fp16": "F16", "float16": "F16", "fp32": "F32", "float32": "F32"
}  # fmt: skip
"""Dtype names accepted on the command line → safetensors names."""

TORCH_NAMES: Final = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
"""Safetensors names → names in torch and ``config.json``."""


def named_dtype(name: str | None) -> str | None:
    """The safetensors name for a dtype such as ``bf16`` or ``float32``; None stays None.

    Raises:
        UsageError: no such dtype.
    """
    if name is not None and name not in NAMES:
        raise UsageError(f"unknown dtype '{name}'", f"Known dtypes: {', '.join(NAMES)}.")
    return None if name is None else NAMES[name]


def byte_size(dtype: str, entries: int) -> int:
    """Bytes of ``entries`` entries; ValueError if they do not fill whole bytes."""
    bits = BITS[dtype] * entries
    if bits % 8:
        raise ValueError(f"{entries} entries of {dtype} do not fill whole bytes")
    return bits // 8


def as_bits(data: npt.NDArray[np.uint8], dtype: str) -> Bits:
    """View plain bytes as unsigned integers of the format's width (bytes for formats narrower than a byte)."""
    width = max(BITS[dtype], 8) // 8
    return data.view(f"<u{width}")


_ENDLESS: Final = {
    "BF16": 0x7F80, "F16": 0x7C00, "F32": 0x7F800000, "F64": 0x7FF0 << 48, "F8_E5M2": 0x7C, "F8_E4M3": 0x7F
}  # fmt: skip
"""The smallest positive entry that is not finite, as bits; all above it are not finite either."""


def is_finite(bits: Bits, dtype: str) -> bool:
    """Whether no entry of a block is an infinity or NaN; always true of dtypes that have none."""
    first = _ENDLESS.get(dtype)
    if first is None or not bits.size:
        return True
    sign = 1 << 8 * bits.itemsize - 1
    # the largest with and without the sign: two passes, and no array in between
    return int(bits.max()) < first | sign and int(bits.view(f"<i{bits.itemsize}").max()) < first


def widen(bits: Bits, dtype: str) -> Float32:
    """Convert to fp32, in a new array: exact for BF16, F16 and F32; F64 is rounded to nearest."""
    import numpy as np

    if dtype == "BF16":
        wide = np.empty(bits.shape, np.float32)
        kernels.current().widen_bf16(bits.reshape(-1), wide.reshape(-1))
        return wide
    if dtype == "F32":
        return bits.view(np.float32).copy()
    with np.errstate(over="ignore", invalid="ignore"):
        return bits.view(f"f{BITS[dtype] // 8}").astype(np.float32)


def narrow(values: Float32, dtype: str) -> Bits:
    """Round fp32 values to a dtype once, to nearest, ties to even; a NaN stays a (quiet) NaN."""
    import numpy as np

    if dtype == "BF16":
        rounded: Bits = np.empty(values.shape, np.uint16)
        kernels.current().round_bf16(np.ascontiguousarray(values).reshape(-1), rounded.reshape(-1))
        return rounded
    if dtype == "F32":
        return np.ascontiguousarray(values).view(np.uint32)
    width = BITS[dtype] // 8
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(f"<f{width}").view(f"<u{width}")


def overflowed(values: Float32, bits: Bits, dtype: str) -> bool:
    """Whether rounding turned a finite value into an infinity (possible only for F16)."""
    import numpy as np

    if dtype != "F16":
        return False
    infinite = (bits & np.uint16(0x7FFF)) == np.uint16(0x7C00)
    return bool(infinite.any()) and bool(np.isfinite(values[infinite]).any())
