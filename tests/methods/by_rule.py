"""A method on small arrays: by its rule, in blocks, as a build does it, and by its own reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from persona import methods
from persona.methods.parts import rules
from persona.methods.parts.share import Share, Size
from persona.methods.parts.work import Piece, Work
from tests.diagonals import drawn

ROUGH = {"model_stock", "slerp", "nuslerp", "karcher", "sce", "iso_c", "tsv_m", "wudi", "svc"}
"""Methods with sums over whole tensors, whose order a reference need not share."""


def weights_of(name: str, base: np.ndarray, shares: Sequence[Share]) -> list[np.ndarray]:
    """What each vector is weighed by: its own, wherever it stands; nothing for methods that do not, or of one alone."""
    if not methods.weighs(methods.load(name)) or len(shares) == 1:
        return []
    return [drawn(base.shape, share.key) for share in shares]


def merged(
    name: str,
    base: np.ndarray,
    deltas: Sequence[np.ndarray],
    shares: Sequence[Share],
    given: Mapping,
    block: int,
    weights: Sequence[np.ndarray] | None = None,
):
    """δ by the method's rule, in blocks."""
    module = methods.load(name)
    rule = rules.rule(module)
    columns = base.shape[-1] if base.ndim > 1 else max(1, base.size)
    step = {rules.ANYWHERE: block, rules.ROWS: max(1, block // columns) * columns, rules.WHOLE: max(1, base.size)}
    size = step[rule.cut]
    weights = weights_of(name, base, shares) if weights is None else weights
    flat = [d.reshape(-1) for d in (base, *deltas, *weights)]
    count = len(deltas)

    def blocks(which: int) -> Iterator[np.ndarray]:
        for at in range(0, base.size, size):
            yield flat[which][at : at + size].copy()

    def pieces() -> Iterator[Piece]:
        for number, (w, *more) in enumerate(zip(*(blocks(k) for k in range(len(flat))), strict=True)):
            yield Piece(number * size, w, more[:count], more[count:])

    parameters = methods.settings(module.PARAMETERS, given)
    work = Work("w", base.shape, tuple(shares), parameters, lambda number: blocks(number + 1), pieces)
    with np.errstate(all="ignore"):
        state = rule.prepare(work)
        parts = [rule.combine(work, piece, state) for piece in pieces()]
    return np.concatenate(parts).reshape(base.shape)


def shares_of(name: str, alphas: Sequence[float], given: Mapping) -> list[Share]:
    parameters = methods.settings(methods.load(name).PARAMETERS, given)
    sizes = [
        Size(3e-5 * (n + 1), 1e-3 / (n + 1)) if methods.weighs(methods.load(name)) else Size()
        for n in range(len(alphas))
    ]
    keys = [0x1234567 * (n + 1) for n in range(len(alphas))]
    return [Share(a, key, parameters, size=size) for a, key, size in zip(alphas, keys, sizes, strict=True)]


def wanted(
    name: str,
    base: np.ndarray,
    deltas: Sequence[np.ndarray],
    shares: Sequence[Share],
    given: Mapping,
    weights: Sequence[np.ndarray] | None = None,
):
    module = methods.load(name)
    parameters = methods.settings(module.PARAMETERS, given)
    tensors = [torch.from_numpy(d.copy()) for d in (base, *deltas)]
    weights = weights_of(name, base, shares) if weights is None else weights
    more = [[torch.from_numpy(one.copy()) for one in weights]] if methods.weighs(module) else []
    return module.reference(tensors[0], tensors[1:], shares, parameters, *more).numpy()
