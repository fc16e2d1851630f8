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

BASE = "base"
_LISTS = ("additional_special_tokens", "extra_special_tokens")
_TOKENS = "added tokens"
_HINT = "A union is only for tokens that were added to one vocabulary. Choose one tokenizer in [files] instead."


@dataclass(frozen=True)
class Union:
    """The tokens of a build.

    ``files`` are those of its tokenizer, ``owner`` is the vector whose tokenizer it is (None for the base), ``first`` the
    first id that no token of the base has. ``ids`` maps each vector's ids to those of the build, None if the build does
    not have the token.
    """

    files: dict[str, bytes]
    owner: str | None
    first: int
    ids: Mapping[str, Mapping[int, int | None]]

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return max([self.first - 1, *(new for own in self.ids.values() for new in own.values() if new is not None)]) + 1

    @property
    def moves(self) -> bool:
        """Whether vectors have different tokens, so that the same row is not always the same token."""
        return len({tuple(own.items()) for own in self.ids.values()}) > 1 or any(
            old != new for own in self.ids.values() for old, new in own.items()
        )


def unite(base: Files, vectors: Mapping[str, Files], owner: str | None) -> Union:
    """Make the union of the tokenizers of ``vectors``, each given by its files.

    Args:
        base: The base's files.
        vectors: Files by vector, in the order in which their tokens get ids.
        owner: The vector, or "base", whose tokenizer counts for everything but the added tokens. By default the one
            that differs there, else the first.

    Raises:
        Refusal: the tokenizers differ in more than added tokens.
    """
    if owner not in (BASE, *vectors):
        owner = _owner(base, vectors)
    chosen = choose(base, vectors, owner)
    own = base if chosen.owner is None else vectors[chosen.owner]
    known = _ids(own, "the chosen tokenizer")
    listed = {entry["content"] for entry in _entries(own)}
    following = chosen.size
    new: dict[int, dict[str, Any]] = {}
    for name, files in vectors.items():
        _check_listed(name, files, {*known, *(entry["content"] for entry in _entries(files))})
        for entry in sorted(_entries(files), key=lambda entry: int(entry["id"])):
            token = entry["content"]
            if token not in known:
                known[token], following = following, following + 1
            if token not in listed:
                listed.add(token)
                new[known[token]] = {**entry, "id": known[token]}
    ids = {name: {old: known[token] for old, token in _added(name, vectors[name], base).items()} for name in vectors}
    others = [files for name, files in vectors.items() if name != chosen.owner]
    return Union(_files(of_group(GROUP, own), new, others), chosen.owner, chosen.first, ids)


def choose(base: Files, vectors: Mapping[str, Files], owner: str) -> Union:
    """Take the tokenizer of one vector, or the base's ("base"), with the tokens that it has.

    Raises:
        Refusal: a tokenizer does not have the base's tokens at their ids.
    """
    own = base if owner == BASE else vectors[owner]
    known = _ids(own, "the chosen tokenizer")
    first = max(_ids(base, "the base").values(), default=-1) + 1
    ids = {
        name: {old: known.get(token) for old, token in _added(name, files, base).items()}
        for name, files in vectors.items()
    }
    return Union(of_group(GROUP, own), None if owner == BASE else owner, first, ids)


def readable(files: Files) -> bool:
    """Whether the tokens can be read from a tokenizer's files."""
    return isinstance(table_of(files.get(TOKENIZER)).get("model"), dict)


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


def _check_listed(name: str, files: Files, listed: set[str]) -> None:
    """Raise if a vector has new tokens in its vocabulary itself, from which they cannot be taken."""
    new = next((token for token in _ids(files, f"vector '{name}'") if token not in listed), None)
    if new is not None:
        raise Refusal(
            f"vector '{name}' changes the vocabulary of the tokenizer ({new!r}), not only its added tokens", _HINT
        )


def _table(files: Files, whose: str) -> dict[str, Any]:
    table = table_of(files.get(TOKENIZER))
    if not isinstance(table.get("model"), dict):
        raise Refusal(f"{whose} has no readable tokenizer.json, which a union of tokens is made from", _HINT)
    return table


def _ids(files: Files, whose: str) -> dict[str, int]:
    """The id of every token."""
    table = _table(files, whose)
    try:
        vocabulary = table["model"].get("vocab") or {}
        if isinstance(vocabulary, list):  # [[token, score], …]
            vocabulary = {item[0]: number for number, item in enumerate(vocabulary)}
        ids = {**vocabulary, **{token["content"]: token["id"] for token in _entries(files)}}
        if all(isinstance(token, str) and isinstance(number, int) for token, number in ids.items()):
            return ids
    except (KeyError, TypeError, IndexError, ValueError, AttributeError):
        pass
    raise Refusal(f"tokenizer.json of {whose} lists its tokens in a way that is not known", _HINT)


def _added(name: str, files: Files, base: Files) -> dict[int, str]:
    """The tokens that a vector has and the base does not, by id."""
    own, known = _ids(files, f"vector '{name}'"), _ids(base, "the base")
    lost = next((token for token, number in known.items() if own.get(token) != number), None)
    if lost is not None:
        raise Refusal(f"the tokenizer of vector '{name}' does not have the base's token {lost!r} at its id", _HINT)
    first = max(known.values(), default=-1) + 1
    new = {number: token for token, number in own.items() if token not in known}
    if sorted(new) != [*range(first, first + len(new))]:
        raise Refusal(f"the ids of the tokens that vector '{name}' added do not follow the base's", _HINT)
    return dict(sorted(new.items()))


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


def moved_setting(value: Any, ids: Mapping[int, int | None]) -> Any:
    """A setting that is the id of a token, or a list of them, in the build's ids; None if it does not have the token."""
    if isinstance(value, list):
        moved = [moved_setting(item, ids) for item in value]
        return [item for item in moved if item is not None] or (None if value else value)
    return ids.get(value, value) if isinstance(value, int) and not isinstance(value, bool) else value


def is_token_setting(path: tuple[str, ...]) -> bool:
    """Whether a setting has ids of tokens."""
    return path[-1].endswith(("token_id", "token_ids", "token_index", "suppress_tokens"))
