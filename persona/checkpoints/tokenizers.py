"""What the files of a tokenizer and a processor mean, whichever version of a library wrote them.

A meaning is a table of aspects ("vocabulary", "eos_token"). Settings that a run's library no longer writes count as
those of the base, and habits of trainers (padding side, maximum length, …) do not count.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from persona.ids import blob_id

Files = Mapping[str, bytes]
Meaning = dict[str, Any]

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENS_MAP = "special_tokens_map.json"
ADDED_TOKENS = "added_tokens.json"
PROCESSOR_CONFIG = "processor_config.json"

SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The tokens with a role; a role that a run's files do not give is one that its tokenizer does not have."""

_HABITS = frozenset(
    {
        "model_max_length", "padding_side", "truncation_side", "padding", "truncation", "max_length", "stride",
        "pad_to_multiple_of", "pad_token_type_id", "truncation_strategy", "name_or_path", "tokenizer_class",
        "backend", "is_local", "local_files_only", "processor_class", "clean_up_tokenization_spaces", "use_fast",
        "special_tokens_map_file", "tokenizer_file", "vocab_file", "merges_file", "auto_map", "chat_template",
        "transformers_version", "added_tokens_decoder", "additional_special_tokens", "extra_special_tokens",
    }
)  # fmt: skip
"""Keys of ``tokenizer_config.json`` that trainers set for their own use, or that repeat what other files say."""

_PROCESSOR_HABITS = frozenset(
    {
        "processor_class", "image_processor_type", "feature_extractor_type", "video_processor_type", "auto_map",
        "transformers_version", "chat_template", "use_fast", "return_tensors", "device", "data_format",
        "input_data_format", "image_processor_class", "disable_grouping",
    }
)  # fmt: skip


def table_of(data: bytes | None) -> dict[str, Any]:
    """Parse a JSON object; empty if there is none."""
    try:
        value = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def is_vocabulary(name: str) -> bool:
    """Whether a tokenizer's file has the vocabulary, and not just settings."""
    return name not in (TOKENIZER_CONFIG, TOKENS_MAP, ADDED_TOKENS)


def tokenizer_meaning(files: Files, base: Files) -> Meaning:
    """The meaning of a tokenizer's files, of a run on a base with the files ``base``."""
    meaning = _vocabulary(files, base)
    own, theirs = table_of(files.get(TOKENIZER_CONFIG)), table_of(base.get(TOKENIZER_CONFIG))
    kept = {key: value for key, value in theirs.items() if key not in own and key not in SPECIAL}
    config = {**kept, **own}
    meaning |= {key: value for key, value in config.items() if key not in _HABITS and key not in SPECIAL}
    tokens = _roles(files)
    meaning |= {role: _text(tokens.get(role)) for role in SPECIAL}
    return {aspect: value for aspect, value in meaning.items() if value is not None}


def _roles(files: Files) -> dict[str, Any]:
    """Tokens by role; as in transformers, the old map of special tokens counts if no added tokens are listed."""
    config, old = table_of(files.get(TOKENIZER_CONFIG)), table_of(files.get(TOKENS_MAP))
    return {**old, **config} if "added_tokens_decoder" in config else {**config, **old}


def _text(token: Any) -> Any:
    """A token that may be written as text or as a table."""
    return token.get("content") if isinstance(token, Mapping) else token


def _vocabulary(files: Files, base: Files) -> Meaning:
    if TOKENIZER in files:
        return _of_json(files[TOKENIZER])
    plain = {name: data for name, data in files.items() if is_vocabulary(name)}
    added = _added(files)
    if plain and TOKENIZER in base and all(base.get(name) == data for name, data in plain.items()):
        meaning = _of_json(base[TOKENIZER])  # saved by a slow tokenizer, which does not write tokenizer.json
        new = [token for token in added if token[:2] not in {known[:2] for known in meaning.get("added tokens", ())}]
        return meaning | ({"more tokens": new} if new else {})
    return {"vocabulary": {name: blob_id(data) for name, data in plain.items()}, "added tokens": added or None}


def _added(files: Files) -> list[tuple[Any, Any]]:
    """Tokens that a slow tokenizer added: (id, content), by id."""
    tokens = {str(token): number for token, number in table_of(files.get(ADDED_TOKENS)).items()}
    listed = table_of(files.get(TOKENIZER_CONFIG)).get("added_tokens_decoder")
    if isinstance(listed, Mapping):
        tokens |= {str(_text(token)): int(number) for number, token in listed.items() if str(number).isdigit()}
    return sorted(((number, token) for token, number in tokens.items()), key=str)


def _of_json(data: bytes) -> Meaning:
    """The meaning of ``tokenizer.json``: all of it but truncation, padding and version."""
    try:
        table = json.loads(data)
        added = [(t.get("id"), t.get("content"), _flags(t)) for t in table.get("added_tokens") or []]
        model = _plain(table.get("model") or {})
        model["merges"] = [" ".join(m) if isinstance(m, list) else m for m in model.get("merges") or []]
        parts = {part: _plain(table.get(part)) for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder")}
    except (ValueError, AttributeError, TypeError, RecursionError):
        return {"vocabulary": blob_id(data)}
    meaning: Meaning = {"added tokens": added, "vocabulary": model, **parts}
    return {aspect: value for aspect, value in meaning.items() if value}


def _flags(token: Mapping[str, Any]) -> tuple[bool, ...]:
    return tuple(bool(token.get(flag)) for flag in ("special", "lstrip", "rstrip", "single_word", "normalized"))


def _plain(value: Any) -> Any:
    """A part of ``tokenizer.json`` without what is the default, as versions of the library differ in writing it."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "vocab" in value:  # large, and without defaults inside
        return {key: item for key, item in value.items() if item not in (None, False, "")}
    table = {key: _plain(item) for key, item in value.items() if item not in (None, False, "", [], {})}
    if table.get("type") == "Metaspace":
        prefix = table.pop("add_prefix_space", None)
        table.setdefault("prepend_scheme", "always" if prefix else "never")
        table.pop("str_rep", None)
    for key in ("use_regex", "split"):
        if table.get(key) is True:
            del table[key]
    return table


def processor_meaning(files: Files, base: Files) -> Meaning:
    """The meaning of a processor's files: by part (image, video, audio), whether in files of their own or in one."""
    own, theirs = _parts(files), _parts(base)
    meaning: Meaning = {}
    for part, settings in own.items():
        merged = {**theirs.get(part, {}), **settings}
        meaning |= {
            f"{part}.{key}": value
            for key, value in merged.items()
            if key not in _PROCESSOR_HABITS and value is not None and not key.startswith("_")
        }
    return meaning


def has_parts(files: Files) -> bool:
    """Whether a processor's files are complete: they do not just refer to files of its parts."""
    return any(part != "processor" for part in _parts(files))


def _parts(files: Files) -> dict[str, dict[str, Any]]:
    parts: dict[str, dict[str, Any]] = {}
    for part, table in _tables(files):
        parts.setdefault(part, {}).update(table)
    return parts


def _tables(files: Files) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, data in sorted(files.items(), key=lambda item: item[0] == PROCESSOR_CONFIG):
        table = table_of(data)
        if name == "preprocessor_config.json":
            yield ("feature_extractor" if "feature_extractor_type" in table else "image_processor"), table
        elif name != PROCESSOR_CONFIG:
            yield name.removesuffix("preprocessor_config.json") + "processor", table
        else:
            yield "processor", {key: value for key, value in table.items() if not isinstance(value, dict)}
            yield from ((key, value) for key, value in table.items() if isinstance(value, dict))
