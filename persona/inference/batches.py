"""Texts as tokens, in batches of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persona.errors import UsageError
from persona.inference.load import context_length

if TYPE_CHECKING:
    import torch

    from persona.inference.load import LoadedModel


@dataclass(frozen=True)
class Batch:
    """A batch of texts. ``rows`` are their indices in the sequence that was batched.

    ``tokens`` and ``mask`` are int64 [batch, tokens]; the mask is 1 at real tokens and 0 at padding.
    """

    rows: tuple[int, ...]
    tokens: torch.Tensor
    mask: torch.Tensor


def tokens_of(loaded: LoadedModel, texts: Sequence[str]) -> list[list[int]]:
    """Tokenize each text, with the special tokens that the tokenizer adds.

    Raises:
        UsageError: a text has no tokens, or more than the model's context.
    """
    tokenizer = loaded.need_tokenizer()
    encoded: list[list[int]] = tokenizer(list(texts), add_special_tokens=True, truncation=False, verbose=False)[
        "input_ids"
    ]
    limit = longest(loaded.model)
    for row, tokens in enumerate(encoded):
        if not tokens:
            raise UsageError(f"text {row + 1} has no tokens: {texts[row][:40]!r}", "Remove it.")
        if limit is not None and len(tokens) > limit:
            raise UsageError(
                f"text {row + 1} has {len(tokens)} tokens; {loaded.label} reads at most {limit}: {texts[row][:40]!r}…",
                "Shorten or remove it.",
            )
    return encoded


def longest(model: Any) -> int | None:
    """Length of a model's context in tokens; None if its configuration does not say."""
    return context_length(model.config)


def by_length(tokens: Sequence[Sequence[int]]) -> list[int]:
    """The order to run texts in: longest first, so that running out of memory happens early. Ties keep their order."""
    return sorted(range(len(tokens)), key=lambda row: -len(tokens[row]))


def batches(
    tokens: Sequence[Sequence[int]], size: int, *, pad: int = 0, side: str = "right", start: int = 0
) -> Iterator[Batch]:
    """Yield batches of ``size`` texts in the order of :func:`by_length`.

    Args:
        tokens: The tokens of each text.
        size: Number of texts per batch.
        pad: Token id to pad with.
        side: ``left`` or ``right``: where to pad.
        start: Number of texts, in that order, to skip.
    """
    order = by_length(tokens)
    for at in range(start, len(order), size):
        yield collate(tokens, order[at : at + size], pad, side)


def collate(tokens: Sequence[Sequence[int]], rows: Sequence[int], pad: int = 0, side: str = "right") -> Batch:
    """Make a batch of the texts with indices ``rows``, padded to the longest."""
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
    """Position ids int64 [batch, tokens] that count real tokens from 0, so that padding on the left has no effect."""
    return (mask.cumsum(-1) - 1).clamp(min=0)
