"""``persona import``: a mergekit configuration becomes the recipe, and its models become vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona.checkpoints.folder import find_run, is_adapter, open_checkpoint
from persona.errors import CheckpointError, RecipeError, Refusal, UsageError, WrongBase
from persona.files import storage_error
from persona.ids import VectorId
from persona.progress import SILENT, Progress
from persona.recipe import edit
from persona.recipe.alphas import Alpha, Depths
from persona.recipe.mergekit.config import MergekitConfig, ModelReference, parse_config
from persona.recipe.mergekit.reading import Merge, RecipePart, alpha_for, merge_of, own_parameters
from persona.recipe.model import Entry, Recipe
from persona.recipe.parse import parse
from persona.recipe.resolve import resolve
from persona.repository import Repository
from persona.store.matching import first_difference
from persona.store.nouns import Base, Vector
from persona.workspace.ingest import ingest_folder, name_of, run_metadata, vector_name
from persona.workspace.record import RecordedCommit, clean_recipe, record
from persona.workspace.vectors import kept_bytes

LARGEST = 1 << 20
"""Bytes of a configuration."""


@dataclass(frozen=True)
class ImportedModel:
    """A model of the configuration, and the vector that it became."""

    name: str
    folder: Path
    vector: VectorId
    form: str
    alpha: Alpha
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImportResult:
    """What the recipe says now. ``recorded`` is None if it said this already."""

    recorded: RecordedCommit | None
    method: str
    scale: float
    models: tuple[ImportedModel, ...]
    replaced: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Found:
    """A configuration whose folders are all there. ``folders`` has those with the weights that become vectors."""

    config: MergekitConfig
    merge: Merge
    folders: Mapping[str, Path]


def import_(
    repo: Repository,
    path: Path | str,
    *,
    replace: bool = False,
    message: str | None = None,
    author: str = "",
    command: str = "import",
    progress: Progress = SILENT,
) -> ImportResult:
    """Make the recipe what the mergekit configuration at ``path`` says: one commit, one operation.

    Folders are relative to the file. Vectors that it does not name must be taken out of the recipe first, or are with
    ``replace``.
    """
    path = Path(path)
    config = parse_config(_read(path), path.name)
    with clean_recipe(repo, command) as (change, text):
        recipe = resolve(parse(text), repo.objects, repo.recipe(repo.head()), text)
        base = repo.base(recipe.base_id)
        found = _found(config, path.parent, base, recipe)
        others = tuple(entry.name for entry in recipe.vectors if entry.name not in found.folders)
        if others and not replace:
            raise Refusal(
                f"the recipe has vectors that {path.name} does not name: {', '.join(others)}",
                "They would be merged, too: take them out with --replace (history keeps them), or 'persona rm' first.",
            )
        models, entries = [], []
        facts: dict[str, dict[str, Any]] = {}
        for part, (name, folder) in zip(found.merge.parts, found.folders.items(), strict=True):
            ingested = ingest_folder(repo, recipe.base_id, folder, progress)
            vector = ingested.vector.put(repo.objects)
            entry = _entry(found, part, name, vector, ingested.vector, base)
            facts[name], notes = run_metadata(folder, folder, name, ingested, kept_bytes(repo, ingested.vector))
            entries.append(entry)
            models.append(
                ImportedModel(name, folder, vector, ingested.vector.form, entry.alpha, (*ingested.notes, *notes))
            )
        merge = found.merge
        done = ImportResult(None, merge.method, merge.scale, tuple(models), others, merge.notes)
        wanted = _wanted(recipe, merge, entries)
        if wanted == recipe:
            return done
        text = _edited(text, recipe, wanted)
        run = {"runs": facts} if len(facts) > 1 else next(iter(facts.values()))
        recorded = record(repo, change, text, message or f"import {path.name}", author, run)
        return dataclasses.replace(done, recorded=recorded)


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(f"{path} has more than {LARGEST >> 20} MiB", "Give a mergekit configuration.")
        return path.read_bytes().decode()
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}", "Give a mergekit configuration.") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder", "Give the mergekit configuration in it, such as recipe.yml.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8", "Give a mergekit configuration.") from None
    except OSError as error:
        raise storage_error(error, path) from error


def _found(config: MergekitConfig, home: Path, base: Base, recipe: Recipe) -> _Found:
    """The folders of all models, the base among them, and what the recipe has to say; an error before any is read."""
    places = {reference: _place(config, home, reference, key) for reference, key in _references(config)}
    bases = {reference for reference, (model, lora) in places.items() if lora is None and _is_base(model, base)}
    for reference, key in _references(config):
        plain = ModelReference(reference.path)
        if reference.lora and plain not in bases and not _is_base(places[reference][0], base):
            raise _wrong_base(config, f"{key}: {plain}", recipe)
    if config.base is not None and config.base not in bases and config.method != "slerp":
        raise _wrong_base(config, f"base_model: {config.base}", recipe)
    merge = merge_of(config, bases)
    return _Found(config, merge, _named(config, merge, places))


def _references(config: MergekitConfig) -> list[tuple[ModelReference, str]]:
    base = [(config.base, "base_model")] if config.base is not None else []
    return [*base, *((one.reference, f"{one.key}.model") for one in config.models)]


def _place(config: MergekitConfig, home: Path, reference: ModelReference, key: str) -> tuple[Path, Path | None]:
    """The folders of a model and of the adapter on top of it."""
    return _folder(config, home, reference.path, key), (
        None if reference.lora is None else _folder(config, home, reference.lora, key)
    )


def _folder(config: MergekitConfig, home: Path, path: str, key: str) -> Path:
    try:
        folder = Path(home, Path(path).expanduser())
    except RuntimeError:
        folder = Path(home, path)
    if not folder.is_dir():
        hub = "/" in path and not path.startswith((".", "/", "~")) and path.count("/") == 1
        hint = "If it is a model of the hub, download it first, and write its folder." if hub else "Mend the path."
        raise config.error(key, f"there is no folder {folder}", f"{hint} Paths are relative to {config.where}.")
    try:
        return find_run(folder)
    except CheckpointError as error:
        raise config.error(key, error.message, error.hint) from None


def _is_base(folder: Path, base: Base) -> bool:
    return not is_adapter(folder) and first_difference(open_checkpoint(folder), base) is None


def _wrong_base(config: MergekitConfig, what: str, recipe: Recipe) -> WrongBase:
    return WrongBase(
        f"{config.where}: {what} is not this repository's base ({recipe.base_name or 'unnamed'})",
        "Import it in a repository of that base: persona init --base PATH",
    )


def _named(
    config: MergekitConfig, merge: Merge, places: Mapping[ModelReference, tuple[Path, Path | None]]
) -> dict[str, Path]:
    """Every part's name and the folder that becomes its vector."""
    named: dict[str, Path] = {}
    for part in merge.parts:
        model, lora = places[part.reference]
        folder = lora or model
        name = vector_name(name_of(folder))
        if not name:
            raise config.error(part.key, f"the folder {folder} gives no name for a vector", "Rename it.")
        if name in named:
            raise config.error(part.key, f"{named[name]} and {folder} would both be vector '{name}'", "Rename one.")
        named[name] = folder
    return named


