"""Embeddings with fewer rows than a base that pads them.

Models are often published with more rows than their tokenizer has tokens, and a run that calls
``resize_token_embeddings(len(tokenizer))`` drops the padding. Such a run says nothing about these rows: it gets the base's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from persona.checkpoints import settings
from persona.checkpoints.computed import Computed, same_but_rows
from persona.checkpoints.dtypes import ARITHMETIC, as_bits, narrow, widen
from persona.checkpoints.folder import Checkpoint
from persona.checkpoints.tensorfile import TensorInfo, TensorSource
from persona.errors import WrongBase
from persona.ids import BlobId
from persona.store.nouns import Base, TensorSpec
from persona.store.tensors import TensorStore

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def padded(
    checkpoint: Checkpoint, base: Base, config: Mapping[str, Any], store: TensorStore
) -> tuple[Checkpoint, list[str]]:
    """Add the base's last rows to embeddings and heads of a run that has fewer tokens; also returns notes.

    Args:
        config: The base's ``config.json``, for its number of tokens.

    Raises:
        WrongBase: the base's tokenizer has a token whose row the run dropped.
    """
    tokens = set(vocabularies(config))
    cut = {
        name: (info, spec)
        for name, info in checkpoint.infos.items()
        if (spec := base.tensors.get(name)) is not None
        and is_cut(info.shape, spec.shape, tokens)
        and {info.dtype, spec.dtype} <= ARITHMETIC
    }
    if not cut:
        return checkpoint, []
    used, notes = _tokens(base, store), list[str]()
    infos, owner = dict(checkpoint.infos), dict(checkpoint.owner)
    for name, (info, spec) in cut.items():
        rows, wanted = rows_of(info.shape), rows_of(spec.shape)
        if rows < used:
            raise WrongBase(
                f"{checkpoint.folder}: {name} has {rows} rows but the base's tokenizer has {used} tokens",
                "Resize to at least the tokenizer's tokens: model.resize_token_embeddings(len(tokenizer)).",
            )
        source = owner[name]
        notes.append(f"lacks {wanted - rows} of the base's rows in {name}, which stay as they are")
        infos[name] = replace(info, shape=spec.shape, start=0, stop=info.nbytes // rows * wanted)
        owner[name] = Computed(source.path, partial(_with_tail, source, info, spec, store))
    return replace(checkpoint, infos=infos, owner=owner), notes


def _tokens(base: Base, store: TensorStore) -> int:
    """One more than the largest token id of the base's ``tokenizer.json``; 0 if it has none."""
    blob = base.files.get("tokenizer.json")
    table = settings.parse(store.blob(BlobId(blob))) if blob is not None else {}
    model, added = table.get("model"), table.get("added_tokens")
    vocab = model.get("vocab") if isinstance(model, Mapping) else None
    ids = [*vocab.values()] if isinstance(vocab, Mapping) else [*range(len(vocab))] if isinstance(vocab, list) else []
    ids += [token.get("id") for token in added if isinstance(token, Mapping)] if isinstance(added, list) else []
    return max((number for number in ids if isinstance(number, int)), default=-1) + 1


def is_cut(shape: tuple[int, ...], wanted: tuple[int, ...], tokens: set[int]) -> bool:
    """Whether a tensor has fewer rows than the base's, which has one for each token."""
    return (
        shape != wanted
        and same_but_rows(shape, wanted)
        and 0 < rows_of(shape) < rows_of(wanted)
        and rows_of(wanted) in tokens
    )


def rows_of(shape: tuple[int, ...]) -> int:
    """How many tokens a tensor has a row for, or a column, if it has one row (``final_logits_bias``)."""
    return shape[1] if len(shape) == 2 and shape[0] == 1 else shape[0]


def vocabularies(config: Mapping[str, Any]) -> Iterator[int]:
    """Every ``vocab_size`` of a configuration and of its parts."""
    for table in (config, *(part for part in config.values() if isinstance(part, Mapping))):
        size = table.get("vocab_size")
        if isinstance(size, int):
            yield size


def _with_tail(source: TensorSource, info: TensorInfo, spec: TensorSpec, store: TensorStore) -> npt.NDArray[np.uint8]:
    """The run's rows, then the base's, in the run's dtype."""
    import numpy as np

    tail = store.read(spec.id)[math.prod(info.shape) :]
    if spec.dtype != info.dtype:
        tail = narrow(widen(tail, spec.dtype), info.dtype)
    return np.concatenate([as_bits(source.data(info), info.dtype), tail]).view(np.uint8)
