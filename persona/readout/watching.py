"""Read a model while it runs: the projections of every forward pass, by layer and concept.

    with persona.readout.watch(model, readout) as r:
        model.generate(**inputs, max_new_tokens=20)
    r.latest               # {layer: [batch, tokens, concepts]} of the latest pass
    r.whole()              # the same for the whole sequence: the prompt and all generated tokens
    r.mean(units="std")    # {layer: [batch, concepts]} over the real tokens of the sequence, without attention sinks
    r.trace()              # {layer: [batch, passes, concepts]} at the last token of each pass

The model's output does not change. Projections are fp32 whatever the model's dtype, and are moved to the CPU after each
pass.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.errors import Refusal
from persona.inference.blocks import stream_of
from persona.readout.model import Readout
from persona.readout.passes import Hook, Pass, Passes, fitting, following, readout_for
from persona.readout.sinks import multiple, ordinary
from persona.readout.units import centers, checked_units, chosen, sizes

if TYPE_CHECKING:
    import torch

    Projections = dict[int, torch.Tensor]


@dataclass(frozen=True)
class WatchedStep:
    """Projections of one forward pass by layer, fp32 [batch, tokens, concepts] on the CPU.

    Its tokens start at column `start` of the sequence, whose first `prompt` tokens were not generated. `mask`
    [batch, tokens] is true at real tokens, which are all tokens if the model got no mask. `ids` are token ids. `lengths`
    are those of the activations by layer, fp32 [batch, tokens]; empty for a readout that leaves no attention sinks out.
    """

    values: Projections
    mask: torch.Tensor
    ids: torch.Tensor | None
    start: int
    prompt: int
    lengths: Projections = field(default_factory=dict)


class Watch:
    """The projections read so far, which stay available after the block.

    With beam search, rows are beams, which change places between steps.
    """

    def __init__(self, readout: Readout, keep: int | None, stops: Sequence[int] = ()) -> None:
        self.readout = readout
        self._stops = stops
        self.steps: deque[WatchedStep] = deque(maxlen=keep)

    @property
    def concepts(self) -> tuple[str, ...]:
        """Names along the last dimension of all projections."""
        return self.readout.concepts

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers read."""
        return self.readout.layers

    @property
    def latest(self) -> Projections:
        """The latest pass: {layer: [batch, tokens, concepts]}, in raw units."""
        return self._steps()[-1].values

    @property
    def mask(self) -> torch.Tensor:
        """Mask of the real tokens of `whole()`, bool [batch, tokens].

        Tokens after a generated end token are not real, although `generate` marks them as such.
        """
        import torch

        steps = self._sequence()
        mask = torch.cat([step.mask for step in steps], 1)
        ids, prompt = self.tokens, steps[-1].prompt
        if ids is None or not self._stops:
            return mask
        ends = torch.isin(ids[:, prompt:], torch.tensor(self._stops)).int()
        over = torch.cumsum(ends, 1) - ends > 0  # strictly after the first end token
        return torch.cat([mask[:, :prompt], mask[:, prompt:] & ~over], 1)

    @property
    def tokens(self) -> torch.Tensor | None:
        """Token ids of `whole()` [batch, tokens]; None if the model got embeddings."""
        import torch

        steps = self._sequence()
        ids = [step.ids for step in steps if step.ids is not None]
        return torch.cat(ids, 1) if len(ids) == len(steps) else None

    @property
    def averaged(self) -> Mapping[int, torch.Tensor]:
        """Mask by layer of the tokens of `whole()` that means are over: real, and no attention sinks."""
        import torch

        real, beyond, steps = self.mask, multiple(self.readout), self._sequence()
        if beyond is None:
            return dict.fromkeys(self.layers, real)
        begins = steps[0].start == 0
        lengths = {layer: torch.cat([step.lengths[layer] for step in steps], 1) for layer in self.layers}
        return {layer: ordinary(lengths[layer], real, beyond, begins=begins)[0] for layer in self.layers}

    def whole(self, units: str = "raw") -> Projections:
        """The whole sequence of the latest pass: {layer: [batch, tokens, concepts]}."""
        import torch

        steps = self._sequence()
        return self._in({layer: torch.cat([step.values[layer] for step in steps], 1) for layer in self.layers}, units)

    def mean(self, units: str = "raw", *, generated: bool = False) -> Projections:
        """Mean over the real tokens of `whole()`, without attention sinks: {layer: [batch, concepts]}.

        A readout from before sinks were left out is averaged over all real tokens, as it was made.

        Args:
            units: One of `units.UNITS`.
            generated: Average over generated tokens only.

        Raises:
            Refusal: a row has no such token.
        """
        import torch

        prompt = self._steps()[-1].prompt
        masks = self.averaged
        if generated:
            masks = {n: torch.cat([torch.zeros_like(m[:, :prompt]), m[:, prompt:]], 1) for n, m in masks.items()}
        if not all(mask.any(1).all() for mask in masks.values()):
            what = "Generate at least two: a token is read in the next pass." if generated else "Read a longer text."
            raise Refusal("a row has no tokens to average over", what)
        means = {}
        for layer, values in self.whole(units).items():
            weights = masks[layer].float()[:, :, None]
            means[layer] = (values * weights).sum(1) / weights.sum(1)
        return means

    def trace(self, units: str = "raw") -> Projections:
        """Projections at the last real token of each pass: {layer: [batch, passes, concepts]}.

        Under `generate`, this is the token that predicts each new one, with or without a cache. Starts at the last new
        prompt.
        """
        import torch

        steps = self._run()
        rows = torch.arange(len(steps[-1].mask))
        lasts = [step.mask.shape[1] - 1 - step.mask.int().flip(1).argmax(1) for step in steps]
        values = {
            layer: torch.stack([step.values[layer][rows, last] for step, last in zip(steps, lasts, strict=True)], 1)
            for layer in self.layers
        }
        return self._in(values, units)

    def table(self, tokenizer: Any, row: int = 0, layer: int | None = None, units: str = "raw") -> str:
        """Format the real tokens of a row, one per line, with their projections at a layer (default: the last)."""
        layer = self.layers[-1] if layer is None else layer
        self.readout.at(layer)
        ids, real = self.tokens, self.mask[row]
        if ids is None:
            raise Refusal("the model got embeddings, so there are no tokens to print", "Use whole().")
        words = [repr(tokenizer.decode(int(token)))[1:-1] for token in ids[row][real]]
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
            raise Refusal("nothing has been read yet", "Run the model inside the block.")
        return self.steps

    def _sequence(self) -> list[WatchedStep]:
        """The passes of the latest sequence: the last one that started at 0, and those that continue it."""
        steps = list(self._steps())
        first = max((number for number, step in enumerate(steps) if step.start == 0), default=0)
        return steps[first:]

    def _run(self) -> list[WatchedStep]:
        """The passes since the last one that was entirely a prompt."""
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
    """Read every forward pass of a transformers model until the block ends, including those of `generate`.

    If the model is steered, the steered stream is read.

    Args:
        readout: A readout, its folder, its name in the model's folder, or None for the only one there.
        concepts: Concepts to read; by default all.
        layers: Layers to read; by default all.
        blocks: Where the list of blocks is in the model, such as "model.layers"; None to find it.
        keep: Number of passes to keep; by default all.

    Raises:
        UsageError: there is no such readout, or it does not fit the model.
    """
    wanted = chosen(readout_for(model, readout), concepts, layers)
    where = fitting(model, wanted, blocks)
    watched = Watch(wanted, keep, _stops(model))
    reader = _Reader(wanted, watched.steps)
    with following(model, where, reader.hook, wanted.layers, first=False, on_end=reader.finish):
        yield watched


