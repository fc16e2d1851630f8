"""`persona bake`: replace several vectors by their merge, as one vector that remembers what it was made of.

The vectors alone are built with the recipe's method and parameters, and the result is stored like a run of the base.
See docs/decisions/0008-bake-and-adapters.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from persona import files
from persona.building.adapter import EXACT
from persona.building.models import write_checkpoint
from persona.checkpoints.dtypes import named_dtype
from persona.checkpoints.folder import open_checkpoint
from persona.errors import Refusal, UsageError
from persona.ids import VectorId
from persona.progress import SILENT, Progress
from persona.recipe import alphas, edit
from persona.recipe.model import Entry, Recipe
from persona.recipe.parse import checked_vector_name, parse
from persona.recipe.resolve import resolve
from persona.repository import Repository
from persona.store.ingest import Ingested, ingest_run
from persona.workspace.ingest import check_alpha
from persona.workspace.record import RecordedCommit, clean_recipe, entry_of, record
from persona.workspace.vectors import kept_bytes


@dataclass(frozen=True)
class BakeResult:
    """A vector that was baked from others.

    `replaced` are the names of the others; if `kept` is true, they stay in the recipe with alpha 0. `kept_bytes` is what
    the new vector takes up in the store. `relative_norm` is its length divided by that of the base's weights, null if
    unknown.
    """

    recorded: RecordedCommit
    name: str
    alpha: float
    vector: VectorId
    replaced: tuple[str, ...]
    kept: bool
    tensors: int
    kept_bytes: int
    relative_norm: float | None
    notes: tuple[str, ...]


def bake(
    repo: Repository,
    names: Sequence[str],
    name: str,
    *,
    alpha: float = 1.0,
    dtype: str | None = None,
    keep: bool = False,
    message: str | None = None,
    author: str = "",
    command: str = "bake",
    progress: Progress = SILENT,
) -> BakeResult:
    """Replace vectors by one that holds their merge, and commit the recipe.

    Args:
        names: Vectors to merge.
        name: Name of the new vector.
        alpha: Alpha of the new vector; its weights already include the alphas of the old ones.
        dtype: Data type of the stored weights: `bf16`, `fp16` or `fp32`. The default is that of a build.
        keep: Leave the old vectors in the recipe with alpha 0.

    Raises:
        UsageError: A vector is not in the recipe, or `name`, `alpha` or `dtype` is invalid.
        Refusal: All alphas are 0, the method cannot merge a part of the vectors, or `persona.toml` has edits.
    """
    checked_vector_name(name)
    check_alpha(alpha)
    stored_dtype = named_dtype(dtype)
    with clean_recipe(repo, command) as (change, text):
        recipe = resolve(parse(text), repo.objects, repo.recipe(repo.head()), text)
        part = _part(recipe, names)
        _check_name(recipe, part, name, keep=keep)
        ingested = _build_and_ingest(repo, part, stored_dtype, progress)
        baked = replace(ingested.vector, form="baked", baked_from=part.put(repo.objects))
        vector = baked.put(repo.objects)
        text = _edited(text, recipe, part, Entry(name, vector, float(alpha)), keep=keep)
        message = message or f"bake {', '.join(entry.name for entry in part.vectors)} into {name}"
        recorded = record(repo, change, text, message, author, {"vector": name, "form": "baked"})
    return BakeResult(
        recorded=recorded,
        name=name,
        alpha=float(alpha),
        vector=vector,
        replaced=tuple(entry.name for entry in part.vectors),
        kept=keep,
        tensors=len(baked.names),
        kept_bytes=kept_bytes(repo, baked),
        relative_norm=ingested.relative_norm,
        notes=ingested.notes,
    )


def _part(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """The recipe of the named vectors alone, in recipe order."""
    entries = {entry_of(recipe, name).name for name in names}
    part = tuple(entry for entry in recipe.vectors if entry.name in entries)
    if not any(alphas.acts(entry.alpha) for entry in part):
        raise Refusal("nothing to bake: all these vectors have alpha 0", "See 'persona vectors'.")
    rest = others(recipe, part)
    if rest and recipe.method not in EXACT:
        raise Refusal(
            f"method '{recipe.method}' cannot merge a part of the vectors: '{rest[0]}' would be left out",
            "Bake all vectors, or turn the others off first: persona alpha NAME=0",
        )
    # While other vectors stay, the recipe keeps λ: baked in, it would apply twice.
    return replace(recipe, vectors=part, scale=1.0 if rest else recipe.scale)


def others(recipe: Recipe, part: Sequence[Entry]) -> list[str]:
    """Return the names of vectors with a nonzero alpha that are not in `part`."""
    return [entry.name for entry in recipe.vectors if alphas.acts(entry.alpha) and entry not in part]


def _check_name(recipe: Recipe, part: Recipe, name: str, *, keep: bool) -> None:
    if recipe.entry(name) is not None and (keep or part.entry(name) is None):
        raise UsageError(f"the recipe already has a vector '{name}'", "Choose another name with --as NAME.")


def _build_and_ingest(repo: Repository, part: Recipe, dtype: str | None, progress: Progress) -> Ingested:
    """Build `part`, and store the result as a run of its base."""
    base = repo.base(part.base_id)
    with _staged(repo, part, dtype, progress) as folder:
        return ingest_run(open_checkpoint(folder), part.base_id, base, repo.tensors, progress, own=True)


@contextlib.contextmanager
def _staged(repo: Repository, part: Recipe, dtype: str | None, progress: Progress) -> Iterator[Path]:
    """Build into a temporary folder in `.persona/tmp`."""
    prepared = repo.prepare(part, dtype)
    side_files = prepared.side_files(repo.tensors)
    staging = files.make_staging_folder(repo.folder / "tmp" / "bake")
    try:
        write_checkpoint(staging / "model", prepared.plan, side_files, repo.tensors, progress=progress)
        yield staging / "model"
    finally:
        files.remove_tree(staging)


def _edited(text: str, recipe: Recipe, part: Recipe, entry: Entry, *, keep: bool) -> str:
    """`persona.toml` with the new vector instead of the old ones.

    If no other vector acts, method and λ are part of the new vector, and `[merge]` is reset to a plain sum with λ = 1.
    """
    for old in part.vectors:
        text = edit.set_alpha(text, old.name, 0.0) if keep else edit.remove_vector(text, old.name)
    text = edit.put_vector(text, entry)
    return text if others(recipe, part.vectors) else edit.clear_merge(text)
