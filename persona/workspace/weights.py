"""Comparing the weights and the small files of two operands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from persona.building import contents
from persona.building.compare import Comparison, compare
from persona.building.contents import Part, Parts
from persona.building.run import one_thread_each
from persona.checkpoints import groups, settings
from persona.checkpoints.folder import is_adapter, open_checkpoint
from persona.errors import UsageError
from persona.ids import BaseId, VectorId
from persona.progress import Progress
from persona.recipe.model import Entry, Recipe
from persona.repository import Repository
from persona.store.ingest import under_base
from persona.store.ingest_files import read_side_files
from persona.store.nouns import Base
from persona.workspace.operands import VECTOR, Operand


@dataclass(frozen=True)
class FileChange:
    """A setting or a small file that differs.

    For a setting, ``key`` is its name, and ``before`` and ``after`` are its values. For a whole file, ``key`` is empty,
    and ``before`` and ``after`` say whether each side has it.
    """

    file: str
    key: str
    before: Any
    after: Any

    @property
    def text(self) -> str:
        """The change in a few words."""
        if self.key:
            return f"{self.file} {self.key}: {_value(self.before)} → {_value(self.after)}"
        if self.before and self.after:
            return f"{self.file} differs"
        return f"{'-' if self.before else '+'} {self.file}"


def _value(value: Any) -> str:
    return "unset" if value is None else str(value)


@dataclass(frozen=True)
class WeightsComparison:
    """The differences in tensors and in small files."""

    tensors: Comparison
    files: tuple[FileChange, ...]


def compare_weights(
    repo: Repository | None, old: Operand, new: Operand, by: str, progress: Progress
) -> WeightsComparison:
    """Compare every weight of two operands: two vectors as changes, anything else as models.

    Args:
        repo: The repository; None outside of one, where both must be folders.
        old: One operand.
        new: The other.
        by: ``layer`` or ``tensor``: what a row of the result is.

    Raises:
        UsageError: an operand is an adapter.
    """
    if repo is not None and old.kind == new.kind == VECTOR:
        assert old.recipe is not None
        assert new.recipe is not None
        return WeightsComparison(_compare_vectors(repo, old.recipe, new.recipe, by, progress), ())
    with ExitStack() as stack:
        base = _common_base(repo, old, new)
        before, after = (_read(repo, operand, base, stack, progress) for operand in (old, new))
        common = contents.of_base(base, repo.tensors) if repo is not None and base is not None else None
        tensors = compare(before.parts, after.parts, common, by=by, progress=progress)
        if old.folder is None and new.folder is None:  # files follow from the recipes, which are compared elsewhere
            return WeightsComparison(tensors, ())
        return WeightsComparison(tensors, tuple(file_changes(before.files, after.files)))


@dataclass(frozen=True)
class _Contents:
    parts: Parts
    files: Mapping[str, bytes]


def _read(
    repo: Repository | None, operand: Operand, base: Base | None, stack: ExitStack, progress: Progress
) -> _Contents:
    """The tensors and small files of an operand, a folder's under the base's names; limits on threads last as ``stack``."""
    if operand.folder is not None:
        if is_adapter(operand.folder):
            raise UsageError(
                f"{operand.label} is an adapter, which has no full weights to compare",
                "Commit it and compare the vector, or compare a build with it.",
            )
        checkpoint = open_checkpoint(operand.folder)
        small = read_side_files(checkpoint)
        if repo is not None and base is not None:
            checkpoint = under_base(checkpoint, base, repo.tensors).checkpoint
        return _Contents(contents.of_folder(checkpoint, own=set(base.tensors) if base else set()), small)
    assert repo is not None
    assert operand.recipe is not None
    prepared = repo.prepare(operand.recipe)
    stack.enter_context(one_thread_each(prepared.plan))
    parts = contents.of_plan(prepared.plan, repo.tensors, progress)
    return _Contents(parts, prepared.side_files(repo.tensors))


def _common_base(repo: Repository | None, old: Operand, new: Operand) -> Base | None:
    """The base that both operands were changed from; for two checkpoints, HEAD's. None if there is no common one."""
    if repo is None:
        return None
    bases = {operand.recipe.base for operand in (old, new) if operand.recipe is not None}
    names = [BaseId(base) for base in bases] or [repo.recipe(repo.head()).base_id]
    if len(names) > 1 or names[0] not in repo.objects:  # a build may come from another repository
        return None
    return repo.base(names[0])


def _compare_vectors(repo: Repository, old: Recipe, new: Recipe, by: str, progress: Progress) -> Comparison:
    """Compare two recipes of one vector each. Where only one changes a tensor, the other's τ is 0."""
    before, after = (
        contents.of_vector(recipe, repo.base(recipe.base_id), repo.vectors(recipe), repo.tensors)
        for recipe in (old, new)
    )
    both = ({**_zeros(after), **before}, {**_zeros(before), **after})
    return compare(*both, changes=True, by=by, progress=progress)


def _zeros(parts: Mapping[str, Part]) -> dict[str, Part]:
    return {name: contents.zeros(part) for name, part in parts.items()}


def cosine_with_before(repo: Repository, name: str, old: Recipe, new: Recipe, progress: Progress) -> float | None:
    """The cosine of the τ that two recipes have under one name; None if this repository does not have both."""
    pair = [_only(recipe, name) for recipe in (old, new)]
    if any(id not in repo.objects for recipe in pair for id in _ids(recipe)):
        return None
    return _compare_vectors(repo, pair[0], pair[1], "layer", progress).whole.cosine


def _only(recipe: Recipe, name: str) -> Recipe:
    """A recipe with only one of its vectors, at alpha 1 and with its own ``only`` and ``except``."""
    entry = recipe.entry(name)
    assert entry is not None
    alone = Entry(entry.name, entry.id, 1.0, only=entry.only, excepted=entry.excepted)
    return Recipe(recipe.base, recipe.base_name, (alone,))


def _ids(recipe: Recipe) -> list[BaseId | VectorId]:
    return [BaseId(recipe.base), *(VectorId(entry.id) for entry in recipe.vectors)]


def file_changes(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> Iterator[FileChange]:
    """Yield the settings, tokenizer and template files that differ in meaning, between two tables of files by name."""
    for name in settings.CONFIGS:
        yield from _setting_changes(name, before, after)
    changed: set[str] = set()
    for group in groups.GROUPS:
        old, new = groups.of_group(group, before), groups.of_group(group, after)
        if old and new and groups.meaning(group, before, before) == groups.meaning(group, after, before):
            continue
        changed |= {name for name in {*old, *new} if old.get(name) != new.get(name)}
    for name in sorted(changed):
        yield FileChange(name, "", name in before, name in after)


def _setting_changes(name: str, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> Iterator[FileChange]:
    if name not in before or name not in after:
        if name in before or name in after:
            yield FileChange(name, "", name in before, name in after)
        return
    old = settings.parse(before[name])
    for path, value in settings.config_patch(old, settings.parse(after[name])):
        yield FileChange(name, ".".join(path), _at(old, path), value)


def _at(table: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        table = table.get(key) if isinstance(table, Mapping) else None
    return table
