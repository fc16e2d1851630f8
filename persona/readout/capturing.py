"""From labelled texts to rows of activations: each text is run once, whatever number of concepts it serves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.errors import Refusal
from persona.ids import Hasher
from persona.inference.batches import by_length
from persona.progress import Progress
from persona.readout.capture import activations
from persona.readout.labels import Labels, check_sides
from persona.readout.texts import EncodedText, encode
from persona.readout.working import LayerRows, Working, working

if TYPE_CHECKING:
    from persona.inference.blocks import Blocks
    from persona.inference.load import LoadedModel


@dataclass(frozen=True)
class CaptureOptions:
    """In which way texts are run."""

    pooling: str = "mean"
    batch_size: int = 8
    too_long: str = "error"


@dataclass(frozen=True)
class Captured:
    """Activations of every text of ``labels``, on disk. ``places`` are the texts' places in the order of capture.

    ``resumed`` texts were there already; ``cut`` were shortened and ``skipped`` left out, being too long.
    """

    work: Working
    labels: tuple[Labels, ...]
    places: dict[str, int]
    tokens: int
    resumed: int
    cut: int
    skipped: int

    def rows(self, layer: int, texts: Sequence[str]) -> LayerRows:
        """Some texts at a layer, in the order of capture."""
        return LayerRows(self.work, layer, sorted(self.places[text] for text in texts))


@contextmanager
def captured(
    live: LoadedModel,
    blocks: Blocks,
    layers: Sequence[int],
    labels: Sequence[Labels],
    how: CaptureOptions,
    folder: Path,
    progress: Progress,
) -> Iterator[Captured]:
    """Run every text that is not in ``folder`` yet; the folder is locked until the block ends, and stays."""
    texts = sorted({text for one in labels for side in (True, False) for text in one.side(side)})
    encoded = encode(live, texts, how.pooling, how.too_long)
    kept = [texts[row] for row in encoded.rows]
    left = _without(labels, frozenset(texts) - frozenset(kept))
    order = by_length(encoded.tokens)
    places = {kept[row]: place for place, row in enumerate(order)}
    with working(folder, _plan(live, blocks, layers, encoded, how)) as work:
        resumed = work.kept
        tokens = _run(live, blocks, encoded, how, work, order, progress)
        yield Captured(work, left, places, tokens, resumed, encoded.cut, len(texts) - len(kept))


def _without(labels: Sequence[Labels], skipped: frozenset[str]) -> tuple[Labels, ...]:
    left = tuple(one.without(skipped) for one in labels)
    check_sides(left, "without the texts that are too long")
    return left


def _run(
    live: LoadedModel,
    blocks: Blocks,
    encoded: EncodedText,
    how: CaptureOptions,
    work: Working,
    order: Sequence[int],
    progress: Progress,
) -> int:
    """Capture the rest; how many tokens there are in all."""
    lengths = [len(one) for one in encoded.tokens]
    with progress.task("Reading texts", sum(lengths), "tokens") as task:
        task.advance(sum(lengths[row] for row in order[: work.kept]))
        if work.kept < len(order):
            found = activations(
                live, blocks, work.layers, encoded.tokens, pooling=how.pooling, batch_size=how.batch_size,
                start=work.kept, marks=encoded.marks,
            )  # fmt: skip
            for batch, by_layer in found:
                work.append(_stacked(live, by_layer, work.layers))
                task.advance(sum(lengths[row] for row in batch.rows))
        work.flush()
    return sum(lengths)


def _stacked(live: LoadedModel, by_layer: dict[int, Any], layers: Sequence[int]) -> Any:
    """[layers, batch, hidden]; raises where an activation has left the range of the dtype."""
    import numpy as np

    for layer in layers:
        if not np.isfinite(by_layer[layer]).all():
            raise Refusal(
                f"{live.label}: an activation at layer {layer} is no finite number in {live.dtype}",
                "Use --dtype fp32, or bf16; what is captured so far is of no use then: give another -o OUT.",
            )
    return np.stack([by_layer[layer] for layer in layers])


def _plan(
    live: LoadedModel, blocks: Blocks, layers: Sequence[int], encoded: EncodedText, how: CaptureOptions
) -> dict[str, Any]:
    """What rows depend on; batch size and device move them by rounding only."""
    digest = Hasher()
    for row, tokens in enumerate(encoded.tokens):
        digest.update(len(tokens).to_bytes(8, "little"))
        digest.update(tokens)
        if encoded.marks is not None:
            digest.update(encoded.marks[row])
    return {
        "model": identity(live), "dtype": live.dtype, "blocks": blocks.path,
        "layers": list(layers), "hidden": blocks.hidden, "pooling": how.pooling,
        "texts": digest.hexdigest(), "rows": len(encoded.tokens),
    }  # fmt: skip


def identity(live: LoadedModel) -> str:
    """The revision that a model is of, or else the BLAKE3 of its weights."""
    import torch

    if live.revision is not None:
        return f"commit {live.revision}"
    hasher = Hasher(threads=True)
    for name, weight in live.model.state_dict().items():
        hasher.update(f"{name} {weight.dtype} {list(weight.shape)}\n".encode())
        hasher.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return f"weights {hasher.hexdigest()}"
