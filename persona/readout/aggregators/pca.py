"""pca: the direction along which pairs differ most (RepE, Zou et al. 2023, arXiv:2310.01405).

    δ = h⁺ − h⁻ of each pair
    v = the eigenvector of Σ δδᵀ with the largest eigenvalue λ, uncentred
    the sign of v is such that mean(h⁺)·v > mean(h⁻)·v

Texts without a pair are paired at random by the seed, those of the smaller side more than once. The raw norm is √(λ/n), the
root mean square of δ along v.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from persona.readout.aggregators import NoDirection, Sample, components, deltas, pairing

if TYPE_CHECKING:
    from persona.readout.aggregators import Float64


def direction(sample: Sample) -> Float64:
    """The top eigenvector, oriented so that positives project higher."""
    pairs = pairing(sample)
    values, vectors = components(deltas(sample, pairs), len(pairs), sample.positive[[0]].shape[1])
    if not len(values):
        raise NoDirection(
            "the two texts of every pair have the same activations", "Check the pairs, or use another layer."
        )
    towards = float(sample.apart @ vectors[0])
    if towards == 0:
        raise NoDirection("positives project no higher than negatives", "Use the aggregator 'mean'.")
    length = float(values[0] / len(pairs)) ** 0.5
    oriented: Float64 = vectors[0] * (length if towards > 0 else -length)
    return oriented
