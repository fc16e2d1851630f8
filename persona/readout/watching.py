"""Read a model while it runs: the projections of every forward pass, by layer and concept.

    with persona.readout.watch(model, readout) as r:
        model.generate(**inputs, max_new_tokens=20)
    r.latest               # {layer: [batch, tokens, concepts]} of the latest pass
    r.whole()              # the same of the sequence so far: the prompt, and each token after it
    r.mean(units="std")    # {layer: [batch, concepts]} over its real tokens
    r.trace()              # {layer: [batch, passes, concepts]}: where each new token was chosen

The model's output is not touched. Projections are fp32 whatever the model runs in, and are moved to the CPU pass by pass.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.errors import Refusal
from persona.inference.blocks import stream_of
from persona.readout.model import Readout
from persona.readout.passes import Hook, Pass, Passes, fitting, following, readout_for
from persona.readout.units import centers, checked_units, chosen, sizes

if TYPE_CHECKING:
    import torch

    Projections = dict[int, torch.Tensor]


@dataclass(frozen=True)
class WatchedStep:
    """What was read in one forward pass: by layer fp32 [batch, tokens, concepts] on the CPU.

    Its tokens are columns ``start`` and following of a sequence whose first ``prompt`` were not generated. ``mask``
    [batch, tokens] is true at real tokens: everywhere, where the model was told nothing of padding. ``ids`` are token ids.
    """

    values: Projections
    mask: torch.Tensor
    ids: torch.Tensor | None
    start: int
    prompt: int


class Watch:
    """What has been read so far; it stays after the block. Rows of a beam search are its beams, which change places."""

    def __init__(self, readout: Readout, keep: int | None, stops: Sequence[int] = ()) -> None:
        self.readout = readout
        self._stops = stops
        self.steps: deque[WatchedStep] = deque(maxlen=keep)

    @property
    def concepts(self) -> tuple[str, ...]:
        """Names along the last dimension of everything that is read."""
        return self.readout.concepts

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are read."""
        return self.readout.layers

    @property
    def latest(self) -> Projections:
        """The latest pass: {layer: [batch, tokens, concepts]}, in raw units."""
        return self._steps()[-1].values

    @property
    def mask(self) -> torch.Tensor:
        """Which tokens of :meth:`whole` are real: bool [batch, tokens]. What follows the end of a generated row is not,
        though ``generate`` says so to the model.
        """
        import torch

        steps = self._sequence()
        mask = torch.cat([step.mask for step in steps], 1)
        ids, prompt = self.tokens, steps[-1].prompt
        if ids is None or not self._stops:
            return mask
        ends = torch.isin(ids[:, prompt:], torch.tensor(self._stops)).int()
        over = torch.cumsum(ends, 1) - ends > 0
        return torch.cat([mask[:, :prompt], mask[:, prompt:] & ~over], 1)

    @property
    def tokens(self) -> torch.Tensor | None:
        """Token ids of :meth:`whole`: [batch, tokens]; None where the model was given embeddings."""
        import torch

        ids = [step.ids for step in self._sequence()]
        return None if any(one is None for one in ids) else torch.cat([one for one in ids if one is not None], 1)

    def whole(self, units: str = "raw") -> Projections:
        """The sequence that the latest pass belongs to, from its beginning: {layer: [batch, tokens, concepts]}."""
        import torch

        steps = self._sequence()
        return self._in({layer: torch.cat([step.values[layer] for step in steps], 1) for layer in self.layers}, units)

    def mean(self, units: str = "raw", *, generated: bool = False) -> Projections:
        """The mean over the real tokens of that sequence, or over those of them that were generated."""
        import torch

        prompt = self._steps()[-1].prompt
        mask = self.mask
        if generated:
            mask = torch.cat([torch.zeros_like(mask[:, :prompt]), mask[:, prompt:]], 1)
        if not mask.any(1).all():
            raise Refusal("there is no token to read in one of the rows", "Generate some; the first is read only then.")
        weights = mask.float()[:, :, None]
        return {layer: (p * weights).sum(1) / weights.sum(1) for layer, p in self.whole(units).items()}

    def trace(self, units: str = "raw") -> Projections:
        """The last real token of each pass: under ``generate``, where each new token was chosen.

        {layer: [batch, passes, concepts]} of the passes since the model last began with another prompt; with and without
        a cache the same.
        """
        import torch

        steps = self._run()
        rows = torch.arange(len(steps[-1].mask))
        lasts = [step.mask.shape[1] - 1 - step.mask.int().flip(1).argmax(1) for step in steps]
        found = {
            layer: torch.stack([step.values[layer][rows, last] for step, last in zip(steps, lasts, strict=True)], 1)
            for layer in self.layers
        }
        return self._in(found, units)

    def table(self, tokenizer: Any, row: int = 0, layer: int | None = None, units: str = "raw") -> str:
        """The real tokens of one row as text, a line each, with their projections at a layer (the last unless given)."""
        layer = self.layers[-1] if layer is None else layer
        self.readout.at(layer)
        ids, real = self.tokens, self.mask[row]
        if ids is None:
            raise Refusal("the model was given embeddings, and no tokens to name", "Use whole().")
        words = [repr(tokenizer.decode(int(one)))[1:-1] for one in ids[row][real]]
        wide = max(map(len, words))
        head = " " * wide + "".join(f"  {name:>8}" for name in self.concepts)
        values = self.whole(units)[layer][row][real].tolist()
        lines = [
            f"{word:{wide}}" + "".join(f"  {v:+{max(8, len(n))}.2f}" for v, n in zip(line, self.concepts, strict=True))
            for word, line in zip(words, values, strict=True)
        ]
        return "\n".join([head, *lines])

    def _steps(self) -> deque[WatchedStep]:
        if not self.steps:
            raise Refusal("nothing has been read yet", "Run the model inside of the block.")
        return self.steps

    def _sequence(self) -> list[WatchedStep]:
        """The latest pass that began at the beginning, and what continued it."""
        steps = list(self._steps())
        first = max((number for number, step in enumerate(steps) if step.start == 0), default=0)
        return steps[first:]

    def _run(self) -> list[WatchedStep]:
        """The passes since the latest that was all prompt."""
        steps = list(self._steps())
        prompts = (n for n, step in enumerate(steps) if step.start + step.mask.shape[1] == step.prompt)
        return steps[max(prompts, default=0) :]

    def _in(self, values: Projections, units: str) -> Projections:
        import torch

        checked_units(units)
        if units == "raw":
            return values
        unit, center = sizes(self.readout, units), centers(self.readout)
        return {k: (p - torch.from_numpy(center[k])) / torch.from_numpy(unit[k]) for k, p in values.items()}


