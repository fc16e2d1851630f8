"""``persona readout train``: from labelled texts to directions, and what they are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.errors import Refusal, UsageError, did_you_mean
from persona.ids import file_digest
from persona.progress import SILENT, Progress
from persona.readout.aggregators import check_ready
from persona.readout.capture import POOLINGS
from persona.readout.capturing import CaptureOptions, captured
from persona.readout.fitting import Taking
from persona.readout.folder import is_readout, write_readout
from persona.readout.labels import labels_of
from persona.readout.layers import AUTO, DEFAULT, check_layers, parse_layers
from persona.readout.model import SITE, Readout
from persona.readout.pairs import read_pairs
from persona.readout.quality import ConceptCluster
from persona.readout.texts import TOO_LONG
from persona.readout.training import FittedReadout, TrainedConcept, train
from persona.readout.working import finish, folder_of
from persona.repository import Repository
from persona.workspace.loading import load_model

if TYPE_CHECKING:
    from persona.inference.blocks import Blocks
    from persona.inference.load import LoadedModel


@dataclass(frozen=True)
class ReadoutTrainResult:
    """A readout that was trained. Of its ``texts``, ``resumed`` had been run before; ``cut`` and ``skipped`` were too long."""

    out: Path
    model: str
    base: str | None
    revision: str | None
    aggregator: str
    pooling: str
    blocks: int
    layers: tuple[int, ...]
    texts: int
    tokens: int
    resumed: int
    cut: int
    skipped: int
    concepts: tuple[TrainedConcept, ...]
    clusters: tuple[ConceptCluster, ...]


def readout_train(
    pairs: Path | str,
    out: Path | str,
    model: Path | str | None = None,
    *,
    repo: Repository | None = None,
    cwd: Path | str = ".",
    layers: str = DEFAULT,
    aggregator: str = "mean",
    pooling: str = "mean",
    concepts: Sequence[str] = (),
    dtype: str | None = None,
    batch_size: int = 8,
    device: str = "cpu",
    blocks: str | None = None,
    seed: int = 0,
    components: int | None = None,
    too_long: str = "error",
    replace: bool = False,
    progress: Progress = SILENT,
) -> ReadoutTrainResult:
    """Train a readout on the file ``pairs`` and write it to the new folder ``out``.

    ``model`` is a revision, a vector, or a folder (relative to ``within``); the recipe of ``repo`` as it stands otherwise. What
    was captured lies in ``OUT.partial`` until the end, so the same call goes on where one was stopped.
    """
    from persona.inference.blocks import find_blocks

    target, how, taking = Path(out), CaptureOptions(pooling, batch_size, too_long), Taking(aggregator, seed, components)
    _check(target, layers, how, taking, replace)
    source = Path(pairs)
    labels = labels_of(read_pairs(source), concepts, str(source))
    live = load_model(repo, model, Path(cwd), dtype=dtype, device=device, progress=progress)
    live.need_tokenizer()
    found = find_blocks(live.model, blocks)
    chosen = found.checked(parse_layers(layers, len(found)))
    with captured(live, found, chosen, labels, how, folder_of(target), progress) as data:
        trained = train(data, taking, progress, auto=layers.strip() == AUTO)
        about = _about(live, found, how, taking, trained, source)
        names = tuple(one.concept for one in trained.concepts)
        write_readout(target, Readout(names, trained.layers, trained.vectors, about), replace=replace)
    finish(folder_of(target))
    return ReadoutTrainResult(
        target, live.label, live.base, live.revision, aggregator, pooling, len(found), trained.layers, len(data.places),
        data.tokens, data.resumed, data.cut, data.skipped, trained.concepts, trained.clusters,
    )  # fmt: skip


def _check(out: Path, layers: str, how: CaptureOptions, taking: Taking, replace: bool) -> None:
    """Whatever can be wrong before anything is read."""
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (replace and is_readout(out))):
        raise Refusal(f"{out} is there already", "Choose another name; it was left alone.")
    check_layers(layers)
    for value, known, what in ((how.pooling, POOLINGS, "pooling"), (how.too_long, TOO_LONG, "way with long texts")):
        if value not in known:
            raise UsageError(f"unknown {what} '{value}'", did_you_mean(value, known))
    if how.batch_size < 1 or (taking.components is not None and taking.components < 0):
        raise UsageError(
            "a batch has at least one text, and components are not fewer than none", "Use a larger number."
        )
    check_ready(taking.aggregator)


def _about(
    live: LoadedModel, blocks: Blocks, how: CaptureOptions, taking: Taking, trained: FittedReadout, source: Path
) -> dict[str, Any]:
    """The manifest, but for concepts and layers."""
    components = {"components": taking.components} if taking.components is not None else {}
    return {
        "site": SITE, "pooling": how.pooling, "aggregator": taking.aggregator, **components, "normalisation": "unit",
        **trained.fields, "seed": taking.seed, "hidden": blocks.hidden, "blocks": len(blocks), "base": live.base,
        "revision": live.revision, "model": live.label, "dtype": live.dtype,
        "source": {"file": source.name, "digest": file_digest([source.read_bytes()])},
    }  # fmt: skip
