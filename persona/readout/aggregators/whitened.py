"""whitened: the difference of the means, without the variation of neutral texts (All-but-the-Top, Mu & Viswanath 2018, arXiv:1702.01417).

    d = mean(h⁺ − μ) − mean(h⁻ − μ)          μ the grand mean, which drops out
    u₁, u₂, …                                 principal components of h⁻ − mean(h⁻), the largest first
    v = d − Σ_{i ≤ k} (d·uᵢ) uᵢ

Neutral texts are the negative training texts. The paper removes the mean and a fixed number of top components from word
vectors, because they carry frequency rather than meaning; here they carry differences unrelated to the concept, such as
length, topic and style. k is the smallest number of components with half of the negatives' variance, or the value of
`--top-components` (0 gives `mean`). The raw norm is that of v.

Any part of the concept along those components is lost, too: use this if `mean` reads length or topic.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from persona.readout.aggregators import Sample, blocks, components

if TYPE_CHECKING:
    from persona.readout.aggregators import Float64

SHARE = 0.5
"""Share of the negatives' variance to remove."""


def direction(sample: Sample) -> Float64:
    """The difference of the means, without its projection on the leading neutral components."""
    import numpy as np

    centre, apart = sample.means[1], sample.apart

    def neutral() -> Iterator[Float64]:
        for block in blocks(sample.negative):
            yield block.astype(np.float64) - centre

    values, vectors = components(neutral(), len(sample.negative), len(centre))
    leading = vectors[: _count(values, sample.components)]
    left: Float64 = apart - leading.T @ (leading @ apart)
    return left if np.linalg.norm(left) > 1e-9 * np.linalg.norm(apart) else np.zeros_like(left)


def _count(values: Float64, given: int | None) -> int:
    """Number of components to remove."""
    import numpy as np

    if given is not None:
        return given
    return int(np.searchsorted(np.cumsum(values), SHARE * values.sum())) + 1 if len(values) else 0