@contextmanager
def watch(
    model: Any,
    readout: Readout | Path | str | None = None,
    concepts: Sequence[str] | None = None,
    layers: Sequence[int] | None = None,
    *,
    blocks: str | None = None,
    keep: int | None = None,
) -> Iterator[Watch]:
    """Read every forward pass of a transformers model until the block ends, ``generate`` included.

    ``readout`` is a :class:`Readout`, the folder of one, or None for the one that lies beside the model's weights;
    ``concepts`` and ``layers`` narrow it. ``blocks`` says where the model's layers are, if that is not found.
    ``keep`` is for how many passes projections are kept; all, unless given. A model that is steered is read as steered.
    """
    wanted = chosen(readout_for(model, readout), concepts, layers)
    where = fitting(model, wanted, blocks)
    found = Watch(wanted, keep, _stops(model))
    reader = _Reader(wanted, found.steps)
    with following(model, where, reader.hook, wanted.layers, first=False, on_end=reader.finish):
        yield found


def _stops(model: Any) -> Sequence[int]:
    """Ids of tokens that end what the model generates."""
    said = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return () if said is None else (said,) if isinstance(said, int) else tuple(said)


class _Reader:
    """Projects streams as they pass, on their own device, and moves a whole pass to the CPU at its end."""

    def __init__(self, readout: Readout, steps: deque[WatchedStep]) -> None:
        self._readout = readout
        self._steps = steps
        self._directions: Projections = {}
        self._values: Projections = {}

    def hook(self, layer: int, passes: Passes) -> Hook:
        """Of a block."""

        def read(_block: Any, _inputs: Any, output: Any) -> None:
            if passes.now is not None:  # not when a backward pass computes a block again
                self._values[layer] = self._projected(layer, stream_of(output))

        return read

    def finish(self, ended: Pass) -> None:
        """Keep what was read, unless the pass was broken off before the last layer."""
        import torch

        values, self._values = self._values, {}
        if len(values) < len(self._readout.layers):
            return
        kept = {layer: one.cpu() for layer, one in values.items()}
        shape = next(iter(kept.values())).shape[:2]
        mask = torch.ones(shape, dtype=torch.bool) if ended.mask is None else ended.mask.cpu()
        ids = None if ended.ids is None else ended.ids.cpu()
        self._steps.append(WatchedStep(kept, mask, ids, ended.start, ended.prompt))

    def _projected(self, layer: int, stream: torch.Tensor) -> torch.Tensor:
        import torch

        directions = self._directions.get(layer)
        if directions is None or directions.device != stream.device:
            directions = torch.from_numpy(self._readout.vectors[layer]).to(stream.device)
            self._directions[layer] = directions
        with torch.autocast(stream.device.type, enabled=False):
            return stream.detach().float() @ directions.T
