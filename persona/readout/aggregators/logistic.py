"""logistic: the weights of a logistic regression with an L2 penalty (scikit-learn, as in the package steering-vectors).

    x, y                     (δ/2, +1) and (−δ/2, −1) of each pair δ = h⁺ − h⁻, if every text is in a pair;
                             else (h⁺ − μ, +1) and (h⁻ − μ, −1), μ the mean of the means of both sides
    v = argmin_w  ½ w·w + C Σ s log(1 + exp(−y (w·x + b)))          C = 1, L-BFGS

With pairs, b = 0 and s = 1, as in steering-vectors. Without, b is free, and s gives both sides the same total weight. The
method depends on scale: the larger the activations, the weaker the penalty, until v is the direction of the widest margin.
The raw norm is that of w. All rows of one concept at one layer are held in memory.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from persona.readout.aggregators import Sample, deltas

if TYPE_CHECKING:
    from persona.readout.aggregators import Float64

NEEDS = {"sklearn": "scikit-learn"}
SCALES = False
STEPS = 10_000


def direction(sample: Sample) -> Float64:
    """The weights of the regression."""
    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    x, y = _halves(sample) if sample.is_paired else _sides(sample)
    if not np.any(x):
        return np.zeros(x.shape[1])
    how: dict[str, Any] = {"fit_intercept": False} if sample.is_paired else {"class_weight": "balanced"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # after this many steps it is close enough
        fitted = LogisticRegression(C=1.0, max_iter=STEPS, **how).fit(x, y)
    weights: Float64 = fitted.coef_[0].astype(np.float64)
    return weights


def _halves(sample: Sample) -> tuple[Any, Any]:
    import numpy as np

    half = np.concatenate(list(deltas(sample, sample.pairs))) / 2
    return np.concatenate([half, -half]), np.repeat([1, -1], len(half))


def _sides(sample: Sample) -> tuple[Any, Any]:
    import numpy as np

    sides = [rows[range(len(rows))] for rows in (sample.positive, sample.negative)]
    centre = sum(sample.means) / 2
    return np.concatenate(sides) - centre, np.repeat([1, -1], [len(rows) for rows in sides])
