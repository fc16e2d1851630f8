"""`persona import`: make a mergekit configuration the recipe, and its models vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona.checkpoints.folder import find_run, is_adapter, open_checkpoint
from persona.errors import CheckpointError, RecipeError, Refusal, UsageError, WrongBase
from persona.files import read_bytes, storage_error
from persona.ids import VectorId
from persona.progress import SILENT, Progress
from persona.recipe import edit
from persona.recipe.alphas import Alpha, Depths
from persona.recipe.mergekit.config import MergekitConfig, ModelReference, parse_config
from persona.recipe.mergekit.reading import Merge, RecipePart, alpha_for, merge_of, own_parameters
from persona.recipe.mergekit.slices import without_slices
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
"""Maximum size of a configuration in bytes."""


@dataclass(frozen=True)
class ImportedModel:
    """A model of the configuration, and the vector made from it; `form` says how the vector is stored."""

    name: str
    folder: Path
    vector: VectorId
    form: str
    alpha: Alpha
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImportResult:
    """An imported configuration. `recorded` is None if the recipe was already the same.

    `replaced` are the vectors that were removed from the recipe.
    """

    recorded: RecordedCommit | None
    method: str
    scale: float
    models: tuple[ImportedModel, ...]
    replaced: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Import:
    """A configuration whose folders all exist; `folders` maps each vector's name to the folder of its weights."""

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
    """Replace the recipe by a mergekit configuration, and commit it.

    Args:
        path: The configuration. Its models must be folders, relative to this file.
        replace: Remove vectors that the configuration does not name; otherwise they are an error.

    Raises:
        UsageError: `path` is not a readable text file.
        RecipeError: A key of the configuration is wrong, or cannot be expressed in a recipe.
        WrongBase: A model belongs to another base.
        Refusal: The recipe has other vectors, or `persona.toml` has edits.
    """
    path = Path(path)
    config = parse_config(_read(path), path.name)
    with clean_recipe(repo, command) as (change, text):
        recipe = resolve(parse(text), repo.objects, repo.recipe(repo.head()), text)
        base = repo.base(recipe.base_id)
        config = without_slices(config, base.tensors)
        source = _locate(config, path.parent, base, recipe)
        others = tuple(entry.name for entry in recipe.vectors if entry.name not in source.folders)
        if others and not replace:
            raise Refusal(
                f"the recipe has vectors that {path.name} does not name: {', '.join(others)}",
                "Add --replace to remove them from the recipe (history keeps them).",
            )
        models, entries = [], []
        facts: dict[str, dict[str, Any]] = {}
        for part, (name, folder) in zip(source.merge.parts, source.folders.items(), strict=True):
            ingested = ingest_folder(repo, recipe.base_id, folder, progress)
            vector = ingested.vector.put(repo.objects)
            entry = _entry(source, part, name, vector, ingested.vector, base)
            facts[name], notes = run_metadata(folder, folder, name, ingested, kept_bytes(repo, ingested.vector))
            entries.append(entry)
            models.append(
                ImportedModel(name, folder, vector, ingested.vector.form, entry.alpha, (*ingested.notes, *notes))
            )
        merge = source.merge
        result = ImportResult(None, merge.method, merge.scale, tuple(models), others, merge.notes)
        after = _imported_recipe(recipe, merge, entries)
        if after == recipe:
            return result
        text = _edited(text, recipe, after)
        run = {"runs": facts} if len(facts) > 1 else next(iter(facts.values()))
        recorded = record(repo, change, text, message or f"import {path.name}", author, run)
        return dataclasses.replace(result, recorded=recorded)


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(f"{path} is larger than {LARGEST >> 20} MiB", "Pass a mergekit configuration.")
        return read_bytes(path).decode()
    except FileNotFoundError:
        raise UsageError(f"file {path} does not exist", "Pass a mergekit configuration.") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder", "Pass the mergekit configuration in it, such as recipe.yml.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not valid UTF-8", "Pass a mergekit configuration.") from None
    except OSError as error:
        raise storage_error(error, path) from error


