"""Push a model along directions while it runs: h += Σ α·v at each of some layers.

    with persona.readout.steer(model, {"warmth": 4.0, "coldness": -2.0}, readout):
        model.generate(**inputs)
    with persona.readout.steer(model, {("warmth", "coldness"): (4.0, 2.0)}, readout):     # the same: h += α⁺·v⁺ − α⁻·v⁻
        model.generate(**inputs)

Two poles that are pushed against each other keep a model coherent for longer than one that is pushed alone
(Turner et al. 2023), and each has a strength of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.errors import UsageError, did_you_mean
from persona.inference.blocks import stream_of, with_stream
from persona.readout.model import Readout
from persona.readout.passes import Hook, Pass, Passes, fitting, following, readout_for
from persona.readout.units import chosen, sizes

if TYPE_CHECKING:
    import torch

    from persona.checkpoints.dtypes import Float32

Strengths = Mapping[str | tuple[str, str], float | tuple[float, float]]

PLACES = ("all", "generated")


@contextmanager
def steer(
    model: Any,
    strengths: Strengths,
    readout: Readout | Path | str | None = None,
    *,
    layers: Sequence[int] | None = None,
    units: str = "std",
    where: str = "all",
    blocks: str | None = None,
) -> Iterator[Mapping[int, Float32]]:
    """Push a transformers model at every forward pass until the block ends; gives what is added, fp32 [hidden] by layer.

    ``strengths`` says how strongly: a number for a concept, whose sign is the way; for a pair (towards, away from) two
    numbers, or one for both. They count ``units``: ``std``, spreads of the concept at the layer (which its manifest must
    have), so that a strength means the same at every layer and in every model, and moves what ``score`` prints by as
    much; ``norm``, lengths of the difference of means; ``raw``, of the stream. Each of ``layers`` (the readout's, unless
    given) adds its own, and the stream carries it on: at n layers a push is about n times as strong as at one.

    ``where`` is ``all`` tokens, or ``generated``: the last of the prompt, from which the first new one is chosen, and all
    after it. Padding is left alone. Blocks within blocks add up. Every pass of the model is steered while the block
    lasts, whichever thread runs it. The readout is found, and ``blocks`` is meant, as for ``watch``.
    """
    if where not in PLACES:
        raise UsageError(f"unknown tokens '{where}'", did_you_mean(where, PLACES))
    wanted = chosen(readout_for(model, readout), None, layers)
    push = pushes(wanted, strengths, units)
    place = fitting(model, wanted, blocks)
    acting = [layer for layer in wanted.layers if push[layer].any()]  # adding 0 would change −0.0

    def hook(layer: int, passes: Passes) -> Hook:
        return _adding(push[layer], passes, generated=where == "generated")

    with following(model, place, hook, acting, first=True):
        yield push


def pushes(readout: Readout, strengths: Strengths, units: str) -> Mapping[int, Float32]:
    """What some strengths add to the stream at each layer, fp32 [hidden]."""
    import numpy as np

    parts = coefficients(readout, strengths)
    unit = sizes(readout, units)
    return {
        layer: np.sum(
            [alpha * unit[layer][row] * readout.vectors[layer][row] for row, alpha in parts]
            or [np.zeros(readout.hidden)], axis=0, dtype=np.float32,
        )
        for layer in readout.layers
    }  # fmt: skip


def coefficients(readout: Readout, strengths: Strengths) -> list[tuple[int, float]]:
    """Strengths as (row, α): a pair is its first with a plus and its second with a minus."""
    found: list[tuple[int, float]] = []
    for what, said in strengths.items():
        poles = (what,) if isinstance(what, str) else tuple(what)
        values = tuple(said) if isinstance(said, tuple | list) else (said,) * len(poles)
        if len(poles) > 2 or len(values) != len(poles):
            raise UsageError(
                f"{what!r} has {len(values)} strengths for {len(poles)} concepts",
                'Give a concept one number; two poles are a pair: {("warmth", "coldness"): (4.0, 2.0)}.',
            )
        for name, value, sign in zip(poles, values, (1, -1), strict=False):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise UsageError(f"the strength of '{name}' is {value!r}", "It is a finite number.")
            found.append((readout.row(name), sign * float(value)))
    return found


def _adding(push: Float32, passes: Passes, *, generated: bool) -> Hook:
    """A hook that adds ``push`` to what a block returns, in fp32, rounded once to the stream's own dtype."""
    import torch

    held = torch.from_numpy(push)

    def add(_block: Any, _inputs: Any, output: Any) -> Any:
        nonlocal held
        stream = stream_of(output)
        if held.device != stream.device:
            held = held.to(stream.device)
        steered = (stream + held).to(stream.dtype)
        at = _tokens(passes.now, stream, generated=generated)
        return with_stream(output, steered if at is None else torch.where(at[:, :, None], steered, stream))

    return add


def _tokens(now: Pass | None, stream: torch.Tensor, *, generated: bool) -> torch.Tensor | None:
    """Which tokens of a pass are pushed, bool [batch, tokens]; None for all of them."""
    import torch

    real = None if now is None or now.mask is None else now.mask.to(stream.device)
    if not generated or now is None:
        return real
    if real is None:
        real = torch.ones(stream.shape[:2], dtype=torch.bool, device=stream.device)
    asked = max(0, now.prompt - now.start)  # how many tokens of this pass are prompt
    new = real.clone()
    if asked:
        last = asked - 1 - real[:, :asked].int().flip(1).argmax(1)
        new[:, :asked] = False
        new[torch.arange(len(new), device=new.device), last] = True
    return new & real