def _stops(model: Any) -> Sequence[int]:
    """Ids of the tokens that end generation."""
    stops = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return () if stops is None else (stops,) if isinstance(stops, int) else tuple(stops)


class _Reader:
    """Projects streams on their own device, and moves them to the CPU at the end of each pass."""

    def __init__(self, readout: Readout, steps: deque[WatchedStep]) -> None:
        self._readout = readout
        self._steps = steps
        self._directions: Projections = {}
        self._values: Projections = {}
        self._lengths: Projections = {}
        self._measures = multiple(readout) is not None

    def hook(self, layer: int, passes: Passes) -> Hook:
        """Make the hook of a block."""

        def read(_block: Any, _inputs: Any, output: Any) -> None:
            if passes.now is not None:  # gradient checkpointing runs blocks again during the backward pass
                stream = stream_of(output)
                self._values[layer] = self._projected(layer, stream)
                if self._measures:
                    self._lengths[layer] = stream.detach().float().norm(dim=-1)

        return read

    def finish(self, ended: Pass) -> None:
        """Keep the pass, unless it ended before the last layer."""
        import torch

        values, self._values = self._values, {}
        lengths, self._lengths = self._lengths, {}
        if len(values) < len(self._readout.layers):
            return
        kept = {layer: value.cpu() for layer, value in values.items()}
        shape = next(iter(kept.values())).shape[:2]
        mask = torch.ones(shape, dtype=torch.bool) if ended.mask is None else ended.mask.cpu()
        ids = None if ended.ids is None else ended.ids.cpu()
        on_cpu = {layer: length.cpu() for layer, length in lengths.items()}
        self._steps.append(WatchedStep(kept, mask, ids, ended.start, ended.prompt, on_cpu))

    def _projected(self, layer: int, stream: torch.Tensor) -> torch.Tensor:
        import torch

        directions = self._directions.get(layer)
        if directions is None or directions.device != stream.device:
            directions = torch.from_numpy(self._readout.vectors[layer]).to(stream.device)
            self._directions[layer] = directions
        with torch.autocast(stream.device.type, enabled=False):
            return stream.detach().float() @ directions.T
