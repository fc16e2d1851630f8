"""``persona bake``: several vectors merged once and for all, as one vector that knows what it was made of.

The vectors are built by themselves, with the recipe's method and parameters, and what comes out is kept as a run of
its base would be. See docs/decisions/0008-bake-and-adapters.md.
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
from persona.recipe.parse import LARGEST, checked_vector_name, parse
from persona.recipe.resolve import resolve
from persona.repository import Repository
from persona.store.ingest import Ingested, ingest_run
from persona.workspace.record import RecordedCommit, clean_recipe, entry_of, record
from persona.workspace.vectors import kept_bytes


@dataclass(frozen=True)
class BakeResult:
    """A vector that was made of others; ``replaced`` are their names, ``kept`` says that they stay at alpha 0."""

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
    """Store the merged change of vectors as the vector ``name``, in their place (or beside them, ``keep``)."""
    checked_vector_name(name)
    if not abs(alpha) <= LARGEST:  # also false for NaN
        raise UsageError(f"alpha {alpha} is not a finite number of at most {LARGEST:.0e}", "Give one such as 0.8.")
    wanted = named_dtype(dtype)
    with clean_recipe(repo, command) as (change, text):
        recipe = resolve(parse(text), repo.objects, repo.recipe(repo.head()), text)
        part = _part(recipe, names)
        _check_name(recipe, part, name, keep=keep)
        ingested = _baked(repo, part, wanted, progress)
        made = replace(ingested.vector, form="baked", baked_from=part.put(repo.objects))
        vector = made.put(repo.objects)
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
        tensors=len(made.names),
        kept_bytes=kept_bytes(repo, made),
        relative_norm=ingested.relative_norm,
        notes=ingested.notes,
    )


def _part(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """The recipe of the named vectors alone, in recipe order.

    While others stay, λ stays with the recipe; it would act twice if it were baked in.
    """
    entries = {entry_of(recipe, name).name for name in names}
    part = tuple(entry for entry in recipe.vectors if entry.name in entries)
    if not any(alphas.acts(entry.alpha) for entry in part):
        raise Refusal("none of these vectors acts: their alphas are 0", "See 'persona vectors'.")
    rest = others(recipe, part)
    if rest and recipe.method not in EXACT:
        raise Refusal(
            f"method '{recipe.method}' merges all vectors at once, and '{rest[0]}' would meet others than before",
            "Bake all of them; or first bake these with the others out of the way (persona alpha NAME=0).",
        )
    return replace(recipe, vectors=part, scale=1.0 if rest else recipe.scale)


def others(recipe: Recipe, part: Sequence[Entry]) -> list[str]:
    """Names of the vectors that act besides those of ``part``."""
    return [entry.name for entry in recipe.vectors if alphas.acts(entry.alpha) and entry not in part]


def _check_name(recipe: Recipe, part: Recipe, name: str, *, keep: bool) -> None:
    if recipe.entry(name) is not None and (keep or part.entry(name) is None):
        raise UsageError(f"the recipe has a vector '{name}' already", "Give the baked one another name with --as NAME.")


def _baked(repo: Repository, part: Recipe, dtype: str | None, progress: Progress) -> Ingested:
    """The build of ``part``, taken in as a run of its base."""
    base = repo.base(part.base_id)
    with _staged(repo, part, dtype, progress) as folder:
        return ingest_run(open_checkpoint(folder), part.base_id, base, repo.tensors, progress, own=True)


@contextlib.contextmanager
def _staged(repo: Repository, part: Recipe, dtype: str | None, progress: Progress) -> Iterator[Path]:
    """A folder of the build in ``.persona/tmp``, for as long as it is needed."""
    prepared = repo.prepare(part, dtype)
    beside = prepared.side_files(repo.tensors)
    staging = files.make_staging_folder(repo.folder / "tmp" / "bake")
    try:
        write_checkpoint(staging / "model", prepared.plan, beside, repo.tensors, progress=progress)
        yield staging / "model"
    finally:
        files.remove_tree(staging)


def _edited(text: str, recipe: Recipe, part: Recipe, entry: Entry, *, keep: bool) -> str:
    """``persona.toml`` with the new vector, without the old ones (or with them at alpha 0).

    Where nothing else acts, method and λ are in the new vector, and a plain sum with λ = 1 is left.
    """
    for old in part.vectors:
        text = edit.set_alpha(text, old.name, 0.0) if keep else edit.remove_vector(text, old.name)
    text = edit.put_vector(text, entry)
    return text if others(recipe, part.vectors) else edit.clear_merge(text)
