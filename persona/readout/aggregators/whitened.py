"""whitened: the difference of the means, without what neutral texts vary in (All-but-the-Top, Mu & Viswanath 2018, arXiv:1702.01417).

    d = mean(h⁺ − μ) − mean(h⁻ − μ)          μ the grand mean, which drops out
    u₁, u₂, …                                 principal components of h⁻ − mean(h⁻), the largest first
    v = d − Σ_{i ≤ k} (d·uᵢ) uᵢ

Neutral texts are the negatives that are trained on. The paper removes the mean and a fixed number of top components from word
vectors, because they carry frequency and no meaning; here they carry what texts differ in anyway: length, topic, style. k is the
least number of components with half of the negatives' variance, or what ``--top-components`` says (0 gives ``mean``). The
raw norm is that of v.

What of the concept lies along those components is lost with them: use it where ``mean`` reads length or topic.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from persona.readout.aggregators import Sample, blocks, components

if TYPE_CHECKING:
    from persona.readout.aggregators import Float64

SHARE = 0.5
"""Of the negatives' variance that is removed."""


def direction(sample: Sample) -> Float64:
    """The difference of the means, less its share in the leading neutral components."""
    import numpy as np

    centre, apart = sample.means[1], sample.apart

    def neutral() -> Iterator[Float64]:
        for block in blocks(sample.negative):
            yield block.astype(np.float64) - centre

    values, vectors = components(neutral(), len(sample.negative), len(centre))
    leading = vectors[: _count(values, sample.components)]
    left: Float64 = apart - leading.T @ (leading @ apart)
    return left if np.linalg.norm(left) > 1e-9 * np.linalg.norm(apart) else np.zeros_like(left)


def _count(values: Float64, said: int | None) -> int:
    """How many components to remove."""
    import numpy as np

    if said is not None:
        return said
    return int(np.searchsorted(np.cumsum(values), SHARE * values.sum())) + 1 if len(values) else 0
