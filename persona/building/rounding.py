"""From fp32 to the bits of an output: rounded once, NaNs made one, nothing overflowing unseen."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from persona.building.plan import Output
from persona.checkpoints.dtypes import narrow, overflowed
from persona.errors import Refusal

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Bits, Float32


def rounded(values: Float32, output: Output) -> Bits:
    """Bits of computed values; every NaN is the positive quiet one without a payload. ``values`` may be used up."""
    import numpy as np

    if np.isnan(values.max(initial=-np.inf)):
        values[np.isnan(values)] = np.nan
    return narrowed(values, output)


def narrowed(values: Float32, output: Output) -> Bits:
    """Bits of values whose NaNs are in order."""
    bits = narrow(values, output.dtype)
    if overflowed(values, bits, output.dtype):
        refuse_overflow(output)
    return bits


def refuse_overflow(output: Output) -> NoReturn:
    """A finite value that became an infinity is a wrong weight."""
    raise Refusal(
        f"{output.name} has values beyond the range of {output.dtype}",
        "Build it in a wider format (--dtype bf16 or fp32), or lower the alphas.",
    )