def _entry(found: _Found, part: RecipePart, name: str, vector: VectorId, made: Vector, base: Base) -> Entry:
    """The recipe's entry for a model."""
    if not made.names and not made.gone:
        raise RecipeError(
            f"{found.config.where}: {part.key}: {part.reference} has the base's own weights", "Take it out of the list."
        )
    depths = Depths.of(base.tensors)
    sizes = {tensor: base.tensors[tensor].entries for tensor in made.names if tensor in base.tensors}
    parameters = own_parameters(part, found.merge.method, sizes, depths, found.config)
    return Entry(name, vector, alpha_for(part, made.names, depths, found.config), parameters=parameters)


def _wanted(recipe: Recipe, merge: Merge, entries: Sequence[Entry]) -> Recipe:
    """The recipe as it shall be; parameters that all vectors have alike stand in [merge]; nodes stay, and what
    was estimated for vectors that stay."""
    common = {
        key: value
        for key, value in entries[0].parameters.items()
        if all(entry.parameters.get(key) == value for entry in entries)
    }
    vectors = []
    for entry in entries:
        before = recipe.entry(entry.name)
        own = {key: value for key, value in entry.parameters.items() if key not in common}
        if before is not None:
            kept = before.with_vector(entry.id)
            entry = dataclasses.replace(entry, node=kept.node, fisher=kept.fisher)
        vectors.append(dataclasses.replace(entry, parameters=own))
    return dataclasses.replace(
        recipe,
        vectors=tuple(vectors),
        method=merge.method,
        scale=merge.scale,
        parameters={**merge.parameters, **common},
    )


def _edited(text: str, recipe: Recipe, wanted: Recipe) -> str:
    for entry in recipe.vectors:
        text = edit.remove_vector(text, entry.name)
    text = edit.set_merge(text, wanted.method, wanted.scale, wanted.parameters)
    for entry in wanted.vectors:
        text = edit.put_vector(text, entry)
    return text
