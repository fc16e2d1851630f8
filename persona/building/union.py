"""``tokens = "union"``: a build with the tokens that several vectors added, each with its own rows.

Vectors that added different tokens have rows for different tokens at the same places. Here their embeddings and heads
are rearranged before anything else: the rows of the base's tokens stay; a new token's row goes to where the union's
tokenizer has the token; and a row that a vector has no token for is the base's (τ = 0). The rest of a build is as if
the vectors had been trained that way.

A new token that several vectors added gets the mean of their rows, weighted by alpha, as for vectors with the same
tokens. Rows beyond the base's are carried; those among the base's unused rows are merged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from persona.building.acting import Active, active_vectors, check_growth, grown
from persona.building.streams import mean
from persona.checkpoints import groups, ties
from persona.checkpoints.dtypes import ARITHMETIC, narrow, widen
from persona.checkpoints.unions import Union, is_token_setting, moved_settings, unite
from persona.errors import Refusal
from persona.ids import BlobId
from persona.recipe import alphas
from persona.recipe.choices import TOKENS
from persona.recipe.model import Recipe
from persona.store.nouns import Base, TensorSpec, Vector
from persona.store.tensors import TensorStore

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Bits

_BIASES = re.compile(r"(.*\.)?(lm_head|embed_out|predictions|decoder|vocab_projector)\.bias")
_ALTERNATIVE = "Choose one tokenizer in [files] instead of the union of tokens, or leave the vector out."


def united(
    recipe: Recipe, base: Base, vectors: Mapping[str, Vector], store: TensorStore
) -> tuple[Recipe, dict[str, Vector]]:
    """Rearrange the vectors of a recipe for the union of their tokens.

    Returns:
        The recipe without the choices that are settled by this, and its vectors by name; what was rearranged is in
        memory, and readable from ``store``.

    Raises:
        Refusal: the tokenizers differ in more than added tokens, or a vector cannot be rearranged.
    """
    active = active_vectors(recipe, base, vectors)
    check_growth(base, active)
    theirs = {name: store.blob(blob) for name, blob in base.files.items() if groups.group_of(name)}
    tokenizers = {a.name: own for a in active if (own := _tokenizer(a, base, theirs, store))}
    if not tokenizers:
        return recipe, dict(vectors)
    union = unite(theirs, tokenizers, recipe.choices.files.get(groups.TOKENIZER))
    rows = _Rows(base, active, union, store)
    rows.check()
    tensors = rows.rearranged()
    done = dict(vectors)
    for a in active:
        files = _files(a.vector, theirs, union, store) if a.name in tokenizers else a.vector.files
        config = _config(a.vector.config, union.ids.get(a.name, {}))
        done[a.name] = replace(a.vector, tensors={**a.vector.tensors, **tensors[a.name]}, files=files, config=config)
    settled = {key: name for key, name in recipe.choices.files.items() if key not in (TOKENS, groups.TOKENIZER)}
    return replace(recipe, choices=replace(recipe.choices, files=settled)), done


def _tokenizer(active: Active, base: Base, theirs: Mapping[str, bytes], store: TensorStore) -> dict[str, bytes]:
    """The files of the tokenizer that a vector brings; empty if it brings none."""
    own = {name: store.blob(BlobId(blob)) for name, blob in active.vector.files.items()}
    rows = grown(base, active.vector)
    useless = rows and not any(active.entry.touches(name) for name in rows)
    if useless or not alphas.adds(active.entry.alpha) or not groups.differs(groups.TOKENIZER, own, theirs):
        return {}
    if active.vector.terms:
        raise Refusal(f"vector '{active.name}' is a sum of others, whose tokens cannot be united", _ALTERNATIVE)
    return groups.effective(groups.TOKENIZER, own, theirs)


def _files(vector: Vector, theirs: Mapping[str, bytes], union: Union, store: TensorStore) -> dict[str, BlobId]:
    """A vector's files with the union's tokenizer, and its own chat template."""
    own = {name: store.blob(BlobId(blob)) for name, blob in vector.files.items()}
    files = {name: data for name, data in own.items() if groups.group_of(name) != groups.TOKENIZER} | union.files
    groups.put_templates(files, own if groups.templates(own) else theirs)
    return {name: store.lend_blob(data) for name, data in files.items()}


def _config(config: Mapping[str, Any], ids: Mapping[int, int]) -> dict[str, Any]:
    """Changed settings with the ids of tokens that moved."""
    return {
        file: tuple((path, moved_settings(value, ids) if is_token_setting(path) else value) for path, value in patch)
        for file, patch in config.items()
    }


@dataclass(frozen=True)
class _Rows:
    """The rows of the vocabulary in every vector that acts."""

    base: Base
    active: Sequence[Active]
    union: Union
    store: TensorStore

    def rearranged(self) -> dict[str, dict[str, TensorSpec]]:
        """The tensors that are rearranged, by vector and name."""
        done: dict[str, dict[str, TensorSpec]] = {a.name: {} for a in self.active}
        for name in self._names():
            holding = [a for a in self.active if name in a.vector.tensors]
            carrier = next((a for a in holding if a.alpha_at(name) > 0), None)
            for a in holding:
                spec = a.vector.tensors[name]
                rows = [self._known_rows(a, name), *(self._new_rows(name, spec) if a is carrier else [])]
                done[a.name][name] = self._lent(spec, rows)
        return done

    def check(self) -> None:
        """Raise if a vector's rows cannot be rearranged."""
        moving = [a for a in self.active if self._moves(a)]
        for a in moving:
            names = [name for name in a.vector.names if self._is_vocabulary(name)]
            fixed = [name for name in names if name not in a.vector.tensors]
            if fixed:
                raise Refusal(
                    f"vector '{a.name}' changes {fixed[0]} by low-rank factors or as a sum, whose rows cannot be moved",
                    _ALTERNATIVE,
                )
            untied = next((head for head in self.base.tied if head in a.vector.tensors), None)
            if untied and any(untied not in other.vector.tensors for other in moving):
                raise Refusal(
                    f"vector '{a.name}' has its own {untied}, which others share with the embedding", _ALTERNATIVE
                )
        for name in self._names():
            dtypes = {a.vector.tensors[name].dtype for a in self.active if name in a.vector.tensors}
            if len(dtypes) > 1 or not dtypes <= ARITHMETIC:
                raise Refusal(
                    f"vectors have {name} in different dtypes ({', '.join(sorted(dtypes))}), and its rows cannot be united",
                    _ALTERNATIVE,
                )

    def _moves(self, a: Active) -> bool:
        """Whether a vector has rows that are not the base's tokens'."""
        return bool(self.union.ids.get(a.name)) or bool(grown(self.base, a.vector))

    def _names(self) -> list[str]:
        names = dict.fromkeys(name for a in self.active for name in a.vector.tensors if self._is_vocabulary(name))
        return list(names)

    def _is_vocabulary(self, name: str) -> bool:
        """Whether a tensor has a row for each token: an embedding, a head, or one that a vector added rows to."""
        before = self.base.spec(name)
        if before is None or before.shape[:1] not in self._sizes:
            return False
        known = ties.is_embedding(name) or ties.is_head(name) or _BIASES.fullmatch(name)
        return bool(known) or any(name in grown(self.base, a.vector) for a in self.active)

    @property
    def _sizes(self) -> set[tuple[int, ...]]:
        """Numbers of rows of the base's embeddings."""
        return {spec.shape[:1] for name, spec in self.base.tensors.items() if ties.is_embedding(name)}

    def _before(self, name: str, dtype: str) -> Bits:
        """The base's tensor, as rows, in another dtype."""
        spec = self.base.spec(name)
        assert spec is not None
        bits = self.store.read(spec.id)
        bits = bits if spec.dtype == dtype else narrow(widen(bits, spec.dtype), dtype)
        return bits.reshape(spec.shape[0], -1)

    def _of(self, a: Active, name: str) -> Bits:
        spec = a.vector.tensors[name]
        return self.store.read(spec.id).reshape(spec.shape[0], -1)

    def _known_rows(self, a: Active, name: str) -> Bits:
        """As many rows as the base has: its tokens', then those of tokens that the union has there."""
        before, own = self._before(name, a.vector.tensors[name].dtype), self._of(a, name)
        rows = own[: len(before)].copy()
        rows[self.union.first :] = before[self.union.first :]
        for number, new in self.union.ids.get(a.name, {}).items():
            if new < len(before) and number < len(own):
                rows[new] = own[number]
        return rows

    def _new_rows(self, name: str, like: TensorSpec) -> list[Bits]:
        """The rows beyond the base's: each the mean over the vectors that have the token."""
        before = self._before(name, like.dtype)
        adding = [(a, self._of(a, name)) for a in self.active if name in a.vector.tensors and a.alpha_at(name) > 0]
        size = max([self.union.size, len(before), *(len(own) for _, own in adding)])
        return [self._row(number, name, like.dtype, before, adding) for number in range(len(before), size)]

    def _row(self, new: int, name: str, dtype: str, before: Bits, adding: Sequence[tuple[Active, Bits]]) -> Bits:
        shares = []
        for a, own in adding:
            number = next((old for old, to in self.union.ids.get(a.name, {}).items() if to == new), None)
            if number is not None:
                shares.append((own[number], a.alpha_at(name)))
        if not shares:  # no token: a row that only makes the number of rows a round one
            shares = [(own[new], 1.0) for _, own in adding if new < len(own)][:1] or [(before[-1], 1.0)]
        if len(shares) == 1:
            row: Bits = shares[0][0].reshape(1, -1)
            return row
        total = sum(alpha for _, alpha in shares)
        return narrow(mean([(widen(row, dtype), alpha / total) for row, alpha in shares]), dtype).reshape(1, -1)

    def _lent(self, like: TensorSpec, rows: list[Bits]) -> TensorSpec:
        import numpy as np

        bits = np.concatenate(rows)
        shape = (len(bits), *like.shape[1:])
        return TensorSpec(self.store.lend_tensor(like.dtype, shape, bits), like.dtype, shape)
