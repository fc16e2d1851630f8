"""One tokenizer with the added tokens of several, from their files alone.

The tokenizer of the *owner* stays as it is; the others' tokens that it does not have follow at the next free ids, as the
library that reads ``tokenizer.json`` assigns them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from persona.checkpoints.groups import TOKENIZER as GROUP
from persona.checkpoints.groups import difference, meaning, of_group
from persona.checkpoints.tokenizers import ADDED_TOKENS, TOKENIZER, TOKENIZER_CONFIG, TOKENS_MAP, Files, table_of
from persona.errors import Refusal

_LISTS = ("additional_special_tokens", "extra_special_tokens")
_TOKENS = "added tokens"
_HINT = "A union is only for tokens that were added to one vocabulary. Choose one tokenizer in [files] instead."


@dataclass(frozen=True)
class Union:
    """The files of the tokenizer, the first id that no token of the base has, and each vector's ids → the new ids."""

    files: dict[str, bytes]
    first: int
    ids: Mapping[str, Mapping[int, int]]

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return max([self.first - 1, *(new for own in self.ids.values() for new in own.values())]) + 1


def unite(base: Files, vectors: Mapping[str, Files], owner: str | None) -> Union:
    """Make the union of the tokenizers of ``vectors``, each given by its files.

    Args:
        base: The base's files.
        vectors: Files by vector; the first is the owner unless ``owner`` names another.
        owner: The vector whose tokenizer counts for everything but the added tokens.

    Raises:
        Refusal: the tokenizers differ in more than added tokens.
    """
    if owner is None or owner not in vectors:
        owner = _owner(base, vectors)
    known = _ids(base, "the base")
    first = max(known.values(), default=-1) + 1
    added = {name: _added(name, files, known, first) for name, files in vectors.items()}
    for name, files in vectors.items():
        _check_vocabulary(base, name, files)
    own = added[owner]
    ids = {token: number for number, token in own.items()}
    new: dict[int, dict[str, Any]] = {}
    following = max([first - 1, *own]) + 1
    listed = {entry["content"] for entry in _entries(vectors[owner])}
    for name, tokens in added.items():
        promoted = (entry for entry in _entries(vectors[name]) if entry["content"] in known)
        new |= {entry["id"]: entry for entry in promoted if entry["content"] not in listed and entry["id"] not in new}
        for token in tokens.values():
            if token not in ids:
                ids[token] = following
                new[following] = {**_entry(vectors[name], token), "id": following}
                following += 1
    moved = {name: {number: ids[token] for number, token in tokens.items()} for name, tokens in added.items()}
    files = _files(of_group(GROUP, vectors[owner]), new, [files for name, files in vectors.items() if name != owner])
    return Union(files, first, moved)


def _owner(base: Files, vectors: Mapping[str, Files]) -> str:
    """The vector whose tokenizer differs from the base's in more than added tokens; the first if none does."""
    theirs = _rest(base, base)
    differing = {name: rest for name, files in vectors.items() if (rest := _rest(files, base)) != theirs}
    for name, rest in differing.items():
        for other, another in differing.items():
            if rest != another:
                raise Refusal(
                    f"the tokenizers of '{name}' and '{other}' differ in more than added tokens: {difference(rest, another)}",
                    f'Choose whose counts there: set tokenizer = "{name}" in [files], beside tokens = "union".',
                )
    return next(iter(differing or vectors))


def _rest(files: Files, base: Files) -> dict[str, Any]:
    return {key: value for key, value in meaning(GROUP, files, base).items() if key != _TOKENS}


def _check_vocabulary(base: Files, name: str, files: Files) -> None:
    ours, theirs = meaning(GROUP, files, base), meaning(GROUP, base, base)
    for aspect in ("vocabulary", "pre_tokenizer", "normalizer"):
        if ours.get(aspect) != theirs.get(aspect):
            raise Refusal(f"vector '{name}' changes the {aspect} of the tokenizer, not only its added tokens", _HINT)


def _table(files: Files, whose: str) -> dict[str, Any]:
    table = table_of(files.get(TOKENIZER))
    if not isinstance(table.get("model"), dict):
        raise Refusal(f"{whose} has no readable tokenizer.json, which a union of tokens is made from", _HINT)
    return table


def _ids(files: Files, whose: str) -> dict[str, int]:
    """The id of every token."""
    table = _table(files, whose)
    vocabulary = table["model"].get("vocab") or {}
    if isinstance(vocabulary, list):  # [[token, score], …]
        vocabulary = {item[0]: number for number, item in enumerate(vocabulary)}
    return {**vocabulary, **{token["content"]: token["id"] for token in table.get("added_tokens") or []}}


def _added(name: str, files: Files, known: Mapping[str, int], first: int) -> dict[int, str]:
    """The tokens that a vector has and the base does not, by id."""
    own = _ids(files, f"vector '{name}'")
    lost = next((token for token, number in known.items() if own.get(token) != number), None)
    if lost is not None:
        raise Refusal(f"the tokenizer of vector '{name}' does not have the base's token {lost!r} at its id", _HINT)
    new = {number: token for token, number in own.items() if token not in known}
    if sorted(new) != [*range(first, first + len(new))]:
        raise Refusal(f"the ids of the tokens that vector '{name}' added do not follow the base's", _HINT)
    return dict(sorted(new.items()))


def _entry(files: Files, token: str) -> dict[str, Any]:
    return next(entry for entry in _entries(files) if entry["content"] == token)


def _entries(files: Files) -> list[dict[str, Any]]:
    """The added tokens as ``tokenizer.json`` lists them, base tokens with a special role included."""
    return table_of(files[TOKENIZER]).get("added_tokens") or []


def _files(files: dict[str, bytes], new: Mapping[int, dict[str, Any]], others: Sequence[Files]) -> dict[str, bytes]:
    """The owner's files with the new tokens in every place that lists tokens."""
    done = dict(files)
    table = table_of(files[TOKENIZER])
    table["added_tokens"] = sorted([*_entries(files), *new.values()], key=lambda token: int(token["id"]))
    done[TOKENIZER] = _json(table)
    for name in (TOKENIZER_CONFIG, TOKENS_MAP):
        if name in files:
            config = table_of(files[name])
            _extend_lists(config, [table_of(other.get(name)) for other in others])
            if isinstance(config.get("added_tokens_decoder"), dict):
                config["added_tokens_decoder"] |= {
                    str(number): {key: value for key, value in token.items() if key != "id"}
                    for number, token in new.items()
                }
            done[name] = _json(config)
    if ADDED_TOKENS in files:
        done[ADDED_TOKENS] = _json(table_of(files[ADDED_TOKENS]) | {t["content"]: number for number, t in new.items()})
    return done


def _extend_lists(config: dict[str, Any], others: Sequence[Mapping[str, Any]]) -> None:
    """Add the others' special tokens without a role to the list of them."""
    for key in _LISTS:
        lists = [value for table in (config, *others) if isinstance(value := table.get(key), list)]
        merged: list[Any] = []
        for own in lists:
            merged += [item for item in own if item not in merged]
        if merged and not isinstance(config.get(key), dict):
            config[key] = merged


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def moved_settings(value: Any, ids: Mapping[int, int]) -> Any:
    """A setting that is the id of a token, or a list of them, in the union's ids."""
    if isinstance(value, list):
        return [moved_settings(item, ids) for item in value]
    return ids.get(value, value) if isinstance(value, int) and not isinstance(value, bool) else value


def is_token_setting(path: tuple[str, ...]) -> bool:
    """Whether a setting has ids of tokens."""
    return path[-1].endswith(("token_id", "token_ids", "token_index"))
