"""Which tensors of a model are one: an output head that shares the embedding's weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_HEADS = re.compile(r"(.*\.)?(lm_head|embed_out|output|decoder|generator_lm_head)\.weight")
_EMBEDDINGS = re.compile(r"(.*\.)?(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|shared)\.weight")


def ties_embeddings(config: Mapping[str, Any]) -> bool:
    """Whether the configuration ties the output head to the input embedding."""
    own = config.get("tie_word_embeddings")
    text = config.get("text_config")
    if own is None and isinstance(text, Mapping):
        own = text.get("tie_word_embeddings")
    return bool(own)


def is_head(name: str) -> bool:
    """Whether ``name`` is the weight of an output head."""
    return _HEADS.fullmatch(name) is not None


def is_embedding(name: str) -> bool:
    """Whether ``name`` is the weight of an input embedding."""
    return _EMBEDDINGS.fullmatch(name) is not None


def tied_names(config: Mapping[str, Any], names: Mapping[str, object]) -> dict[str, str]:
    """Names of tied heads → the embedding's name, whether or not the head was saved; empty if nothing is tied."""
    if not ties_embeddings(config):
        return {}
    embeddings = [name for name in names if _EMBEDDINGS.fullmatch(name)]
    if len(embeddings) != 1:
        return {}
    heads = [name for name in names if _HEADS.fullmatch(name)] or ["lm_head.weight"]
    return dict.fromkeys(heads, embeddings[0])
