"""`persona import-adapter`: record many adapters, each as a vector, in one commit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from persona.checkpoints.folder import is_adapter, numbered_folders
from persona.errors import CheckpointError, UsageError, WrongBase
from persona.files import translated
from persona.ids import VectorId
from persona.progress import SILENT, Progress
from persona.recipe import edit
from persona.recipe.alphas import Alpha
from persona.recipe.model import Recipe
from persona.recipe.parse import parse
from persona.recipe.resolve import resolve
from persona.repository import Repository
from persona.store.ingest_adapter import checked_adapter
from persona.workspace.ingest import check_alpha, entry_for, ingest_folder, name_of, run_metadata, vector_name
from persona.workspace.record import RecordedCommit, record, worktree_text
from persona.workspace.vectors import kept_bytes


@dataclass(frozen=True)
class AdapterImport:
    """An adapter, and the vector made from it; `vector` is None in a dry run.

    `is_new` says if the recipe changes: in a dry run if the name is new, otherwise if the vector or its alpha is.
    """

    name: str
    folder: Path
    tensors: int
    alpha: Alpha
    vector: VectorId | None = None
    kept_bytes: int = 0
    is_new: bool = True
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SkippedAdapter:
    """A folder that was skipped, and why."""

    folder: Path
    why: str


@dataclass(frozen=True)
class ImportAdapterResult:
    """Imported and skipped (`left_out`) adapters. `recorded` is None in a dry run, or if the recipe does not change."""

    recorded: RecordedCommit | None
    adapters: tuple[AdapterImport, ...]
    left_out: tuple[SkippedAdapter, ...] = ()
    dry_run: bool = False


def import_adapter(
    repo: Repository,
    folders: Sequence[Path | str],
    *,
    alpha: float | None = None,
    skip_bad: bool = False,
    dry_run: bool = False,
    message: str | None = None,
    author: str = "",
    command: str = "import-adapter",
    progress: Progress = SILENT,
) -> ImportAdapterResult:
    """Record every adapter in `folders` as a vector named after its folder, in one commit.

    All adapters are checked before the first is stored.

    Args:
        folders: Adapters, or folders that contain adapters.
        alpha: Alpha of the vectors. By default it is unchanged, and 1 for a new vector.
        skip_bad: Skip adapters that do not fit the base.
        dry_run: Change nothing.

    Raises:
        CheckpointError: A folder contains no adapter, or an adapter is damaged.
        WrongBase: An adapter belongs to another base.
        UsageError: `alpha` or the name of a folder is invalid, or two folders have the same name.
    """
    if alpha is not None:
        check_alpha(alpha)
    places = _named([place for folder in folders for place in _adapters_in(Path(folder))])
    with repo.transaction(command) as change:
        text = worktree_text(repo)
        recipe = resolve(parse(text), repo.objects, repo.recipe(repo.head()), text)
        good, bad = _checked(repo, recipe, places, alpha, skip_bad=skip_bad)
        if dry_run:
            return ImportAdapterResult(None, tuple(good), tuple(bad), True)
        adapters, facts = [], {}
        with progress.task("storing adapters", len(good), "adapters") as task:
            for checked in good:
                adapter, text, facts[checked.name] = _ingest(repo, recipe, checked, text, alpha)
                adapters.append(adapter)
                task.advance(1)
        if not any(adapter.is_new for adapter in adapters):
            return ImportAdapterResult(None, tuple(adapters), tuple(bad))
        run = {"runs": facts} if len(adapters) > 1 else facts[adapters[0].name]
        recorded = record(repo, change, text, message or _summary(adapters), author, run)
        return ImportAdapterResult(recorded, tuple(adapters), tuple(bad))


def _summary(adapters: Sequence[AdapterImport]) -> str:
    """Default commit message."""
    names = [adapter.name for adapter in adapters]
    if len(names) == 1:
        return f"import adapter {names[0]}"
    return f"import {len(names)} adapters: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}"


def _adapters_in(folder: Path) -> Iterator[Path]:
    """Yield the folder itself, its newest checkpoint, or the adapters in its subfolders."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise CheckpointError(f"{folder} {what}", "Pass an adapter, or a folder of adapters.")
    with translated(folder):
        own = _newest_adapter(folder)
        inner = [_newest_adapter(child) for child in sorted(folder.iterdir()) if own is None and child.is_dir()]
    places = [place for place in (own, *inner) if place is not None]
    if not places:
        raise CheckpointError(
            f"no adapter in {folder}: neither it nor a folder in it has an adapter_config.json",
            "Pass a folder of adapters saved by PEFT. For a full fine-tune, run: persona commit RUN",
        )
    yield from places


def _newest_adapter(folder: Path) -> Path | None:
    if is_adapter(folder):
        return folder
    numbered = [child for child in numbered_folders(folder) if is_adapter(child)]
    return numbered[-1] if numbered and not any(folder.glob("*.safetensors")) else None


def _named(places: Sequence[Path]) -> dict[str, Path]:
    """Map the name of each new vector to its folder."""
    named: dict[str, Path] = {}
    for place in places:
        name = vector_name(name_of(place))
        if not name:
            raise UsageError(f"folder {place} cannot name a vector", "Name it: persona commit RUN --as NAME")
        other = named.setdefault(name, place)
        if other != place:
            raise UsageError(
                f"{other} and {place} would both be vector '{name}'",
                "Rename a folder, or record one of them separately: persona commit RUN --as NAME",
            )
    return named


def _checked(
    repo: Repository, recipe: Recipe, places: dict[str, Path], alpha: float | None, *, skip_bad: bool
) -> tuple[list[AdapterImport], list[SkippedAdapter]]:
    """Return the adapters that fit the base, and those that do not."""
    base = repo.base(recipe.base_id)
    good, bad = [], []
    for name, folder in places.items():
        before = recipe.entry(name)
        strength = alpha if alpha is not None else before.alpha if before else 1.0
        try:
            adapter = checked_adapter(folder, recipe.base_id, base, repo.tensors)
        except (CheckpointError, WrongBase) as error:
            if not skip_bad:
                raise
            bad.append(SkippedAdapter(folder, error.message))
        else:
            changed = {*adapter.low_rank, *adapter.full, *adapter.made}
            good.append(AdapterImport(name, folder, len(changed), strength, is_new=before is None))
    if not good:
        raise CheckpointError(
            f"none of the {len(bad)} adapters can be imported; the first: {bad[0].why}", "Fix them, or pass others."
        )
    return good, bad


def _ingest(
    repo: Repository, recipe: Recipe, adapter: AdapterImport, text: str, alpha: float | None
) -> tuple[AdapterImport, str, dict[str, Any]]:
    """Store an adapter; returns it with its vector, the recipe's text with the vector, and facts about the run."""
    name, folder = adapter.name, adapter.folder
    ingested = ingest_folder(repo, recipe.base_id, folder, SILENT)
    vector = ingested.vector.put(repo.objects)
    before = recipe.entry(name)
    entry = entry_for(before, name, vector, alpha, None)
    kept = kept_bytes(repo, ingested.vector)
    run = folder.parent if folder.name.startswith("checkpoint-") else folder
    facts, notes = run_metadata(run, folder, name, ingested, kept)
    is_new, all_notes = entry != before, (*ingested.notes, *notes)
    stored = replace(adapter, alpha=entry.alpha, vector=vector, kept_bytes=kept, is_new=is_new, notes=all_notes)
    return stored, edit.put_vector(text, entry) if is_new else text, facts
