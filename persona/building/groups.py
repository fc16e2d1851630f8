"""Whose tokenizer, chat template, processor and modules a build has: a vector's, or the base's.

A vector with a positive alpha brings the groups of files that it changed in meaning. If several bring one differently,
the recipe has to choose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from persona.building.acting import Active, grown
from persona.checkpoints import groups
from persona.checkpoints.tokenizers import Meaning
from persona.errors import Refusal
from persona.recipe.choices import BASE, FILES, TOKENS, UNION, Choices
from persona.store.nouns import Base
from persona.store.smallfiles import SmallFiles
from persona.store.tensors import TensorStore

NEED_ROWS = (groups.TOKENIZER, groups.TEMPLATE)
"""Groups that may use added tokens."""


@dataclass(frozen=True)
class Brought:
    """A vector that brings a group of files, its own files of the group, and what they mean."""

    vector: str
    files: Mapping[str, bytes]
    meaning: Meaning


def brought(
    bringing: Sequence[Active], base: Base, store: TensorStore, choices: Choices
) -> tuple[dict[str, bytes], dict[str, Brought]]:
    """Find the vector that each group of files comes from; groups without one are the base's.

    Returns:
        The base's files by name, and the groups.

    Raises:
        Refusal: two vectors bring a group differently, and the recipe does not choose.
    """
    small = SmallFiles(store)
    theirs = small.of(base.files, "the base")
    owned = {active.name: own for active in bringing if (own := _differing(active, base, small))}
    found: dict[str, list[Brought]] = {}
    before: dict[str, Meaning] = {}
    for group in groups.GROUPS:
        for active in bringing:
            own = owned.get(active.name, {})
            useless = group in NEED_ROWS and lacks_its_rows(active, base)
            if useless or not groups.has_own(group, own, theirs):
                continue
            before[group] = before.get(group) or groups.meaning(group, theirs, theirs)
            means = groups.meaning(group, own, theirs)
            if means != before[group]:
                found.setdefault(group, []).append(Brought(active.name, groups.of_group(group, own), means))
    acting = [active.name for active in bringing]
    chosen = {group: _one(group, several, before[group], acting, choices) for group, several in found.items()}
    return theirs, {group: one for group, one in chosen.items() if one is not None}


def _differing(active: Active, base: Base, small: SmallFiles) -> dict[str, bytes]:
    """The vector's files, if any is not the base's."""
    own = active.vector.files
    if all(base.files.get(name) == blob for name, blob in own.items()):
        return {}
    return small.of(own, f"vector '{active.name}'")


def lacks_its_rows(active: Active, base: Base) -> bool:
    """Whether a vector is kept off all the rows that it adds, without which its new tokens are useless."""
    rows = grown(base, active.vector)
    return bool(rows) and not any(active.entry.touches(name) for name in rows)


def _one(group: str, several: list[Brought], before: Meaning, acting: list[str], choices: Choices) -> Brought | None:
    """The vector that a group comes from: the chosen one, or one that has all changes of the others."""
    choice = choices.files.get(group)
    if choice == BASE:
        return None
    if choice in acting:
        return next((brought for brought in several if brought.vector == choice), None)
    for first in several:
        if all(_covers(first.meaning, other.meaning, before) for other in several):
            return first
    pairs = [(one, other) for one, other in combinations(several, 2) if not _covers(one.meaning, other.meaning, before)]
    first, other = next((pair for pair in pairs if not _covers(pair[1].meaning, pair[0].meaning, before)), pairs[0])
    union = f' For the added tokens of both, set {TOKENS} = "{UNION}".' if group == groups.TOKENIZER else ""
    names = f'"{first.vector}", "{other.vector}" or "{BASE}"'
    raise Refusal(
        f"vectors '{first.vector}' and '{other.vector}' bring different {groups.title(group)} files: "
        f"{groups.difference(first.meaning, other.meaning)}",
        f"Choose in persona.toml: in the table [{FILES}], set {group} to {names}.{union}",
    )


def _covers(one: Meaning, other: Meaning, before: Meaning) -> bool:
    """Whether one of two meanings has every change of the other, so that its files stand for both."""
    aspects = {*one, *other}
    return all(one.get(key) == other.get(key) or other.get(key) == before.get(key) for key in aspects)


def assembled(base_files: Mapping[str, bytes], chosen: Mapping[str, Brought]) -> dict[str, bytes]:
    """The base's files with the chosen groups in their place."""
    files = dict(base_files)
    for group, brought in chosen.items():
        if group != groups.TEMPLATE:
            replaced = groups.effective(group, brought.files, base_files)
            for name in groups.of_group(group, files):
                del files[name]
            files |= replaced
    source = chosen[groups.TEMPLATE].files if groups.TEMPLATE in chosen else base_files
    if groups.templates(files) != groups.templates(source) and groups.templates(source):
        groups.put_templates(files, source)
    return files
