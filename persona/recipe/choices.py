"""What a recipe chooses for the files beside the weights: the tables ``[files]`` and ``[config]`` of ``persona.toml``.

    [files]                            # whose files a build has: a vector's name, or "base"
    tokenizer = "listening"
    chat_template = "voice"
    tokens = "union"                   # the added tokens of all vectors

    [config]
    from = "listening"                 # whose setting counts where vectors differ
    max_position_embeddings = 512      # a setting of config.json
    generation_config.top_p = 0.9      # a setting of generation_config.json

A choice among files that names a vector which does not act (alpha 0, or negative) has no effect.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from persona.checkpoints.groups import GROUPS
from persona.checkpoints.settings import CONFIG, FOLLOWING, GENERATION
from persona.errors import did_you_mean
from persona.settings import Choice, Table
from persona.store.fields import one_of, rows, shown, table, text, texts

FILES, SETTINGS = "files", "config"
"""Names of the tables."""

FROM = "from"
BASE = "base"
TOKENS, UNION = "tokens", "union"
"""``tokens = "union"``: the added tokens of all vectors."""
OF_GENERATION = "generation_config"
"""Key of ``[config]`` below which settings of generation_config.json are."""

Path = tuple[str, ...]


@dataclass(frozen=True)
class Choices:
    """What a recipe chooses for the files beside the weights.

    ``files`` maps groups of files to a vector or "base", and "tokens" to "union"; ``settings_from`` is a vector or "base"; ``settings`` are
    values by the keys that lead to them in ``[config]``.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    settings_from: str | None = None
    settings: tuple[tuple[Path, Any], ...] = ()

    def __bool__(self) -> bool:
        """Whether anything is chosen."""
        return bool(self.files or self.settings_from or self.settings)

    def of_file(self, file: str) -> tuple[tuple[Path, Any], ...]:
        """The chosen settings of one configuration file."""
        own = {CONFIG: (), GENERATION: (OF_GENERATION,)}[file]
        others = () if own else (OF_GENERATION,)
        return tuple(
            (path[len(own) :], value)
            for path, value in self.settings
            if path[: len(own)] == own and not (others and path[:1] == others)
        )

    def without(self, vector: str) -> Choices:
        """The choices without those that name a vector."""
        files = {group: name for group, name in self.files.items() if group == TOKENS or name != vector}
        return replace(self, files=files, settings_from=None if self.settings_from == vector else self.settings_from)

    def only(self, vectors: Collection[str]) -> Choices:
        """The choices without those that name any other vector than these."""
        named = (*(name for group, name in self.files.items() if group != TOKENS), self.settings_from)
        gone = {name for name in named if name not in (None, BASE, *vectors)}
        kept = self
        for name in gone:
            kept = kept.without(str(name))
        return kept

    def slots(self) -> dict[Path, Any]:
        """Every choice by its full key in ``persona.toml``."""
        slots: dict[Path, Any] = {(FILES, group): name for group, name in self.files.items()}
        if self.settings_from is not None:
            slots[SETTINGS, FROM] = self.settings_from
        return slots | {(SETTINGS, *path): value for path, value in self.settings}

    @classmethod
    def of_slots(cls, slots: Mapping[Path, Any]) -> Choices:
        """Make choices from the result of :meth:`slots`; other keys are ignored."""
        own = {path: value for path, value in slots.items() if path[0] in (FILES, SETTINGS)}
        settings_from = own.pop((SETTINGS, FROM), None)
        settings = sorted((path[1:], value) for path, value in own.items() if path[0] == SETTINGS)
        files = {path[1]: value for path, value in sorted(own.items()) if path[0] == FILES}
        return cls(files, settings_from, tuple(settings))

    def encode(self) -> dict[str, Any]:
        """The fields that a stored recipe has for them; none if nothing is chosen, so that older recipes keep their ids."""
        settings: dict[str, Any] = {"from": self.settings_from} if self.settings_from else {}
        if self.settings:
            settings |= {"set": [[list(path), value] for path, value in self.settings]}
        return ({FILES: dict(self.files)} if self.files else {}) | ({SETTINGS: settings} if settings else {})

    @classmethod
    def decode(cls, fields: Mapping[str, Any]) -> Choices:
        """Read the fields of a stored recipe; ValueError if they are no choices."""
        settings = table(fields.get(SETTINGS, {}), SETTINGS)
        files = table(fields.get(FILES, {}), FILES).items()
        pairs = tuple(_decoded(rows(item, "a setting", 2)) for item in rows(settings.get("set", []), "set"))
        chosen = {one_of(group, _CHOSEN, "a group of files"): text(name, group) for group, name in files}
        return cls(chosen, text(settings["from"], "from") if "from" in settings else None, pairs)


_CHOSEN = frozenset((*GROUPS, TOKENS))


def _decoded(pair: list[Any]) -> tuple[Path, Any]:
    """A setting in a stored recipe: the keys that lead to it, and its value."""
    path, value = texts(pair[0], "the keys of a setting"), pair[1]
    if not path or path == (OF_GENERATION,) or not FOLLOWING.isdisjoint(path) or not _is_plain(value):
        raise ValueError(f"{'.'.join(path)} = {shown(value)} is not a setting")
    return path, value


def parse_choices(files: Table, settings: Table, vectors: Collection[str]) -> Choices:
    """Read the two tables.

    Raises:
        PersonaError: a key is unknown, a vector is not in the recipe, or a value cannot be a setting.
    """
    files.allow((*GROUPS, TOKENS))
    chosen = {group: _vector(files, group, vectors) for group in sorted(files.values) if group != TOKENS}
    if TOKENS in files:
        chosen[TOKENS] = files.get(TOKENS, Choice(UNION, (UNION,), "Leave the line out, or choose a tokenizer."))
    settings_from = _vector(settings, FROM, vectors) if FROM in settings else None
    values = {key: value for key, value in settings.values.items() if key != FROM}
    return Choices(chosen, settings_from, tuple(sorted(_leaves(settings, values, ()))))


def _vector(table: Table, key: str, vectors: Collection[str]) -> str:
    name = table.text(key, "", wanted='the name of a vector, or "base"', empty=False)
    if name != BASE and name not in vectors:
        hint = did_you_mean(name, [*vectors, BASE]) or f"Vectors of this recipe: {', '.join(vectors) or 'none'}."
        raise table.error(key, f"no vector '{name}'", hint)
    return name


def _leaves(table: Table, values: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, Any]]:
    """Every setting by the keys that lead to it, below ``path``."""
    for key, value in values.items():
        here = (*path, key)
        if key in FOLLOWING:
            raise table.error(".".join(here), "a build sets this from its weights", "Remove the line.")
        if isinstance(value, Mapping):
            yield from _leaves(table, value, here)
        elif _is_plain(value) and here != (OF_GENERATION,):
            yield here, value
        else:
            raise table.error(
                ".".join(here),
                f"{value} cannot be a setting",
                "Use a string, a finite number, true or false, or a list of these.",
            )


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    if isinstance(value, float):
        return abs(value) < float("inf")  # also false for NaN
    return isinstance(value, str | bool) or (isinstance(value, int) and abs(value) < 1 << 63)
