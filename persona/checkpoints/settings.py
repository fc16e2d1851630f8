"""What a run changed besides its weights: model settings, vocabulary, chat template.

Files are compared by meaning. Trainers rewrite them for reasons that do not affect the model (a new library version,
another padding side); only changes such as a new token or another template count.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

CONFIGS = ("config.json", "generation_config.json")
"""Files whose changed settings are stored with a vector, key by key."""

TEMPLATES = ("chat_template.jinja", "chat_template.json")

_VOLATILE = frozenset(
    {
        "_name_or_path", "_commit_hash", "_from_model_config", "_attn_implementation_autoset",
        "transformers_version", "dtype", "torch_dtype", "use_cache", "vocab_size",
    }
)  # fmt: skip
"""Keys without effect on behaviour, and those that a build sets itself (``vocab_size`` from the rows)."""

_VOCABULARIES = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json",
    "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip
_TOKENIZER = frozenset({*_VOCABULARIES, "tokenizer_config.json", "special_tokens_map.json"})

_MISSING = object()

Patch = tuple[tuple[tuple[str, ...], Any], ...]


def relevant(base: Iterable[str], run: Iterable[str]) -> list[str]:
    """Names of the base's files that a comparison with a run needs."""
    compared = {*CONFIGS, *TEMPLATES, *_TOKENIZER}
    return sorted(compared & set(base)) if compared & set(run) else []


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
    for key in sorted({*base, *run}):
        before, after = base.get(key, _MISSING), run.get(key, _MISSING)
        if key in _VOLATILE or before == after or (before in (None, _MISSING) and after in (None, _MISSING)):
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _differences(before, after, (*path, key))
        else:
            yield (*path, key), None if after is _MISSING else after


def apply_patch(config: dict[str, Any], patch: Patch) -> None:
    """Apply ``patch`` to ``config`` in place."""
    for path, value in patch:
        table = config
        for key in path[:-1]:
            table = table.setdefault(key, {})
        if value is None:
            table.pop(path[-1], None)
        else:
            table[path[-1]] = value


def changed_files(base: Mapping[str, bytes], run: Mapping[str, bytes]) -> list[str]:
    """Names of the tokenizer and template files that a build must copy from the run.

    All of them if the vocabulary differs, only the template's files if just the template differs, otherwise none.
    """
    vocabulary = any(
        name in run and _vocabulary(name, run[name]) != _vocabulary(name, base.get(name)) for name in _VOCABULARIES
    )
    template = chat_template(run)
    changed = sorted(_TOKENIZER & run.keys()) if vocabulary else []
    if template is not None and template != chat_template(base):
        changed += [name for name in (*TEMPLATES, "tokenizer_config.json") if name in run and name not in changed]
    elif vocabulary:
        changed += [name for name in TEMPLATES if name in run]
    return changed


def _vocabulary(name: str, data: bytes | None) -> object:
    """The parts of a tokenizer file that determine tokens, independent of the library version that wrote it."""
    if data is None or name != "tokenizer.json":
        return data
    try:
        table = json.loads(data)
        added = [(t.get("id"), t.get("content"), t.get("special")) for t in table.get("added_tokens") or []]
        model = {key: value for key, value in (table.get("model") or {}).items() if value not in (None, False, "")}
        model["merges"] = [" ".join(m) if isinstance(m, list) else m for m in model.get("merges") or []]
    except (ValueError, AttributeError, TypeError):
        return data
    return added, model, table.get("pre_tokenizer"), table.get("normalizer")


_TOKENIZER_HABITS = frozenset(
    {
        "model_max_length", "padding_side", "truncation_side", "padding", "truncation", "max_length", "stride",
        "pad_to_multiple_of", "pad_token_type_id", "truncation_strategy", "name_or_path", "tokenizer_class",
        "backend", "is_local", "processor_class", "clean_up_tokenization_spaces", "extra_special_tokens",
    }
)  # fmt: skip
"""Keys of ``tokenizer_config.json`` that trainers set for their own use."""


def same_meaning(name: str, one: bytes, other: bytes) -> bool:
    """Whether two tokenizer or template files called ``name`` are equivalent."""
    if one == other:
        return True
    if name == "tokenizer.json":
        return _vocabulary(name, one) == _vocabulary(name, other)
    if name == "tokenizer_config.json":
        tables = [{k: v for k, v in parse(data).items() if k not in _TOKENIZER_HABITS} for data in (one, other)]
        return tables[0] == tables[1]
    return False


def set_tie(config: dict[str, Any], tied: bool) -> None:
    """Set ``tie_word_embeddings`` in a configuration, unless it has the value already."""
    text = config.get("text_config")
    table = text if isinstance(text, dict) and "tie_word_embeddings" in text else config
    if bool(table.get("tie_word_embeddings")) != tied:
        table["tie_word_embeddings"] = tied


def chat_template(files: Mapping[str, bytes]) -> str | None:
    """The chat template, from whichever file the version of transformers wrote it to."""
    if "chat_template.jinja" in files:
        return files["chat_template.jinja"].decode("utf-8", "replace")
    for name in ("chat_template.json", "tokenizer_config.json"):
        try:
            template = json.loads(files.get(name, b"{}")).get("chat_template")
        except (ValueError, AttributeError):
            continue
        if template is not None:
            return template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return None
