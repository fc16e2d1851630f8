"""``persona import-adapter``: a folder of adapters at once, each as a vector, in one commit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
    """An adapter that was found, and what it became. ``vector`` is None where nothing was recorded."""

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
    """A folder that was left out, and why."""

    folder: Path
    why: str


@dataclass(frozen=True)
class ImportAdapterResult:
    """What was found. ``recorded`` is None after a dry run, or if the recipe had all of it already."""

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
    """Record every adapter in ``folders`` as a vector that is named after its folder: one commit, one operation.

    All are looked at before the first is taken in. One that is no adapter of this base is an error, or left out with
    ``skip_bad``.
    """
    if alpha is not None:
        check_alpha(alpha)
    places = _named([place for folder in folders for place in _found(Path(folder))])
    with repo.transaction(command) as change:
        text = worktree_text(repo)
        recipe = resolve(parse(text), repo.objects, repo.recipe(repo.head()), text)
        good, bad = _checked(repo, recipe, places, alpha, skip_bad=skip_bad)
        if dry_run:
            return ImportAdapterResult(None, tuple(good), tuple(bad), True)
        done, facts = [], {}
        with progress.task("keeping the adapters", len(good), "adapters") as task:
            for one in good:
                taken, text, facts[one.name] = _taken(repo, recipe, one, text, alpha)
                done.append(taken)
                task.advance(1)
        if not any(one.is_new for one in done):
            return ImportAdapterResult(None, tuple(done), tuple(bad))
        names = [one.name for one in done]
        said = message or f"import {len(done)} adapters: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
        if len(done) == 1:
            said, facts = message or f"import adapter {done[0].name}", facts[done[0].name]
        else:
            facts = {"runs": facts}
        return ImportAdapterResult(record(repo, change, text, said, author, facts), tuple(done), tuple(bad))


def _found(folder: Path) -> Iterator[Path]:
    """The adapters that ``folder`` means: itself, its newest checkpoint, or those of its folders."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise CheckpointError(f"{folder} {what}", "Give an adapter, or a folder of adapters.")
    with translated(folder):
        own = _adapter_in(folder)
        inner = [_adapter_in(child) for child in sorted(folder.iterdir()) if own is None and child.is_dir()]
    places = [place for place in (own, *inner) if place is not None]
    if not places:
        raise CheckpointError(
            f"{folder} holds no adapter: neither it nor a folder in it has an adapter_config.json",
            "Give the folder whose folders peft's save_pretrained wrote; a full fine-tune: persona commit RUN.",
        )
    yield from places


def _adapter_in(folder: Path) -> Path | None:
    if is_adapter(folder):
        return folder
    numbered = [child for child in numbered_folders(folder) if is_adapter(child)]
    return numbered[-1] if numbered and not any(folder.glob("*.safetensors")) else None


def _named(places: Sequence[Path]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for place in places:
        name = vector_name(name_of(place))
        if not name:
            raise UsageError(f"the name of {place} gives no name for a vector", "Use: persona commit RUN --as NAME")
        other = named.setdefault(name, place)
        if other != place:
            raise UsageError(
                f"{other} and {place} would both be vector '{name}'",
                "Rename a folder, or commit one of them by itself: persona commit RUN --as NAME",
            )
    return named


def _checked(
    repo: Repository, recipe: Recipe, places: dict[str, Path], alpha: float | None, *, skip_bad: bool
) -> tuple[list[AdapterImport], list[SkippedAdapter]]:
    """Those that can be vectors of this base, and the others."""
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
            f"none of {len(bad)} adapters can be taken; the first: {bad[0].why}", "Mend them, or name others."
        )
    return good, bad


def _taken(
    repo: Repository, recipe: Recipe, one: AdapterImport, text: str, alpha: float | None
) -> tuple[AdapterImport, str, dict[str, Any]]:
    """One adapter in the store, the recipe's text with it, and its facts."""
    ingested = ingest_folder(repo, recipe.base_id, one.folder, SILENT)
    vector = ingested.vector.put(repo.objects)
    before = recipe.entry(one.name)
    entry = entry_for(before, one.name, vector, alpha, None)
    kept = kept_bytes(repo, ingested.vector)
    run = one.folder.parent if one.folder.name.startswith("checkpoint-") else one.folder
    facts, notes = run_metadata(run, one.folder, one.name, ingested, kept)
    taken = AdapterImport(
        one.name, one.folder, one.tensors, entry.alpha, vector, kept, entry != before, (*ingested.notes, *notes)
    )
    return taken, edit.put_vector(text, entry) if entry != before else text, facts
