"""Tied weights: one tensor in the base, two names in the model (``lm_head`` and ``embed_tokens``).

What PEFT does with them depends on how they were trained (tuners_utils.py, other.py):

    modules_to_save       a separate copy for each listed name, which unties the model unless both copies are equal
                          (``ensure_weight_tying``, resized embeddings)
    trainable tokens      on the embedding: both names change and stay tied
    LoRA on both          with equal factors (``ensure_weight_tying``): the change is made once, as in a loaded
                          adapter (merge_and_unload of PEFT 0.21 adds it to the shared tensor twice)
    LoRA, DoRA, tokens    on one of the two names, or different ones on both: two models, and ``tied`` says which

    untie    each name changes by what the adapter has for it, as in a loaded adapter; the head gets its own weights
    merge    both names change by everything, as merge_and_unload does, which adds to the shared tensor
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from persona.checkpoints.adapters import dense
from persona.checkpoints.adapters.collector import FEWER, AdapterChanges
from persona.checkpoints.adapters.config import AdapterConfig
from persona.checkpoints.adapters.dense import BaseTensor
from persona.checkpoints.adapters.keys import same
from persona.checkpoints.adapters.model import Adapter, BaseView, LowRank, MadeDense, matrix
from persona.checkpoints.tensorfile import TensorFile
from persona.errors import CheckpointError

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32

Value = TypeVar("Value")
TOKENS = "trainable_token_indices"
UNTIE, MERGE = "untie", "merge"
CHOICES = (UNTIE, MERGE)


def settle(
    file: TensorFile, config: AdapterConfig, base: BaseView, changes: AdapterChanges, tied: str | None = None
) -> Adapter:
    """Make an adapter of the changes, with every tied name either merged with its tensor or untied.

    Args:
        tied: What to do if a loaded adapter and a merged one would be different models: ``untie`` or ``merge``.

    Raises:
        CheckpointError: they would be, and ``tied`` is None or impossible.
    """
    untied = set()
    for alias, name in sorted(base.tied.items()):
        if not _folded(file, changes, alias, name) and _untied(_Tie(file, config, base, changes, alias, name), tied):
            untied.add(alias)
    low_rank, full, made = _sorted(changes.low_rank), _sorted(changes.full), _sorted(changes.made)
    return Adapter(file, config.raw, low_rank, full, made, frozenset(untied))


@dataclass(frozen=True)
class _Tie:
    """An adapter's changes at a tied name and at the tensor that it shares."""

    file: TensorFile
    config: AdapterConfig
    base: BaseView
    changes: AdapterChanges
    alias: str
    name: str

    def keep_alias(self) -> None:
        """Give the alias the base's weights."""
        dtype, shape = self.base.names[self.name]
        self.changes.made[self.alias] = MadeDense(self.alias, dtype, shape, "untied", lambda: self.base.bits(self.name))

    def unclear(self, hint: str) -> CheckpointError:
        """The error for a model that is not determined."""
        return CheckpointError(
            f"{self.file.path}: the base ties '{self.alias}' to '{self.name}', but the adapter does not change both in the "
            "same way, so a loaded adapter and a merged one are different models",
            hint,
        )


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
    if alias in changes.made and name in changes.made and _alike(changes.made[alias], changes.made[name]):
        del changes.made[alias]
        return True
    return not _kind(changes, alias) and not _kind(changes, name)


def _equal(file: TensorFile, one: LowRank, other: LowRank) -> bool:
    pairs = ((one.left, other.left), (one.right, other.right))
    factors = ((matrix(file, a), matrix(file, b)) for a, b in pairs)
    return one.scale == other.scale and all(a.shape == b.shape and bool((a == b).all()) for a, b in factors)


def _alike(one: MadeDense, other: MadeDense) -> bool:
    """Whether two computed tensors are equal bit for bit."""
    same_form = (one.dtype, one.shape, one.how) == (other.dtype, other.shape, other.how)
    return same_form and bool((one.compute() == other.compute()).all())


def _kind(changes: AdapterChanges, name: str) -> str:
    """How a name changes: 'full', 'tokens', 'added' or not at all ('')."""
    if name in changes.full:
        return "full"
    made = changes.made.get(name)
    if made is not None and made.how in (TOKENS, FEWER):
        return "tokens" if made.how == TOKENS else "full"
    return "added" if made is not None or name in changes.low_rank else ""


def _untied(tie: _Tie, tied: str | None) -> bool:
    """Whether the alias gets its own weights; CheckpointError if that is unclear."""
    changes, alias, name = tie.changes, tie.alias, tie.name
    kinds = (_kind(changes, alias), _kind(changes, name))
    if kinds in {("full", ""), ("full", "full"), ("full", "added")}:
        return True
    if kinds == ("", "tokens") or (not kinds[0] and tie.config.headless):
        return False
    if kinds == ("", "full"):
        return _saved_alone(tie)
    if tied == UNTIE:
        if not kinds[0]:
            tie.keep_alias()
        return True
    if tied == MERGE:
        return _merged(tie, kinds)
    raise tie.unclear(
        "Choose one: 'persona commit RUN --tied untie' gives the head its own weights, as when PEFT loads the adapter; "
        "'--tied merge' changes both, as PEFT's merge_and_unload does."
    )


def _saved_alone(tie: _Tie) -> bool:
    """A whole embedding without a head: tied if it was saved for its new rows, not if it is in ``modules_to_save``."""
    changes, name = tie.changes, tie.name
    if name not in changes.saved:
        return False
    shape = changes.full[name].shape if name in changes.full else changes.made[name].shape
    if shape != tie.base.names[name][1]:
        raise tie.unclear("Save the head as well: add it to modules_to_save, or train with ensure_weight_tying=True.")
    tie.keep_alias()
    return True


def _merged(tie: _Tie, kinds: tuple[str, str]) -> bool:
    """Move the alias's change to the shared tensor, as merge_and_unload does; True if the alias still has its own weights."""
    changes, alias, name = tie.changes, tie.alias, tie.name
    if kinds == ("", "added"):
        return False
    if kinds == ("added", "full"):  # the saved embedding is a copy, and the head is added to the base's
        return True
    if not kinds[1]:
        if alias in changes.low_rank:
            changes.low_rank[name] = changes.low_rank.pop(alias)
        else:
            changes.made[name] = replace(changes.made.pop(alias), name=name)
        return False
    if alias in changes.low_rank and name in changes.low_rank:
        pairs = (changes.low_rank.pop(name), changes.low_rank.pop(alias))
        dtype, shape = tie.base.names[name]
        origin = dense.of_base(tie.base, name, name, dtype, shape)
        changes.made[name] = dense.made(origin, "LoRA on a tied pair", partial(_both, tie.file, origin, pairs))
        return False
    raise tie.unclear("They cannot be merged: use 'persona commit RUN --tied untie'.")


def _both(file: TensorFile, origin: BaseTensor, pairs: Sequence[LowRank]) -> Float32:
    w = origin.read()
    for pair in pairs:
        w += dense.product(matrix(file, pair.left), matrix(file, pair.right), pair.scale)
    return w
