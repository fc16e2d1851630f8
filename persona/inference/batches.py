"""Texts as tokens, in batches of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persona.errors import UsageError

if TYPE_CHECKING:
    import torch

    from persona.inference.load import LoadedModel


@dataclass(frozen=True)
class Batch:
    """Texts side by side. ``rows`` are their places in the sequence that was batched.

    ``tokens`` and ``mask`` are int64 [batch, tokens]; the mask is 1 at real tokens and 0 at padding, on whichever side.
    """

    rows: tuple[int, ...]
    tokens: torch.Tensor
    mask: torch.Tensor


def tokens_of(live: LoadedModel, texts: Sequence[str]) -> list[list[int]]:
    """Each text in tokens, with the special tokens that the tokenizer puts around a text; raises where one is too long
    for the model, or has no token at all.
    """
    tokenizer = live.need_tokenizer()
    found: list[list[int]] = tokenizer(list(texts), add_special_tokens=True, truncation=False, verbose=False)[
        "input_ids"
    ]
    most = longest(live.model)
    for row, tokens in enumerate(found):
        if not tokens:
            raise UsageError(f"text {row + 1} has no tokens: {texts[row][:40]!r}", "Leave it out.")
        if most is not None and len(tokens) > most:
            raise UsageError(
                f"text {row + 1} has {len(tokens)} tokens, and {live.label} reads {most}: {texts[row][:40]!r}…",
                "Shorten it, or leave it out.",
            )
    return found


def longest(model: Any) -> int | None:
    """Tokens that the model can read at once, where its configuration says so."""
    config = model.config.get_text_config(decoder=True)
    most = getattr(config, "max_position_embeddings", None)
    return int(most) if most else None


def by_length(tokens: Sequence[Sequence[int]]) -> list[int]:
    """The order in which texts are run: longest first, so that memory that does not suffice is found at once; ties in
    their order.
    """
    return sorted(range(len(tokens)), key=lambda row: -len(tokens[row]))


def batches(
    tokens: Sequence[Sequence[int]], size: int, *, pad: int = 0, side: str = "right", start: int = 0
) -> Iterator[Batch]:
    """All texts in the order of :func:`by_length`, ``size`` at a time, from the ``start``-th of that order on."""
    order = by_length(tokens)
    for at in range(start, len(order), size):
        yield collate(tokens, order[at : at + size], pad, side)


def collate(tokens: Sequence[Sequence[int]], rows: Sequence[int], pad: int = 0, side: str = "right") -> Batch:
    """Some of the texts, padded to the longest of them."""
    import torch

    longest = max(len(tokens[row]) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros((len(rows), longest), dtype=torch.int64)
    for at, row in enumerate(rows):
        place = slice(longest - len(tokens[row]), None) if side == "left" else slice(0, len(tokens[row]))
        ids[at, place] = torch.tensor(tokens[row])
        mask[at, place] = 1
    return Batch(tuple(rows), ids, mask)


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Positions that count real tokens from 0, so that padding on the left moves nothing: int64, as ``mask``."""
    return (mask.cumsum(-1) - 1).clamp(min=0)
