"""The settings of a build: the base's, with those that vectors changed and those that the recipe chooses.

Where vectors set a key differently, the recipe has to choose, unless the key is minor (a default of sampling): then
the base's value stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from persona.building.acting import Active
from persona.checkpoints import settings
from persona.errors import Refusal
from persona.recipe.choices import BASE, FROM, OF_GENERATION, SETTINGS, Choices

Path = tuple[str, ...]


@dataclass(frozen=True)
class _Change:
    """A setting that a vector changed in a file."""

    vector: str
    file: str
    path: Path
    value: Any

    def clashes(self, other: _Change) -> bool:
        """Whether both cannot be in one file."""
        if self.file != other.file or self.vector == other.vector:
            return False
        shorter = min(len(self.path), len(other.path))
        same = self.path == other.path and self.value == other.value
        return self.path[:shorter] == other.path[:shorter] and not same


@dataclass
class Patches:
    """Changed settings by file, and the keys on which vectors differ and that stay as the base has them."""

    by_file: dict[str, settings.Patch] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


def patches(bringing: Sequence[Active], choices: Choices) -> Patches:
    """Collect the settings that vectors change and the recipe chooses.

    Raises:
        Refusal: two vectors set a key differently, and the recipe does not choose.
    """
    changes = [change for active in bringing for change in _changes_of(active)]
    explicit = {(file, path): value for file in settings.CONFIGS for path, value in choices.of_file(file)}
    open_changes = [change for change in changes if not _is_set(change, explicit)]
    found = Patches()
    kept: dict[tuple[str, Path], Any] = {}
    for change in open_changes:
        rival = next((other for other in open_changes if change.clashes(other)), None)
        if rival is None or _prefers(choices, change, bringing):
            kept[change.file, change.path] = change.value
        elif not _is_chosen(choices, bringing):
            if not (settings.is_minor(change.file, change.path) and settings.is_minor(rival.file, rival.path)):
                raise _refusal(change, rival)
            found.left += [change.path[-1]] if change.path[-1] not in found.left else []
    kept |= explicit
    for file in settings.CONFIGS:
        own = tuple((path, value) for (name, path), value in kept.items() if name == file)
        found.by_file |= {file: own} if own else {}
    return found


def check_kinds(file: str, config: Mapping[str, Any], choices: Choices) -> None:
    """Check that the recipe's settings are of the kinds that a configuration has: a number for a number.

    One value may become a list of values (``eos_token_id``), and a list one value.

    Raises:
        Refusal: a setting is of another kind.
    """
    for path, value in choices.of_file(file):
        table: Any = config
        for at, key in enumerate(path, 1):
            old = table.get(key)
            new = value if at == len(path) else {}
            if old is None:
                break
            if _kind(old) != _kind(new) and (
                _LIST not in (_kind(old), _kind(new)) or _TABLE in (_kind(old), _kind(new))
            ):
                name = ".".join(((OF_GENERATION,) if file == settings.GENERATION else ()) + path[:at])
                raise Refusal(
                    f"persona.toml: {SETTINGS}.{name} is {_kind(new)}, but {_kind(old)} in the base's {file}",
                    f"Set it to {_kind(old)}, or remove the line.",
                )
            table = old


_LIST, _TABLE = "a list", "a table"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "a string" if isinstance(value, str) else _LIST if isinstance(value, list) else _TABLE


def _changes_of(active: Active) -> Iterator[_Change]:
    for file, patch in active.vector.config.items():
        for path, value in patch:
            if not settings.is_ignored(path, value):
                yield _Change(active.name, file, path, value)


def _is_set(change: _Change, explicit: dict[tuple[str, Path], Any]) -> bool:
    """Whether the recipe itself sets the key, so that what vectors say does not matter."""
    return any(file == change.file and change.path[: len(path)] == path for file, path in explicit)


def _is_chosen(choices: Choices, bringing: Sequence[Active]) -> bool:
    """Whether the recipe says whose settings count; a vector that does not act has none."""
    return choices.settings_from in (BASE, *(active.name for active in bringing))


def _prefers(choices: Choices, change: _Change, bringing: Sequence[Active]) -> bool:
    return _is_chosen(choices, bringing) and choices.settings_from == change.vector


def _refusal(one: _Change, other: _Change) -> Refusal:
    shorter = one.path[: min(len(one.path), len(other.path))]
    where = (OF_GENERATION, *one.path) if one.file == settings.GENERATION else one.path
    line = f'{FROM} = "{one.vector}"'
    if one.value is not None and not isinstance(one.value, dict):
        line = f"{'.'.join(where)} = {json.dumps(one.value)}, or {line}"
    return Refusal(
        f"vectors '{one.vector}' and '{other.vector}' set {'.'.join(shorter)} in {one.file} differently: "
        f"{_shown(one.value)} and {_shown(other.value)}",
        f"Choose in persona.toml, with a line in the table [{SETTINGS}]: {line}",
    )


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "removed" if value is None else repr(value)
