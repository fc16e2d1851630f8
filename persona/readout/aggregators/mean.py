"""mean: the difference of the means of the two sides (CAA, Rimsky et al. 2024, arXiv:2312.06681).

    v = mean(h⁺) − mean(h⁻)

Texts need not be paired; if they are, v is the mean of the pairs' differences, as in the paper. The raw norm is the
distance between the two means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from persona.readout.aggregators import Sample

if TYPE_CHECKING:
    from persona.readout.aggregators import Float64


def direction(sample: Sample) -> Float64:
    """The difference of the means."""
    return sample.apart
