"""`persona readout train`: train directions on labelled texts, and measure how good they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.errors import Refusal, UsageError, did_you_mean
from persona.files import read_bytes
from persona.ids import file_digest
from persona.progress import SILENT, Progress
from persona.readout.aggregators import check_ready
from persona.readout.capture import POOLINGS
from persona.readout.capturing import CaptureOptions, captured
from persona.readout.fitting import FitOptions
from persona.readout.folder import is_readout, write_readout
from persona.readout.labels import labels_of
from persona.readout.layers import AUTO, DEFAULT, check_layers, parse_layers
from persona.readout.model import SITE, Readout
from persona.readout.pairs import read_pairs
from persona.readout.quality import ConceptCluster
from persona.readout.sinks import SinksLeftOut, at_layers
from persona.readout.texts import TOO_LONG
from persona.readout.training import FittedReadout, TrainedConcept, train
from persona.readout.working import finish, folder_of
from persona.repository import Repository
from persona.workspace.running import RunOptions

if TYPE_CHECKING:
    from persona.inference.blocks import Blocks
    from persona.inference.load import LoadedModel


@dataclass(frozen=True)
class ReadoutTrainResult:
    """A trained readout.

    `blocks` is the number of blocks of the model. Of the `texts`, with `tokens` tokens in total, `resumed` were already
    captured by an interrupted run and `cut` were truncated; `skipped` more were left out as too long. `sinks` are the tokens
    left out as attention sinks. `clusters` are concepts with similar or opposite directions.
    """

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
    sinks: SinksLeftOut


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
    """Train a readout and write it to a new folder.

    Activations are kept in `OUT.partial` until the end, so the same call resumes an interrupted one.

    Args:
        pairs: File of labelled texts.
        model: Revision, vector (on its base) or folder; None for the current `persona.toml` of `repo`.
        cwd: Folder that a relative `model` starts from.
        layers: Layers, as in `readout.layers`, or "auto" for the best layer of each concept.
        aggregator: How texts become a direction: a module of `readout.aggregators`.
        pooling: Tokens to average over: "mean", "last" or "assistant".
        concepts: Concepts to train; by default all in the file.
        dtype: Data type to run in; by default as stored.
        batch_size: Number of texts per batch.
        blocks: Where the list of blocks is in the model, such as "model.layers".
        components: Number of neutral components that "whitened" removes.
        too_long: What to do with texts longer than the model's context: "error", "cut" or "skip".
        replace: Replace an existing readout.

    Raises:
        UsageError: an argument, the file of pairs or a text in it is invalid.
        Refusal: `out` exists, a concept has no direction, or an activation is not finite.
        Locked: another process captures into `OUT.partial`.
    """
    from persona.inference.blocks import find_blocks

    target, run = Path(out), RunOptions(Path(cwd), dtype, device, blocks, batch_size, progress)
    how, fitting = CaptureOptions(pooling, batch_size, too_long), FitOptions(aggregator, seed, components)
    _check(target, layers, how, fitting, replace)
    source = Path(pairs)
    labels = labels_of(read_pairs(source), concepts, str(source))
    loaded = run.load(repo, model)
    loaded.need_tokenizer()
    model_blocks = find_blocks(loaded.model, blocks)
    chosen = model_blocks.checked(parse_layers(layers, len(model_blocks)))
    with captured(loaded, model_blocks, chosen, labels, how, folder_of(target), progress) as data:
        trained = train(data, fitting, progress, auto=layers.strip() == AUTO)
        sinks = at_layers(data.sinks, chosen, trained.layers)
        about = {**_about(loaded, model_blocks, how, fitting, trained, source), "sinks": sinks.manifest()}
        names = tuple(concept.concept for concept in trained.concepts)
        write_readout(target, Readout(names, trained.layers, trained.vectors, about), replace=replace)
    finish(folder_of(target))
    return ReadoutTrainResult(
        target, loaded.label, loaded.base, loaded.revision, aggregator, pooling, len(model_blocks), trained.layers,
        len(data.places), data.tokens, data.resumed, data.cut, data.skipped, trained.concepts, trained.clusters,
        sinks,
    )  # fmt: skip


def _check(out: Path, layers: str, how: CaptureOptions, fitting: FitOptions, replace: bool) -> None:
    """Check everything that can be wrong before reading files."""
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (replace and is_readout(out))):
        raise Refusal(f"{out} already exists", "Choose another name. Nothing was changed.")
    check_layers(layers)
    for value, known, what in ((how.pooling, POOLINGS, "pooling"), (how.too_long, TOO_LONG, "value of too_long")):
        if value not in known:
            raise UsageError(f"unknown {what} '{value}'", did_you_mean(value, known))
    if how.batch_size < 1 or (fitting.components is not None and fitting.components < 0):
        raise UsageError("batch_size must be at least 1, and components at least 0", "Give larger numbers.")
    check_ready(fitting.aggregator)


def _about(
    loaded: LoadedModel, blocks: Blocks, how: CaptureOptions, fitting: FitOptions, trained: FittedReadout, source: Path
) -> dict[str, Any]:
    """The manifest without concepts and layers."""
    components = {"components": fitting.components} if fitting.components is not None else {}
    return {
        "site": SITE, "pooling": how.pooling, "aggregator": fitting.aggregator, **components, "normalisation": "unit",
        **trained.fields, "seed": fitting.seed, "hidden": blocks.hidden, "blocks": len(blocks), "base": loaded.base,
        "revision": loaded.revision, "model": loaded.label, "dtype": loaded.dtype,
        "source": {"file": source.name, "digest": file_digest([read_bytes(source)])},
    }  # fmt: skip
