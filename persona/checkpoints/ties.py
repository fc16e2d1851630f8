"""Which tensors of a model are one: an output head that shares the embedding's weights, and others.

What is tied depends on the model's class, so it is read from a table of every class in transformers, ``ties.json``
(``docs/tools/ties.py`` makes it), which spares importing transformers. A class that the table does not know, such as one
whose code comes with the checkpoint, is judged by the names of its tensors: an output head and the only embedding.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib import resources
from typing import Any

_HEADS = re.compile(r"(.*\.)?(lm_head|embed_out|output|decoder|generator_lm_head)\.weight")
_EMBEDDINGS = re.compile(r"(.*\.)?(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|shared|embeddings)\.weight")

UNKNOWN = "00101"
"""What a class that the table does not know makes of the setting: what it says, and nothing if it is absent."""


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    """The table: ``classes``, and the names of those that tie nothing in ``untied``.

    A class has, by the part of its config that switches the ties on ("" for the whole), what the part makes of the setting
    (:func:`_is_on`), and the ties, alias → tensor.
    """
    text = resources.files("persona.checkpoints").joinpath("ties.json").read_text()
    table: dict[str, Any] = json.loads(text)
    return table


def ties_embeddings(config: Mapping[str, Any]) -> bool:
    """Whether the configuration ties weights, which some classes do whatever it says."""
    switch, _ = (_known(config) or {}).get("", (UNKNOWN, {}))
    return _is_on(config, switch)


def obeys(config: Mapping[str, Any]) -> bool:
    """Whether the configuration's class ties weights or not as ``tie_word_embeddings`` says."""
    switch, _ = (_known(config) or {}).get("", (UNKNOWN, {}))
    return bool(switch[1:3] == "01")


def is_head(name: str) -> bool:
    """Whether ``name`` is the weight of an output head."""
    return _HEADS.fullmatch(name) is not None


def is_embedding(name: str) -> bool:
    """Whether ``name`` is the weight of an input embedding."""
    return _EMBEDDINGS.fullmatch(name) is not None


def tied_names(config: Mapping[str, Any], names: Mapping[str, object]) -> dict[str, str]:
    """Names that share another tensor → the tensor, for each tensor in ``names`` that is shared.

    Args:
        config: The checkpoint's ``config.json``.
        names: The checkpoint's tensors. An alias is listed whether or not it is among them.
    """
    known = _known(config)
    if known is None:
        return _by_names(config, names) if _is_on(config, UNKNOWN) else {}
    groups: dict[str, list[str]] = {}
    for alias, tensor in _pairs(config, known, names):
        group = groups.get(tensor) or groups.get(alias) or [tensor]
        group += [name for name in (tensor, alias) if name not in group]
        for name in group:
            groups[name] = group
    tied: dict[str, str] = {}
    for group in {id(group): group for group in groups.values()}.values():
        kept = next((name for name in group if name in names), None)
        if kept is not None:
            tied |= {alias: kept for alias in group if alias != kept}
    return tied


def _known(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the table says about a configuration's class; None if the class is not in it."""
    named = config.get("architectures")
    name = named[0] if isinstance(named, list) and named else None
    if not isinstance(name, str) or "auto_map" in config:
        return None
    table = _table()
    found: dict[str, Any] | None = table["classes"].get(name, {} if name in table["untied"] else None)
    return found


def _is_on(config: Mapping[str, Any], switch: str) -> bool:
    """Whether a configuration ties weights.

    Args:
        switch: What its class makes of ``tie_word_embeddings``, 1 if it ties: absent, false, true, and, if it is absent,
            false and true in the part for text.
    """
    own, text = config.get("tie_word_embeddings"), config.get("text_config")
    if own is not None:
        return switch[2 if own else 1] == "1"
    inner = text.get("tie_word_embeddings") if isinstance(text, Mapping) else None
    return switch[0 if inner is None else 4 if inner else 3] == "1"


def _pairs(
    config: Mapping[str, Any], known: Mapping[str, Any], names: Mapping[str, object]
) -> Iterator[tuple[str, str]]:
    """Alias and tensor of each tie that the configuration switches on, under the names of the checkpoint."""
    for part, (switch, ties) in known.items():
        table = config.get(part) if part else config
        if not _is_on(table if isinstance(table, Mapping) else {}, switch):
            continue
        for alias, tensor in ties.items():
            yield from _expanded(alias, tensor, names)


def _expanded(alias: str, tensor: str, names: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """A tie of two names, or of all names that two patterns match, paired in order as transformers does."""
    if re.fullmatch(r"[\w.]+\.(weight|bias)", alias):
        yield _located(alias, names) or alias, _located(tensor, names, renamed=True) or tensor
        return
    ours, theirs = (sorted(n for n in names if re.match(pattern, n)) for pattern in (alias, tensor))
    if theirs and len(ours) % len(theirs) == 0:
        for at, name in enumerate(ours):
            if name != theirs[at % len(theirs)]:
                yield name, theirs[at % len(theirs)]


def _located(name: str, names: Mapping[str, object], *, renamed: bool = False) -> str | None:
    """The checkpoint's name of a model's tensor: the same, or one with more or fewer leading parts.

    Args:
        renamed: The parts may also be others, if only one tensor has the same last two.
    """
    if name in names:
        return name
    parts = name.split(".")
    shorter = (".".join(parts[at:]) for at in range(1, len(parts) - 1))
    if found := next((other for other in shorter if other in names), None):
        return found
    for end in (name, *([".".join(parts[-2:])] if renamed else [])):
        longer = [other for other in names if other.endswith(f".{end}")]
        if len(longer) == 1:
            return longer[0]
    return None


def _by_names(config: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    embeddings = [name for name in names if is_embedding(name)]
    if len(embeddings) != 1:
        return {}
    heads = [name for name in names if is_head(name)] or ["lm_head.weight"]
    return dict.fromkeys(heads, embeddings[0])
