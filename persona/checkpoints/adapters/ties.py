"""Tied weights: one tensor in the base, two names in the model (``lm_head`` and ``embed_tokens``).

What PEFT does with them depends on how they were trained (tuners_utils.py, other.py):

    modules_to_save       a separate copy for each listed name, which unties the model unless both copies are equal
                          (``ensure_weight_tying``, resized embeddings)
    trainable tokens      on the embedding: both names change and stay tied
    LoRA, DoRA            on one of the two names: a loaded adapter changes that one, but merge_and_unload changes
                          both, since it adds to the shared tensor. These are different models, so it is refused
    LoRA on both          with equal factors (``ensure_weight_tying``): the change is made once, as in a loaded
                          adapter (merge_and_unload of PEFT 0.21 adds it to the shared tensor twice)
"""

from __future__ import annotations

from typing import TypeVar

from persona.checkpoints.adapters.collector import AdapterChanges
from persona.checkpoints.adapters.config import AdapterConfig
from persona.checkpoints.adapters.keys import same
from persona.checkpoints.adapters.model import Adapter, BaseView, LowRank, MadeDense, matrix
from persona.checkpoints.tensorfile import TensorFile
from persona.errors import CheckpointError

Value = TypeVar("Value")
TOKENS = "trainable_token_indices"
UNTIE = (
    "Use a base saved with tie_word_embeddings=false and a copy of the embedding as output embedding, where the "
    "adapter has the effect that it had in training. Or train it with ensure_weight_tying=True."
)


def settle(file: TensorFile, config: AdapterConfig, base: BaseView, changes: AdapterChanges) -> Adapter:
    """Make an adapter of the changes, with every tied name either merged with its tensor or untied.

    Raises:
        CheckpointError: a loaded adapter and a merged one would be different models.
    """
    untied = set()
    for alias, name in sorted(base.tied.items()):
        if not _folded(file, changes, alias, name) and _untied(file, config, base, changes, alias, name):
            untied.add(alias)
    low_rank, full, made = _sorted(changes.low_rank), _sorted(changes.full), _sorted(changes.made)
    return Adapter(file, config.raw, low_rank, full, made, frozenset(untied))


def _sorted(table: dict[str, Value]) -> dict[str, Value]:
    return dict(sorted(table.items()))


def _folded(file: TensorFile, changes: AdapterChanges, alias: str, name: str) -> bool:
    """Drop the alias's change if it equals that of the shared tensor; True if nothing remains to be settled."""
    if alias in changes.full and name in changes.full and same(file, changes.full[alias], changes.full[name]):
        del changes.full[alias]
        return True
    one, other = changes.low_rank.get(alias), changes.low_rank.get(name)
    if one and other and _equal(file, one, other):
        del changes.low_rank[alias]
        return True
    return not _kind(changes, alias) and not _kind(changes, name)


def _equal(file: TensorFile, one: LowRank, other: LowRank) -> bool:
    pairs = ((one.left, other.left), (one.right, other.right))
    factors = ((matrix(file, a), matrix(file, b)) for a, b in pairs)
    return one.scale == other.scale and all(a.shape == b.shape and bool((a == b).all()) for a, b in factors)


def _kind(changes: AdapterChanges, name: str) -> str:
    """How a name changes: 'full', 'tokens', 'added' or not at all ('')."""
    if name in changes.full:
        return "full"
    made = changes.made.get(name)
    if made is not None and made.how == TOKENS:
        return "tokens"
    return "added" if made is not None or name in changes.low_rank else ""


def _untied(
    file: TensorFile, config: AdapterConfig, base: BaseView, changes: AdapterChanges, alias: str, name: str
) -> bool:
    """Whether the alias gets its own weights; CheckpointError if that is unclear."""
    kinds = (_kind(changes, alias), _kind(changes, name))
    if kinds in {("full", ""), ("full", "full"), ("full", "added")}:
        return True
    if kinds == ("", "tokens") or (not kinds[0] and config.headless):
        return False
    if kinds != ("", "full"):
        raise _unclear(file, alias, name)
    if name not in changes.saved:
        return False
    if changes.full[name].shape != base.names[name][1]:
        raise _unclear(file, alias, name)
    changes.made[alias] = MadeDense(alias, *base.names[name], "untied", lambda: base.bits(name))
    return True


def _unclear(file: TensorFile, alias: str, name: str) -> CheckpointError:
    return CheckpointError(
        f"{file.path}: the base ties '{alias}' to '{name}', but the adapter does not change both in the same way, so a loaded "
        "adapter and a merged one would be different models",
        UNTIE,
    )
