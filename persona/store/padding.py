"""Embeddings with fewer rows than a base that pads them.

Models are often published with more rows than their tokenizer has tokens, and a run that calls
``resize_token_embeddings(len(tokenizer))`` drops the padding. Such a run says nothing about these rows: it gets the base's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from persona.checkpoints import settings
from persona.checkpoints.alignment import Computed
from persona.checkpoints.dtypes import ARITHMETIC, as_bits, narrow, widen
from persona.checkpoints.folder import Checkpoint, TensorSource
from persona.checkpoints.tensorfile import TensorInfo
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
    used, notes = _tokens(base, store), list[str]()
    infos, owner = dict(checkpoint.infos), dict(checkpoint.owner)
    for name, info in checkpoint.infos.items():
        spec = base.tensors.get(name)
        if spec is not None and is_cut(info.shape, spec.shape, tokens) and {info.dtype, spec.dtype} <= ARITHMETIC:
            if info.shape[0] < used:
                raise WrongBase(
                    f"{checkpoint.folder}: {name} has {info.shape[0]} rows but the base's tokenizer has {used} tokens",
                    "Resize to at least the tokenizer's tokens: model.resize_token_embeddings(len(tokenizer)).",
                )
            source = owner[name]
            notes.append(f"lacks {spec.shape[0] - info.shape[0]} of the base's rows in {name}, which stay as they are")
            infos[name] = replace(info, shape=spec.shape, start=0, stop=info.nbytes // info.shape[0] * spec.shape[0])
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
        len(shape) == len(wanted) in (1, 2)
        and 0 < shape[0] < wanted[0]
        and shape[1:] == wanted[1:]
        and wanted[0] in tokens
    )


def vocabularies(config: Mapping[str, Any]) -> Iterator[int]:
    """Every ``vocab_size`` of a configuration and of its parts."""
    for table in (config, *(part for part in config.values() if isinstance(part, Mapping))):
        size = table.get("vocab_size")
        if isinstance(size, int):
            yield size


def _with_tail(source: TensorSource, info: TensorInfo, spec: TensorSpec, store: TensorStore) -> npt.NDArray[np.uint8]:
    """The run's rows, then the base's, in the run's dtype."""
    import numpy as np

    width = spec.entries // spec.shape[0]
    tail = store.read(spec.id)[info.shape[0] * width :]
    if spec.dtype != info.dtype:
        tail = narrow(widen(tail, spec.dtype), info.dtype)
    return np.concatenate([as_bits(source.data(info), info.dtype), tail]).view(np.uint8)