def _locate(config: MergekitConfig, home: Path, base: Base, recipe: Recipe) -> _Import:
    """Find and check the folders of all models before any weights are read."""
    places = {reference: _place(config, home, reference, key) for reference, key in _references(config)}
    bases = {reference for reference, (model, lora) in places.items() if lora is None and _is_base(model, base)}
    for reference, key in _references(config):
        plain = ModelReference(reference.path)
        if reference.lora and plain not in bases and not _is_base(places[reference][0], base):
            raise _wrong_base(config, f"{key}: {plain}", recipe)
    if config.base is not None and config.base not in bases and config.method != "slerp":
        raise _wrong_base(config, f"base_model: {config.base}", recipe)
    merge = merge_of(config, bases)
    return _Import(config, merge, _named(config, merge, places))


def _references(config: MergekitConfig) -> list[tuple[ModelReference, str]]:
    base = [(config.base, "base_model")] if config.base is not None else []
    return [*base, *((model.reference, f"{model.key}.model") for model in config.models)]


def _place(config: MergekitConfig, home: Path, reference: ModelReference, key: str) -> tuple[Path, Path | None]:
    """The folder of a model, and of the adapter on top of it."""
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
        hint = "Download models from the hub first, and write the path of their folder." if hub else "Fix the path."
        raise config.error(key, f"no folder {folder}", f"{hint} Paths are relative to {config.where}.")
    try:
        return find_run(folder)
    except CheckpointError as error:
        raise config.error(key, error.message, error.hint) from None


def _is_base(folder: Path, base: Base) -> bool:
    return not is_adapter(folder) and first_difference(open_checkpoint(folder), base) is None


def _wrong_base(config: MergekitConfig, what: str, recipe: Recipe) -> WrongBase:
    return WrongBase(
        f"{config.where}: {what} is not this repository's base ({recipe.base_name or 'unnamed'})",
        "Import it into a repository with that base: persona init --base PATH",
    )


def _named(
    config: MergekitConfig, merge: Merge, places: Mapping[ModelReference, tuple[Path, Path | None]]
) -> dict[str, Path]:
    """Map the name of each new vector to its folder."""
    named: dict[str, Path] = {}
    for part in merge.parts:
        model, lora = places[part.reference]
        folder = lora or model
        name = vector_name(name_of(folder))
        if not name:
            raise config.error(
                part.key,
                f"folder {folder} cannot name a vector",
                "Rename the folder; names use letters, digits, - and _.",
            )
        if name in named:
            raise config.error(
                part.key, f"{named[name]} and {folder} would both be vector '{name}'", "Rename one of them."
            )
        named[name] = folder
    return named


def _entry(source: _Import, part: RecipePart, name: str, vector: VectorId, stored: Vector, base: Base) -> Entry:
    if not stored.names and not stored.gone:
        raise RecipeError(
            f"{source.config.where}: {part.key}: {part.reference} has the same weights as the base",
            "Remove it from the list.",
        )
    depths = Depths.of(base.tensors)
    sizes = {tensor: base.tensors[tensor].entries for tensor in stored.names if tensor in base.tensors}
    parameters = own_parameters(part, source.merge.method, sizes, depths, source.config)
    return Entry(name, vector, alpha_for(part, stored.names, depths, source.config), parameters=parameters)


def _imported_recipe(recipe: Recipe, merge: Merge, entries: Sequence[Entry]) -> Recipe:
    """The new recipe. Parameters that all vectors share go into [merge]; existing vectors keep node and Fisher diagonal."""
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


def _edited(text: str, before: Recipe, after: Recipe) -> str:
    for entry in before.vectors:
        text = edit.remove_vector(text, entry.name)
    text = edit.set_merge(text, after.method, after.scale, after.parameters)
    for entry in after.vectors:
        text = edit.put_vector(text, entry)
    return text
