"""Tied weights: one tensor in the base, two names in the model (``lm_head`` and ``embed_tokens``).

What PEFT does with them depends on how they were trained (tuners_utils.py, other.py):

    modules_to_save       a copy of its own for each name that is listed: the model is untied from then on, unless
                          both copies are equal (``ensure_weight_tying``, resized embeddings)
    trainable tokens      of the embedding: both names change, they stay tied
    LoRA, DoRA            of one of the two names only: a loaded adapter changes that one, merge_and_unload changes
                          both, since it adds to the tensor that they share. The two are different models: refused
    LoRA of both          with equal factors (``ensure_weight_tying``): the change is made once, as a loaded adapter
                          does. (merge_and_unload of PEFT 0.21 adds it to the shared tensor twice.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from persona.checkpoints.adapters.collect import Found
from persona.checkpoints.adapters.config import Config
from persona.checkpoints.adapters.keys import same
from persona.checkpoints.adapters.model import Adapter, BaseView, LowRank, MadeDense, values
from persona.checkpoints.tensorfile import TensorFile
from persona.errors import CheckpointError

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Bits

TOKENS = "trainable_token_indices"


def settle(file: TensorFile, config: Config, base: BaseView, found: Found) -> Adapter:
    """The adapter, with every tied name either folded into the tensor it shares or untied."""
    untied = set()
    for alias, name in sorted(base.tied.items()):
        if _kind(found, alias) and _kind(found, alias) == _kind(found, name):
            _fold(file, found, alias, name)
        if not _kind(found, name) and not _kind(found, alias):
            continue
        if _settle_pair(file, config, base, found, alias, name):
            untied.add(alias)
    return Adapter(file, config.raw, _sorted(found.low_rank), _sorted(found.full), _sorted(found.made), frozenset(untied))


def _sorted[T](table: dict[str, T]) -> dict[str, T]:
    return dict(sorted(table.items()))


def _kind(found: Found, name: str) -> str:
    """How a name changes: '', 'full', 'tokens' or 'added'."""
    if name in found.full:
        return "full"
    made = found.made.get(name)
    if made is not None and made.how == TOKENS:
        return "tokens"
    return "added" if made is not None or name in found.low_rank else ""


def _fold(file: TensorFile, found: Found, alias: str, name: str) -> None:
    """Drop the alias if it says what the shared tensor's own change says."""
    if alias in found.full and same(file, found.full[alias], found.full[name]):
        del found.full[alias]
    elif alias in found.low_rank and name in found.low_rank:
        if _equal(file, found.low_rank[alias], found.low_rank[name]):
            del found.low_rank[alias]


def _equal(file: TensorFile, one: LowRank, other: LowRank) -> bool:
    ...


def _settle_pair(file: TensorFile, config: Config, base: BaseView, found: Found, alias: str, name: str) -> bool:
    """Whether ``alias`` has weights of its own from here on; CheckpointError where that cannot be told."""
    ours, shared = _kind(found, alias), _kind(found, name)
    if ours == "full" and shared in ("", "full", "added"):
        return True
    ...
