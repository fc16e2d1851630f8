"""Leave attention sinks out of what is averaged over tokens.

In most models, attention rests on a few tokens that mean nothing: the first, and sometimes others, such as spaces. In the
residual stream they may be a hundred times as long as the rest, so a mean over all tokens measures the length of a text.
At each layer, a token t of a text with activations h is left out if

    t is the first token of the text, or
    |h_t| > BEYOND · median |h|      over the text's real tokens without the first

Capture, `score`, `watch`, `drift`, the judge of replies and `eval` all choose their tokens here. The manifest of a readout
records that it was made so, in `sinks`; a readout without that field is read as it was made, over all tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from persona.errors import CheckpointError
from persona.readout.model import Readout
from persona.store.readouts import layers_text

if TYPE_CHECKING:
    import torch

BEYOND = 4.0
"""How many times the median length of a text's tokens a token may have.

In SmolLM2-135M (6,300 tokens of prose, code and tables), at layers 10 to 28 all tokens but three are within 2.5 times the median,
and first tokens from layer 11 to 27 are 30 to 190 times as long. At layers 2 to 8 some spaces and code tokens reach 13.
"""

EARLIER = (
    "the readout was made before attention sinks were left out: it averages over the first token of a text too, which in most "
    "models measures little but the text's length. Train it again with 'persona readout train'"
)
T = TypeVar("T")
_FIELD = "sinks"
_AVERAGES = ("mean", "assistant")
_TABLES = ("others", "first_length", "length")
"""Fields by layer."""


@dataclass(frozen=True)
class SinksLeftOut:
    """Attention sinks left out of a readout's training texts.

    `beyond` is the multiple of the median length that a token may have. `first` counts first tokens, and `others` further tokens
    by layer. `first_length` and `length` are the median lengths of a
    first token and of the other tokens at each layer, over the texts. `texts` counts texts that were nothing but sinks, which
    were not used.
    """

    beyond: float
    texts: int
    first: int
    others: tuple[int, ...]
    first_length: tuple[float, ...]
    length: tuple[float, ...]

    def manifest(self) -> dict[str, Any]:
        """The manifest's field."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def ordinary(
    lengths: torch.Tensor, real: torch.Tensor, beyond: float, *, begins: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose the tokens of texts that are no sinks.

    Args:
        lengths: Lengths of the activations at a layer, fp32 [batch, tokens].
        real: True at real tokens, bool [batch, tokens].
        beyond: How many times the median length is too long.
        begins: Whether the first real token is the first of its text.

    Returns:
        True at tokens to keep, bool [batch, tokens]; and the median length of each text's tokens without the first, fp32
        [batch], NaN if there are none. A length that is not finite is kept, so that overflows are not hidden.
    """
    import torch

    others = real & (real.cumsum(1) > 1) if begins else real
    usual = lengths.masked_fill(~others, torch.nan).nanmedian(1).values
    return others & ~((lengths > beyond * usual[:, None]) & lengths.isfinite()), usual


def multiple(readout: Readout) -> float | None:
    """The multiple of the median beyond which the readout leaves tokens out; None if it reads all tokens.

    Raises:
        CheckpointError: the manifest's `sinks` is malformed.
    """
    if _FIELD not in readout.about:
        return None
    return left_out(readout.about, readout.layers).beyond


def left_out(about: Mapping[str, Any], layers: Sequence[int]) -> SinksLeftOut:
    """Read the `sinks` of a manifest; raises CheckpointError if it is malformed."""
    field = about.get(_FIELD)
    try:
        if not isinstance(field, Mapping):
            raise TypeError("not a table")
        others, first_length, length = (tuple(map(_number, field[key])) for key in _TABLES)
        beyond, texts, first = (_number(field[key]) for key in ("beyond", "texts", "first"))
        if any(len(table) != len(layers) for table in (others, first_length, length)) or beyond <= 1:
            raise ValueError("of another size")
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(
            f"'{_FIELD}' in the readout's manifest is not what 'persona readout train' writes",
            "Copy its manifest.json again, or train the readout again.",
        ) from None
    return SinksLeftOut(beyond, int(texts), int(first), tuple(map(int, others)), first_length, length)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e30:
        raise ValueError(value)
    return float(value)


def at_layers(sinks: SinksLeftOut, layers: Sequence[int], chosen: Sequence[int]) -> SinksLeftOut:
    """What was left out at some of the layers."""
    places = [layers.index(layer) for layer in chosen]

    def some(table: tuple[T, ...]) -> tuple[T, ...]:
        return tuple(table[place] for place in places)

    return replace(sinks, others=some(sinks.others), first_length=some(sinks.first_length), length=some(sinks.length))


def selected(field: Any, layers: int, places: Sequence[int]) -> Any:
    """The `sinks` of a manifest for some of its `layers`; other tools may have written anything, which stays as it is."""
    if not isinstance(field, Mapping):
        return field
    return {
        key: [value[place] for place in places] if isinstance(value, list) and len(value) == layers else value
        for key, value in field.items()
    }


def is_earlier(about: Mapping[str, Any]) -> bool:
    """Whether a readout averages over attention sinks: persona wrote its pooling, but no `sinks`."""
    return about.get("pooling") in _AVERAGES and _FIELD not in about


def only_sinks(first: float, usual: float, typical: float, first_typical: float, beyond: float) -> bool:
    """Whether a text is nothing but sinks at a layer, as "the the the" is: all its tokens are as long as its first.

    Args:
        first: Length of the text's first token.
        usual: Median length of its other tokens; NaN if it has none.
        typical: The median of `usual` over texts.
        first_typical: The median of `first` over texts.
    """
    has_sinks = first_typical > beyond * typical
    return math.isnan(usual) or (has_sinks and usual > beyond * typical and first <= beyond * usual)


def in_words(sinks: SinksLeftOut, layers: Sequence[int]) -> str:
    """Say what was left out, and at which layers, in one line."""
    parts = []
    if sinks.first:
        parts.append(f"{sinks.first:,} first token{'s' if sinks.first > 1 else ''}{_how_long(sinks, layers)}")
    where = [layer for layer, count in zip(layers, sinks.others, strict=True) if count]
    if where:
        most = max(sinks.others)
        parts.append(
            f"{'up to ' if len(where) > 1 else ''}{most:,} other{'s' if most > 1 else ''} at {layers_text(where)}"
        )
    if sinks.texts:
        parts.append(f"{sinks.texts:,} text{'s' if sinks.texts > 1 else ''} of nothing else")
    return ", ".join(parts) or "none"


def _how_long(sinks: SinksLeftOut, layers: Sequence[int]) -> str:
    """How long first tokens are, where they are longer than an ordinary token can be."""
    pairs = zip(sinks.first_length, sinks.length, layers, strict=True)
    ratio, layer = max(((first / usual, layer) for first, usual, layer in pairs if usual), default=(0.0, 0))
    return f" ({ratio:,.0f} × as long as the rest at layer {layer})" if ratio > sinks.beyond else ""
