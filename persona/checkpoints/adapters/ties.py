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

from typing import TypeVar

from persona.checkpoints.adapters.collector import AdapterChanges
from persona.checkpoints.adapters.config import AdapterConfig
from persona.checkpoints.adapters.keys import same
from persona.checkpoints.adapters.model import Adapter, BaseView, LowRank, MadeDense, matrix
from persona.checkpoints.tensorfile import TensorFile
from persona.errors import CheckpointError

Thing = TypeVar("Thing")
TOKENS = "trainable_token_indices"
UNTIE = (
    "Save the base with tie_word_embeddings=false and a copy of the embedding as its own output embedding, use that "
    "as the base, and the adapter means there what it meant in training. Or train it with ensure_weight_tying=True."
)


def settle(file: TensorFile, config: AdapterConfig, base: BaseView, found: AdapterChanges) -> Adapter:
    """The adapter, with every tied name either folded into the tensor that it shares or untied."""
    untied = set()
    for alias, name in sorted(base.tied.items()):
        if not _folded(file, found, alias, name) and _untied(file, config, base, found, alias, name):
            untied.add(alias)
    low_rank, full, made = _sorted(found.low_rank), _sorted(found.full), _sorted(found.made)
    return Adapter(file, config.raw, low_rank, full, made, frozenset(untied))


def _sorted(table: dict[str, Thing]) -> dict[str, Thing]:
    return dict(sorted(table.items()))


def _folded(file: TensorFile, found: AdapterChanges, alias: str, name: str) -> bool:
    """Drop what is said of the alias if it is said of the shared tensor too; whether there is nothing left to do."""
    if alias in found.full and name in found.full and same(file, found.full[alias], found.full[name]):
        del found.full[alias]
        return True
    one, other = found.low_rank.get(alias), found.low_rank.get(name)
    if one and other and _equal(file, one, other):
        del found.low_rank[alias]
        return True
    return not _kind(found, alias) and not _kind(found, name)


def _equal(file: TensorFile, one: LowRank, other: LowRank) -> bool:
    pairs = ((one.left, other.left), (one.right, other.right))
    factors = ((matrix(file, a), matrix(file, b)) for a, b in pairs)
    return one.scale == other.scale and all(a.shape == b.shape and bool((a == b).all()) for a, b in factors)


def _kind(found: AdapterChanges, name: str) -> str:
    """How a name changes: '', 'full', 'tokens' or 'added'."""
    if name in found.full:
        return "full"
    made = found.made.get(name)
    if made is not None and made.how == TOKENS:
        return "tokens"
    return "added" if made is not None or name in found.low_rank else ""


def _untied(
    file: TensorFile, config: AdapterConfig, base: BaseView, found: AdapterChanges, alias: str, name: str
) -> bool:
    """Whether the alias has weights of its own from here on; CheckpointError where that cannot be told."""
    kinds = (_kind(found, alias), _kind(found, name))
    if kinds in {("full", ""), ("full", "full"), ("full", "added")}:
        return True
    if kinds == ("", "tokens") or (not kinds[0] and config.headless):
        return False
    if kinds != ("", "full"):
        raise _unclear(file, alias, name)
    if name not in found.saved:
        return False
    if found.full[name].shape != base.names[name][1]:
        raise _unclear(file, alias, name)
    found.made[alias] = MadeDense(alias, *base.names[name], "untied", lambda: base.bits(name))
    return True


def _unclear(file: TensorFile, alias: str, name: str) -> CheckpointError:
    return CheckpointError(
        f"{file.path}: the base ties '{alias}' to '{name}', and the adapter does not change both alike; a loaded "
        "adapter and a merged one are then two different models",
        UNTIE,
    )
