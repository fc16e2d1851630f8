"""The rows of added tokens, if the recipe chooses the tokenizer or takes the union of all tokens.

Vectors that added different tokens have rows for different tokens at the same places. Here their embeddings and heads
are rearranged before anything else: the rows of the base's tokens stay; an added token's row goes to where the build's
tokenizer has the token, or nowhere if it does not have it; and where a vector does not have the build's token, its row is
the base's (τ = 0). The rest of a build is as if the vectors had been trained that way.

A token that several vectors added gets the mean of their rows, weighted by alpha, as for vectors with the same tokens.
Rows beyond the base's are carried; those among the base's unused rows are merged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from persona.building.acting import Active, active_vectors, check_growth, grown
from persona.building.groups import NEED_ROWS, lacks_its_rows
from persona.building.streams import mean
from persona.checkpoints import groups, ties
from persona.checkpoints.dtypes import ARITHMETIC, BITS, narrow, widen
from persona.checkpoints.unions import Union, choose, is_token_setting, moved_setting, readable, unite
from persona.errors import Refusal
from persona.ids import BlobId
from persona.recipe import alphas
from persona.recipe.choices import BASE, TOKENS
from persona.recipe.model import Recipe
from persona.store.nouns import Base, ConfigPatch, TensorSpec, Vector
from persona.store.padding import rows_of
from persona.store.smallfiles import SmallFiles
from persona.store.tensors import TensorStore

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Bits

_BIASES = re.compile(r"(.*\.)?((lm_head|embed_out|predictions|decoder|vocab_projector)\.bias|final_logits_bias)")
_ALTERNATIVE = "Choose one tokenizer in [files] instead of the union of tokens, or leave the vector out."


def united(
    recipe: Recipe, base: Base, vectors: Mapping[str, Vector], store: TensorStore
) -> tuple[Recipe, dict[str, Vector]]:
    """Rearrange the vectors of a recipe for the tokens that its build has.

    Returns:
        The recipe without the choices that are settled by this, and its vectors by name; what was rearranged is in
        memory, and readable from ``store``.

    Raises:
        Refusal: the tokenizers differ in more than added tokens, or a vector cannot be rearranged.
    """
    active, chosen = active_vectors(recipe, base, vectors), dict(recipe.choices.files)
    check_growth(base, active)
    small = SmallFiles(store)
    theirs = {name: data for name, data in small.of(base.files, "the base").items() if groups.group_of(name)}
    tokenizers = {a.name: own for a in active if (own := _tokenizer(a, base, theirs, small))}
    owner = chosen.get(groups.TOKENIZER)
    if owner in {a.name for a in active if alphas.adds(a.entry.alpha)} and owner not in tokenizers:
        owner = BASE  # it has the base's
    is_union = TOKENS in chosen
    if not tokenizers or not (is_union or owner in (BASE, *tokenizers)):
        return recipe, dict(vectors)
    if not is_union and not all(map(readable, (theirs, *tokenizers.values()))):
        return recipe, dict(vectors)  # nothing is known about their tokens
    union = unite(theirs, tokenizers, owner) if is_union else choose(theirs, tokenizers, str(owner))
    done = dict(vectors)
    if union.moves:
        done |= _rearranged(base, active, union, is_union, store)
    if is_union:
        done |= {name: replace(done[name], files=_files(vectors[name], theirs, union, store)) for name in tokenizers}
        chosen = {key: name for key, name in chosen.items() if key not in (TOKENS, groups.TOKENIZER)}
    return replace(recipe, choices=replace(recipe.choices, files=chosen)), done


def _rearranged(
    base: Base, active: Sequence[Active], union: Union, is_union: bool, store: TensorStore
) -> dict[str, Vector]:
    rows = _Rows(base, active, union, is_union, store)
    rows.check()
    tensors = rows.rearranged()
    done = {}
    for a in active:
        files, config = a.vector.files, _config(a.vector.config, union.ids.get(a.name, {}))
        if lacks_its_rows(a, base):  # without the rows, which are no longer there to show it, they are useless
            files = {name: blob for name, blob in files.items() if groups.group_of(name) not in NEED_ROWS}
        own = {**a.vector.tensors, **tensors[a.name]}
        done[a.name] = replace(a.vector, tensors=own, files=files, config=config)
    return done


def _tokenizer(active: Active, base: Base, theirs: Mapping[str, bytes], small: SmallFiles) -> dict[str, bytes]:
    """The files of the tokenizer that a vector brings; empty if it brings none."""
    own = small.of(active.vector.files, f"vector '{active.name}'")
    if not alphas.adds(active.entry.alpha) or lacks_its_rows(active, base):
        return {}
    if not groups.differs(groups.TOKENIZER, own, theirs):
        return {}
    return groups.effective(groups.TOKENIZER, own, theirs)


def _files(vector: Vector, theirs: Mapping[str, bytes], union: Union, store: TensorStore) -> dict[str, BlobId]:
    """A vector's files with the union's tokenizer, and its own chat template."""
    own = SmallFiles(store).of(vector.files, "a vector")
    files = {name: data for name, data in own.items() if groups.group_of(name) != groups.TOKENIZER} | union.files
    groups.put_templates(files, own if groups.templates(own) else theirs)
    return {name: store.lend_blob(data) for name, data in files.items()}


def _config(config: Mapping[str, ConfigPatch], ids: Mapping[int, int | None]) -> dict[str, ConfigPatch]:
    """Changed settings with the ids of tokens that moved, and without those of tokens that the build does not have."""
    return {file: tuple(_moved(patch, ids)) for file, patch in config.items()}


def _moved(patch: ConfigPatch, ids: Mapping[int, int | None]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for path, value in patch:
        moved = moved_setting(value, ids) if is_token_setting(path) else value
        if moved is not None or value is None:
            yield path, moved


@dataclass(frozen=True)
class _Rows:
    """The rows of the vocabulary in every vector that acts."""

    base: Base
    active: Sequence[Active]
    union: Union
    is_union: bool
    store: TensorStore

    def rearranged(self) -> dict[str, dict[str, TensorSpec]]:
        """The tensors that are rearranged, by vector and name."""
        done: dict[str, dict[str, TensorSpec]] = {a.name: {} for a in self.active}
        for name in self._names():
            holding = [a for a in self.active if name in a.vector.tensors]
            before = self.base.spec(name)
            assert before is not None
            size = self._size(name, rows_of(before.shape))
            carrier = self._carrier(holding, name) if size > rows_of(before.shape) else None
            for a in [*holding, *([carrier] if carrier and carrier not in holding else [])]:
                spec = a.vector.tensors.get(name, before)
                new = self._new_rows(name, spec.dtype, size) if a is carrier else []
                done[a.name][name] = self._lent(spec, [self._known_rows(a, name, spec.dtype), *new])
        return done

    def _size(self, name: str, rows: int) -> int:
        """How many rows a tensor of the build has."""
        padded = [
            rows_of(a.vector.tensors[name].shape)
            for a in self.active
            if name in a.vector.tensors and a.alpha_at(name) > 0 and (self.is_union or a.name == self.union.owner)
        ]
        return max([self.union.size, rows, *padded])

    def _carrier(self, holding: Sequence[Active], name: str) -> Active:
        """The vector whose tensor gets the rows beyond the base's: the widest, so that none is rounded."""
        bringing = [a for a in holding if a.alpha_at(name) > 0]
        if bringing:
            widths = [BITS[a.vector.tensors[name].dtype] for a in bringing]
            return bringing[widths.index(max(widths))]
        for a in self.active:  # no vector changes the tensor, such as the head of runs that trained the embedding only
            alpha = alphas.alpha_at(a.entry.alpha, name, a.depths) or 0.0
            if self.union.ids.get(a.name) and alpha > 0 and a.entry.touches(name) and name not in a.vector.low_rank:
                return a
        raise Refusal(
            f"the vectors that added tokens are kept off {name}, which needs rows for the tokens",
            "Embedding and head must have the same rows: use the same only, except and alpha for both.",
        )

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
                self._check_rows(a, name)
        for name in self._names():
            dtypes = {a.vector.tensors[name].dtype for a in self.active if name in a.vector.tensors}
            if not dtypes <= ARITHMETIC:
                raise Refusal(f"{name} is {sorted(dtypes - ARITHMETIC)[0]}, and its rows cannot be moved", _ALTERNATIVE)

    def _check_rows(self, a: Active, name: str) -> None:
        spec = next((a.vector.tensors[own] for own in self.base.names_of(name) if own in a.vector.tensors), None)
        spec = spec or self.base.spec(name)
        assert spec is not None
        last = max(self.union.ids.get(a.name, {}), default=-1)
        if last >= rows_of(spec.shape):
            raise Refusal(
                f"vector '{a.name}' has a token with the id {last}, but only {rows_of(spec.shape)} rows in {name}",
                "Its run added the token without resize_token_embeddings: leave the vector out, or train it again.",
            )

    def _moves(self, a: Active) -> bool:
        """Whether a vector has rows that are not the base's tokens'."""
        return bool(self.union.ids.get(a.name)) or bool(grown(self.base, a.vector))

    def _names(self) -> list[str]:
        """The tensors with rows for tokens that a vector has or, if the build needs more rows, that the base has."""
        held = dict.fromkeys(name for a in self.active for name in a.vector.tensors if self._is_vocabulary(name))
        gone = {name for a in self.active for name in a.vector.gone}
        for name, spec in self.base.tensors.items():
            if self._is_vocabulary(name) and self.union.size > rows_of(spec.shape) and name not in gone:
                held.setdefault(name)
        return list(held)

    def _is_vocabulary(self, name: str) -> bool:
        """Whether a tensor has a row for each token: an embedding, a head, or one that a vector added rows to."""
        before = self.base.spec(name)
        if before is None or not before.shape or rows_of(before.shape) not in self._sizes:
            return False
        known = ties.is_embedding(name) or ties.is_head(name) or _BIASES.fullmatch(name)
        return bool(known) or any(name in grown(self.base, a.vector) for a in self.active)

    @property
    def _sizes(self) -> set[int]:
        """Numbers of rows of the base's embeddings."""
        return {rows_of(spec.shape) for name, spec in self.base.tensors.items() if ties.is_embedding(name)}

    def _before(self, name: str, dtype: str) -> Bits:
        """The base's tensor, as rows, in another dtype."""
        spec = self.base.spec(name)
        assert spec is not None
        bits = self.store.read(spec.id)
        bits = bits if spec.dtype == dtype else narrow(widen(bits, spec.dtype), dtype)
        return bits.reshape(rows_of(spec.shape), -1)

    def _of(self, a: Active, name: str) -> Bits:
        spec = a.vector.tensors[name]
        return self.store.read(spec.id).reshape(rows_of(spec.shape), -1)

    def _known_rows(self, a: Active, name: str, dtype: str) -> Bits:
        """As many rows as the base has: its tokens', then those of tokens that the union has there."""
        before = self._before(name, dtype)
        if name not in a.vector.tensors:
            return before
        own = self._of(a, name)
        rows = own[: len(before)].copy()
        taken = slice(
            self.union.first, max([self.union.size, *(n + 1 for own in self.union.ids.values() for n in own)])
        )
        rows[taken] = before[taken]
        for number, new in self.union.ids.get(a.name, {}).items():
            if new is not None and new < len(before) and number < len(own):
                rows[new] = own[number]
        return rows

    def _new_rows(self, name: str, dtype: str, size: int) -> list[Bits]:
        """The rows beyond the base's."""
        before = self._before(name, dtype)
        adding = [(a, self._of(a, name)) for a in self.active if name in a.vector.tensors and a.alpha_at(name) > 0]
        return [self._row(number, name, dtype, before, adding) for number in range(len(before), size)]

    def _row(self, new: int, name: str, dtype: str, before: Bits, adding: Sequence[tuple[Active, Bits]]) -> Bits:
        """A row beyond the base's: the mean over the vectors that have the token, in the dtype of its carrier."""
        old = {vector: old for vector, ids in self.union.ids.items() for old, to in ids.items() if to == new}
        rows = [(own[old[a.name]], a) for a, own in adding if a.name in old]
        if not rows:  # a token that its vectors left as the base has it, or none: a row to make the number round
            unused = [before[number] for number in old.values() if number < len(before)]
            padding = [own[new] for a, own in adding if new < len(own) and a.vector.tensors[name].dtype == dtype]
            row: Bits = [*unused, *padding, before[-1]][0].reshape(1, -1)
            return row
        if len(rows) == 1 and rows[0][1].vector.tensors[name].dtype == dtype:
            only: Bits = rows[0][0].reshape(1, -1)
            return only
        total = sum(a.alpha_at(name) for _, a in rows)
        shares = [(widen(row, a.vector.tensors[name].dtype), a.alpha_at(name) / total) for row, a in rows]
        return narrow(mean(shares), dtype).reshape(1, -1)

    def _lent(self, like: TensorSpec, rows: list[Bits]) -> TensorSpec:
        import numpy as np

        bits = np.concatenate(rows)
        shape = (len(bits), *like.shape[1:]) if rows_of(like.shape) == like.shape[0] else (1, len(bits))
        return TensorSpec(self.store.lend_tensor(like.dtype, shape, bits), like.dtype, shape)
