"""`persona readout score`: score texts by concept and layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from persona.errors import UsageError
from persona.progress import SILENT, Progress
from persona.readout.model import Readout
from persona.repository import Repository
from persona.workspace.reading import Table, as_table, readout_named, remarks
from persona.workspace.running import RunOptions

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32
    from persona.inference.load import LoadedModel


@dataclass(frozen=True)
class ScoredToken:
    """A token of a text; `scores` are [concepts][layers].

    `sink` is true at each layer where the token is left out of the text's score as an attention sink.
    """

    token: str
    scores: Table
    sink: tuple[bool, ...] = ()


@dataclass(frozen=True)
class ScoredText:
    """A text; `scores` are [concepts][layers], pooled over its tokens. `tokens` are filled with --per-token.

    Attention sinks are not pooled, unless the readout was made before persona left them out (`notes` says so).
    """

    text: str
    scores: Table
    tokens: tuple[ScoredToken, ...] = ()


@dataclass(frozen=True)
class ReadoutScore:
    """Scores of texts.

    `units` is `std` (standard deviations from the mean of texts without the concept) or `raw`. `mean` and `spread`
    (standard deviation, null for a single text) over the texts are [concepts][layers].
    """

    model: str
    readout: str
    concepts: tuple[str, ...]
    layers: tuple[int, ...]
    units: str
    mean: Table
    spread: Table | None
    texts: tuple[ScoredText, ...]
    notes: tuple[str, ...] = ()


def readout_score(
    repo: Repository | None,
    texts: Sequence[str],
    readout: str | Path | None = None,
    model: str | Path | None = None,
    *,
    per_token: bool = False,
    units: str | None = None,
    cwd: Path | str = ".",
    dtype: str | None = None,
    device: str = "cpu",
    blocks: str | None = None,
    batch_size: int = 8,
    progress: Progress = SILENT,
) -> ReadoutScore:
    """Score texts along a readout.

    Args:
        readout: Name, `NAME@REV` or folder; None for the recipe's only readout.
        model: Revision, vector (on its base) or folder; None for the current `persona.toml`.
        per_token: Also score each token.
        units: "std" or "raw"; by default "std" if the readout's manifest has centers and spreads.
        cwd: Folder that relative paths start from.
        dtype: Data type to run in; by default as stored.
        blocks: Where the list of blocks is in the model, such as "model.layers".
        batch_size: Number of texts per batch.

    Raises:
        UsageError: a name means nothing, the readout does not fit the model, there is no text, or one has no token but
            attention sinks.
    """
    from persona.readout.score import in_units, usual_units
    from persona.readout.units import checked_units

    found, name = readout_named(repo, readout, Path(cwd))
    if not texts:
        raise UsageError("no text given", "Give a text or a file.")
    unit = units or usual_units(found)
    checked_units(unit)
    run = RunOptions(Path(cwd), dtype, device, blocks, batch_size, progress)
    loaded = run.load(repo, model)
    values = in_units(found, run.project(loaded, found, texts), unit)
    tokens = [_tokens(loaded, found, text, unit, blocks) if per_token else () for text in texts]
    return ReadoutScore(
        loaded.label, name, found.concepts, found.layers, unit,
        as_table(values.mean(0)), as_table(values.std(0, ddof=1)) if len(texts) > 1 else None,
        tuple(map(_scored, texts, values, tokens)), remarks(found, [loaded]),
    )  # fmt: skip


def _scored(text: str, values: Float32, tokens: tuple[ScoredToken, ...]) -> ScoredText:
    return ScoredText(text, as_table(values), tokens)


def _tokens(
    loaded: LoadedModel, readout: Readout, text: str, units: str, blocks: str | None
) -> tuple[ScoredToken, ...]:
    from persona.readout.score import by_token, in_units

    words, raw, sink = by_token(loaded, readout, text, blocks=blocks)
    values = in_units(readout, raw, units)
    rows = zip(words, values, sink.tolist(), strict=True)
    return tuple(ScoredToken(word, as_table(scores), tuple(left)) for word, scores, left in rows)
