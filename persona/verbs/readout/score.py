"""``persona readout score``: what texts read as, concept by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from persona.errors import UsageError
from persona.progress import SILENT, Progress
from persona.readout.model import Readout
from persona.repository import Repository
from persona.workspace.loading import load_model
from persona.workspace.reading import Table, as_table, readout_named, remarks

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32
    from persona.inference.load import LoadedModel


@dataclass(frozen=True)
class ScoredToken:
    """One token of a text; ``scores`` are [concepts][layers]."""

    token: str
    scores: Table


@dataclass(frozen=True)
class ScoredText:
    """One text, pooled over its tokens; ``scores`` are [concepts][layers]. ``tokens`` are there if they were asked for."""

    text: str
    scores: Table
    tokens: tuple[ScoredToken, ...] = ()


@dataclass(frozen=True)
class ReadoutScore:
    """What texts read as in ``model`` along ``readout``.

    ``units`` are ``std`` (how many standard deviations above what is usual where a concept is not) or ``raw``. ``mean`` and
    ``spread`` (the standard deviation; None of one text) over the texts are [concepts][layers].
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
    """Read ``texts`` with a model: a revision, a vector on its base, a folder, or ``persona.toml`` as it stands (None).

    ``readout`` is the folder of one. ``units`` are ``std`` where its manifest has centers and spreads, unless given.
    """
    from persona.readout.score import in_units, projections, usual_units
    from persona.readout.units import checked_units

    found, name = readout_named(repo, readout, Path(cwd))
    if not texts:
        raise UsageError("there is no text", "Give one, or a file.")
    unit = units or usual_units(found)
    checked_units(unit)
    live = load_model(repo, model, Path(cwd), dtype=dtype, device=device, progress=progress)
    raw = projections(live, found, texts, blocks=blocks, batch_size=batch_size, progress=progress)
    values = in_units(found, raw, unit)
    tokens = [_tokens(live, found, text, unit, blocks) if per_token else () for text in texts]
    return ReadoutScore(
        live.label, name, found.concepts, found.layers, unit,
        as_table(values.mean(0)), as_table(values.std(0, ddof=1)) if len(texts) > 1 else None,
        tuple(map(_scored, texts, values, tokens)), remarks(found, [live]),
    )  # fmt: skip


def _scored(text: str, values: Float32, tokens: tuple[ScoredToken, ...]) -> ScoredText:
    return ScoredText(text, as_table(values), tokens)


def _tokens(live: LoadedModel, readout: Readout, text: str, units: str, blocks: str | None) -> tuple[ScoredToken, ...]:
    from persona.readout.score import by_token, in_units

    words, raw = by_token(live, readout, text, blocks=blocks)
    values = in_units(readout, raw, units)
    return tuple(ScoredToken(word, as_table(one)) for word, one in zip(words, values, strict=True))
