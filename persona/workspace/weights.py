"""The weights of two sides beside each other, and what lies beside the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from persona.building import contents
from persona.building.compare import Comparison, compare
from persona.building.contents import Part, Parts
from persona.building.run import one_thread_each
from persona.checkpoints import settings
from persona.checkpoints.folder import is_adapter, open_checkpoint
from persona.errors import UsageError
from persona.ids import BaseId, VectorId
from persona.progress import Progress
from persona.recipe.model import Entry, Recipe
from persona.repository import Repository
from persona.store.ingest import read_side_files
from persona.workspace.operands import VECTOR, Operand


@dataclass(frozen=True)
class FileChange:
    """A small file that one side has, or that says something else; ``key`` is the setting, empty of a whole file."""

    file: str
    key: str
    before: Any
    after: Any

    @property
    def text(self) -> str:
        """The change in a few words."""
        if self.key:
            return f"{self.file} {self.key}: {_said(self.before)} → {_said(self.after)}"
        if self.before and self.after:
            return f"{self.file} differs"
        return f"{'-' if self.before else '+'} {self.file}"


def _said(value: Any) -> str:
    return "unset" if value is None else str(value)


@dataclass(frozen=True)
class Weighed:
    """What was found."""

    tensors: Comparison
    files: tuple[FileChange, ...]


def compare_weights(repo: Repository | None, old: Operand, new: Operand, by: str, progress: Progress) -> Weighed:
    """Both sides read to their end: two vectors as changes, anything else as models."""
    if repo is not None and old.kind == new.kind == VECTOR:
        assert old.recipe is not None
        assert new.recipe is not None
        return Weighed(_vectors(repo, old.recipe, new.recipe, by, progress), ())
    with ExitStack() as stack:
        before, after = (_contents(repo, side, stack, progress) for side in (old, new))
        found = compare(before.parts, after.parts, _base(repo, old, new), by=by, progress=progress)
        is_told = old.folder is None and new.folder is None  # by their recipes
        return Weighed(found, () if is_told else tuple(file_changes(before.files, after.files)))


@dataclass(frozen=True)
class _Contents:
    parts: Parts
    files: Mapping[str, bytes]


def _contents(repo: Repository | None, side: Operand, stack: ExitStack, progress: Progress) -> _Contents:
    if side.folder is not None:
        if is_adapter(side.folder):
            raise UsageError(
                f"{side.label} is an adapter: it holds no weights of its own",
                "Commit it and compare the vector, or compare a build with it.",
            )
        checkpoint = open_checkpoint(side.folder)
        return _Contents(contents.of_folder(checkpoint), read_side_files(checkpoint))
    assert repo is not None
    assert side.recipe is not None
    prepared = repo.prepare(side.recipe)
    stack.enter_context(one_thread_each(prepared.plan))
    parts = contents.of_plan(prepared.plan, repo.tensors, progress)
    return _Contents(parts, prepared.side_files(repo.tensors))


def _base(repo: Repository | None, old: Operand, new: Operand) -> Parts | None:
    """What changes are measured from: the one base of the recipes; for two checkpoints that of HEAD's."""
    if repo is None:
        return None
    said = {side.recipe.base for side in (old, new) if side.recipe is not None}
    names = [BaseId(one) for one in said] or [repo.recipe(repo.head()).base_id]
    if len(names) > 1 or names[0] not in repo.objects:  # two bases, or a build of another repository
        return None
    return contents.of_base(repo.base(names[0]), repo.tensors)


def _vectors(repo: Repository, old: Recipe, new: Recipe, by: str, progress: Progress) -> Comparison:
    """Two recipes of one vector each; where one changes a tensor and the other does not, that is τ = 0."""
    before, after = (
        contents.of_vector(recipe, repo.base(recipe.base_id), repo.vectors(recipe), repo.tensors)
        for recipe in (old, new)
    )
    both = ({**_zeros(after), **before}, {**_zeros(before), **after})
    return compare(*both, changes=True, by=by, progress=progress)


def _zeros(parts: Mapping[str, Part]) -> dict[str, Part]:
    return {name: contents.zeros(part) for name, part in parts.items()}


def cosine_with_before(repo: Repository, name: str, old: Recipe, new: Recipe, progress: Progress) -> float | None:
    """Between the τ that two recipes have under one name; None where this repository has not both."""
    pair = [_only(recipe, name) for recipe in (old, new)]
    if any(one not in repo.objects for recipe in pair for one in _ids(recipe)):
        return None
    return _vectors(repo, pair[0], pair[1], "layer", progress).whole.cosine


def _only(recipe: Recipe, name: str) -> Recipe:
    """Of a recipe the one vector, at alpha 1, on the tensors that it may change."""
    entry = recipe.entry(name)
    assert entry is not None
    alone = Entry(entry.name, entry.id, 1.0, only=entry.only, excepted=entry.excepted)
    return Recipe(recipe.base, recipe.base_name, (alone,))


def _ids(recipe: Recipe) -> list[BaseId | VectorId]:
    return [BaseId(recipe.base), *(VectorId(entry.id) for entry in recipe.vectors)]


def file_changes(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> Iterator[FileChange]:
    """Settings, tokenizer and template files that do not mean the same."""
    for name in settings.CONFIGS:
        yield from _settings(name, before, after)
    compared = {*settings.relevant(before, after), *settings.relevant(after, before)} - {*settings.CONFIGS}
    for name in sorted(compared):
        one, other = before.get(name), after.get(name)
        if one is None or other is None or not settings.same_meaning(name, one, other):
            yield FileChange(name, "", one is not None, other is not None)


def _settings(name: str, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> Iterator[FileChange]:
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
