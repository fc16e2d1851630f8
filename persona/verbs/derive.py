"""``persona derive``: a vector that is a sum of others. It keeps none of their weights, and stays what it is.

See docs/decisions/0012-derived-vectors.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from persona.building.derived import FORM
from persona.errors import UsageError
from persona.ids import VectorId
from persona.recipe import edit
from persona.recipe.model import Entry
from persona.recipe.parse import LARGEST, checked_vector_name, parse
from persona.recipe.resolve import resolve
from persona.repository import Repository
from persona.workspace.derived import stored_sum
from persona.workspace.record import RecordedCommit, clean_recipe, record
from persona.workspace.vectors import VectorSummary, summarize


@dataclass(frozen=True)
class DeriveResult:
    """What ``derive`` did. ``recorded`` is None when the recipe had this very vector under this name already."""

    recorded: RecordedCommit | None
    vector: VectorSummary
    expression: str
    replaced: bool
    notes: tuple[str, ...] = ()


def derive(
    repo: Repository,
    name: str,
    expression: str,
    *,
    alpha: float | None = None,
    replace: bool = False,
    message: str | None = None,
    author: str = "",
    command: str = "derive",
) -> DeriveResult:
    """Make the sum ``expression`` of vectors the vector ``name`` of the recipe, and commit that."""
    checked_vector_name(name)
    if alpha is not None and not abs(alpha) <= LARGEST:  # also false for NaN
        raise UsageError(f"alpha {alpha} is not a finite number of at most {LARGEST:.0e}", "Give one such as 0.8.")
    written = " ".join(expression.split())
    with clean_recipe(repo, command) as (change, text):
        recipe = resolve(parse(text), repo.objects, repo.recipe(repo.head()), text)
        vector = stored_sum(repo, recipe, written)
        before = recipe.entry(name)
        entry = _entry(before, name, vector, alpha)
        if before is not None and before.id != vector and not replace:
            raise UsageError(
                f"the recipe has another vector '{name}' already",
                "Choose another name, or add --replace to redefine it.",
            )
        if entry == before:
            note = f"'{name}' is this very vector already; nothing new was recorded"
            return DeriveResult(None, summarize(repo, entry, recipe), written, False, (note,))
        text = edit.put_vector(text, entry, comment=_comment(repo, vector, written))
        facts = {"vector": name, "form": repo.vector(vector).form, "expression": written}
        recorded = record(repo, change, text, message or f"derive {name} = {written}", author, facts)
    after = repo.recipe(recorded.commit)
    notes = () if repo.vector(vector).form == FORM else (f"this is the vector {vector.short} itself, by another name",)
    return DeriveResult(recorded, summarize(repo, entry, after), written, before is not None, notes)


def _comment(repo: Repository, vector: VectorId, written: str) -> str:
    """What stands beside a derived vector in ``persona.toml``."""
    return f"= {written}" if repo.vector(vector).form == FORM else ""


def _entry(before: Entry | None, name: str, vector: VectorId, alpha: float | None) -> Entry:
    """The recipe's entry: what it said before, with what is new."""
    entry = before or Entry(name, vector)
    return replace(entry.with_vector(vector), alpha=entry.alpha if alpha is None else float(alpha))
