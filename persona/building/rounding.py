"""Rounding fp32 to the dtype of an output: once, with a single kind of NaN, and refusing to overflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from persona.building.plan import Output
from persona.checkpoints.dtypes import narrow, overflowed
from persona.errors import Refusal

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Bits, Float32


def rounded(values: Float32, output: Output) -> Bits:
    """Round computed values; every NaN becomes the positive quiet one without a payload. May overwrite ``values``."""
    import numpy as np

    if np.isnan(values.max(initial=-np.inf)):
        values[np.isnan(values)] = np.nan
    return narrowed(values, output)


def narrowed(values: Float32, output: Output) -> Bits:
    """Round values whose NaNs are already the positive quiet one."""
    bits = narrow(values, output.dtype)
    if overflowed(values, bits, output.dtype):
        refuse_overflow(output)
    return bits


def refuse_overflow(output: Output) -> NoReturn:
    """Refuse a finite value that would become an infinity, which would be a wrong weight."""
    raise Refusal(
        f"{output.name} has values beyond the range of {output.dtype}",
        "Use a wider dtype (--dtype bf16 or fp32), or lower the alphas.",
    )
