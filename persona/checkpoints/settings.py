"""What a run changed in its settings: ``config.json`` and ``generation_config.json``, key by key.

Keys are compared by meaning. Those that libraries write for their own use, and those that a build sets itself, do not
count; neither does another way to write the same rotary embedding.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

CONFIG, GENERATION = CONFIGS = ("config.json", "generation_config.json")
"""Files whose changed settings are stored with a vector, key by key."""

_QUANTIZED = "quantization_config"
"""A run may remove it, with the quantized weights, but not bring it: its weights are not quantized."""

_VOLATILE = frozenset(
    {
        "_name_or_path", "_commit_hash", "_from_model_config", "_attn_implementation", "_attn_implementation_autoset",
        "_attn_implementation_internal", "_experts_implementation", "attn_implementation", "auto_map",
        "transformers_version", "dtype", "torch_dtype", "use_cache", "vocab_size", "output_attentions",
        "output_hidden_states", "gradient_checkpointing",
    }
)  # fmt: skip
"""Keys without effect on behaviour, and those that a build sets itself (``vocab_size`` from the rows)."""

FOLLOWING = frozenset({"vocab_size", "dtype", "torch_dtype", "tie_word_embeddings", _QUANTIZED})
"""Keys that say how the weights are stored: a build sets them from its own."""

_OF_TOOLS = ("unsloth_", "_unsloth", "llamafactory_", "axolotl_")
"""Beginnings of keys that training tools leave for themselves."""

_ROPE = ("rope_theta", "rope_scaling", "rope_parameters")


def is_volatile(key: str) -> bool:
    """Whether a setting has no effect on a model's behaviour, or is one that a build sets itself."""
    return key in _VOLATILE or key.startswith(_OF_TOOLS)


def is_ignored(path: tuple[str, ...], value: Any) -> bool:
    """Whether a build must not take a setting from a run."""
    return any(map(is_volatile, path)) or (path[-1] == _QUANTIZED and value is not None)


def quantizes(base: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    """Whether a run says that its weights are quantized, and its base does not."""
    return bool(run.get(_QUANTIZED)) and not base.get(_QUANTIZED)


def is_minor(file: str, path: tuple[str, ...]) -> bool:
    """Whether two vectors may set a key differently without being refused: defaults of sampling, and padding."""
    key = path[-1]
    return key == "pad_token_id" or (file == GENERATION and not key.endswith(("token_id", "token_ids", "tokens")))


_MISSING = object()

Patch = tuple[tuple[tuple[str, ...], Any], ...]


def parse(data: bytes | None) -> dict[str, Any]:
    """Parse a JSON object; empty if there is none."""
    try:
        value = json.loads(data or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def config_patch(base: Mapping[str, Any], run: Mapping[str, Any]) -> Patch:
    """The settings of ``run`` that differ from ``base``: (path of keys, new value or None if removed)."""
    if not run:
        return ()
    return tuple(sorted(_differences(base, run, ()), key=lambda change: change[0]))


def _differences(
    base: Mapping[str, Any], run: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    same_rope = _same_rope(base, run)
    for key in sorted({*base, *run}):
        before, after = base.get(key, _MISSING), run.get(key, _MISSING)
        if is_volatile(key) or before == after or (before in (None, _MISSING) and after in (None, _MISSING)):
            continue
        if (same_rope and key in _ROPE) or (key == _QUANTIZED and after not in (None, _MISSING)):
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _differences(before, after, (*path, key))
        else:
            yield (*path, key), None if after is _MISSING else after


def _same_rope(base: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    """Whether two configurations have the same rotary embedding; versions of transformers write it in two ways."""
    ropes = [_rope(table) for table in (base, run)]
    return all(ropes) and ropes[0] == ropes[1]


def _rope(table: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the rotary embedding in the form of ``rope_parameters``; empty if there are none, or two."""
    if not any(table.get(key) for key in _ROPE):
        return {}
    merged: dict[str, Any] = {"rope_theta": table.get("rope_theta")}
    for key in _ROPE[1:]:
        value = table.get(key)
        own = value if isinstance(value, Mapping) else {}
        if any(merged.get(name, item) not in (None, item) for name, item in own.items()):
            return {}  # it depends on the version of transformers which of them counts
        merged |= own
    kind = merged.pop("type", None)
    merged.setdefault("rope_type", kind or "default")
    return {key: value for key, value in merged.items() if value is not None}


def apply_patch(config: dict[str, Any], patch: Patch) -> None:
    """Apply ``patch`` to ``config`` in place."""
    for path, value in patch:
        table = config
        for key in path[:-1]:
            if not isinstance(table.get(key), dict):
                table[key] = {}
            table = table[key]
        if value is None:
            table.pop(path[-1], None)
        else:
            table[path[-1]] = value


def set_tie(config: dict[str, Any], tied: bool) -> None:
    """Set ``tie_word_embeddings`` in a configuration, unless it has the value already."""
    text = config.get("text_config")
    table = text if isinstance(text, dict) and "tie_word_embeddings" in text else config
    if bool(table.get("tie_word_embeddings")) != tied:
        table["tie_word_embeddings"] = tied
