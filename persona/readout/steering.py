"""Steer a model while it runs: add h += Σ α·v at some layers.

    with persona.readout.steer(model, {"warmth": 4.0, "coldness": -2.0}, readout):
        model.generate(**inputs)
    with persona.readout.steer(model, {("warmth", "coldness"): (4.0, 2.0)}, readout):     # the same: h += α⁺·v⁺ − α⁻·v⁻
        model.generate(**inputs)

A strength in standard deviations is measured on texts without their attention sinks, which are hundreds of times as long
as other tokens. For a readout from before sinks were left out, `steer` warns that its strengths count the sinks.

With two opposite poles, a model stays coherent at larger strengths than with one (Turner et al. 2023). Each pole has its
own strength.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.errors import UsageError, did_you_mean
from persona.inference.blocks import stream_of, with_stream
from persona.readout.model import Readout
from persona.readout.passes import Hook, Pass, Passes, fitting, following, readout_for
from persona.readout.sinks import EARLIER, is_earlier
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
    """Steer every forward pass of a transformers model until the block ends, in any thread.

    Yields what is added at each layer, fp32 [hidden]. Nested `steer` blocks add up. Padding is not steered.

    Args:
        strengths: A number for each concept, negative to steer away from it; or for a pair of concepts (towards,
            away from), two numbers or one for both.
        readout: A readout, its folder, its name in the model's folder, or None for the only one there.
        layers: Layers to steer at; by default all layers of the readout. Steering at n layers is about n times as
            strong as at one, because the residual stream carries each addition on.
        units: Unit of the strengths. "std": standard deviations, which shift what `score` prints by the same amount
            at every layer (the manifest must have `spreads`); "norm": distances between the two sides' means; "raw":
            units of the residual stream.
        where: Tokens to steer: "all", or "generated" for the last prompt token, which predicts the first new one, and
            all generated tokens.
        blocks: Where the list of blocks is in the model, such as "model.layers"; None to find it.

    Raises:
        UsageError: the readout does not fit the model, or the strengths do not fit the readout.
    """
    found = readout_for(model, readout)
    if is_earlier(found.about):
        warnings.warn(f"{EARLIER}.", stacklevel=3)
    with steered(model, strengths, found, layers=layers, units=units, where=where, blocks=blocks) as push:
        yield push


@contextmanager
def steered(
    model: Any,
    strengths: Strengths,
    readout: Readout,
    *,
    layers: Sequence[int] | None = None,
    units: str = "std",
    where: str = "all",
    blocks: str | None = None,
) -> Iterator[Mapping[int, Float32]]:
    """Do what `steer` does without its warning."""
    if where not in PLACES:
        raise UsageError(f"unknown value '{where}' of where", did_you_mean(where, PLACES))
    wanted = chosen(readout, None, layers)
    push = pushes(wanted, strengths, units)
    place = fitting(model, wanted, blocks)
    acting = [layer for layer in wanted.layers if push[layer].any()]  # adding 0 would turn −0.0 into 0.0

    def hook(layer: int, passes: Passes) -> Hook:
        return _adding(push[layer], passes, generated=where == "generated")

    with following(model, place, hook, acting, first=True):
        yield push


def pushes(readout: Readout, strengths: Strengths, units: str) -> Mapping[int, Float32]:
    """What to add to the residual stream at each layer, fp32 [hidden]."""
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
    """Convert strengths to (row, α): positive for the first concept of a pair, negative for the second.

    Raises:
        UsageError: a concept is unknown, or a strength is not a finite number.
    """
    parts: list[tuple[int, float]] = []
    for concept, strength in strengths.items():
        poles = (concept,) if isinstance(concept, str) else tuple(concept)
        values = tuple(strength) if isinstance(strength, tuple | list) else (strength,) * len(poles)
        if len(poles) > 2 or len(values) != len(poles):
            raise UsageError(
                f"{concept!r} has {len(values)} strengths for {len(poles)} concepts",
                'Give one number per concept, or two per pair: {("warmth", "coldness"): (4.0, 2.0)}.',
            )
        for name, value, sign in zip(poles, values, (1, -1), strict=False):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise UsageError(f"the strength of '{name}' is {value!r}", "Give a finite number.")
            parts.append((readout.row(name), sign * float(value)))
    return parts


def _adding(push: Float32, passes: Passes, *, generated: bool) -> Hook:
    """Make a hook that adds `push` to a block's output in fp32, rounded once to the stream's dtype."""
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
    """Mask of the tokens to steer in a pass, bool [batch, tokens]; None for all."""
    import torch

    real = None if now is None or now.mask is None else now.mask.to(stream.device)
    if not generated or now is None:
        return real
    if real is None:
        real = torch.ones(stream.shape[:2], dtype=torch.bool, device=stream.device)
    asked = max(0, now.prompt - now.start)  # number of prompt tokens in this pass
    new = real.clone()
    if asked:
        last = asked - 1 - real[:, :asked].int().flip(1).argmax(1)
        new[:, :asked] = False
        new[torch.arange(len(new), device=new.device), last] = True
    return new & real
