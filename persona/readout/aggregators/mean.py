"""mean: the difference of the means of both sides (CAA, Rimsky et al. 2024, arXiv:2312.06681).

    v = mean(h⁺) − mean(h⁻)

Texts need not be paired; where they are, it is the mean of the pairs' differences, as the paper has it. The raw norm is the
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
