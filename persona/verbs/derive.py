"""`persona derive`: define a vector as a sum of others, without storing weights.

See docs/decisions/0012-derived-vectors.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from persona.building.derived import FORM
from persona.errors import UsageError
from persona.recipe import edit
from persona.recipe.parse import checked_vector_name, parse
from persona.recipe.resolve import resolve
from persona.repository import Repository
from persona.workspace.derived import stored_sum
from persona.workspace.ingest import check_alpha, entry_for
from persona.workspace.record import RecordedCommit, clean_recipe, record
from persona.workspace.vectors import VectorSummary, summarize


@dataclass(frozen=True)
class DeriveResult:
    """A derived vector. `recorded` is None if the recipe already had it; `replaced` says if it redefined a vector."""

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
    """Define the vector `name` as a sum of other vectors, and commit the recipe.

    Args:
        expression: Sum of vectors, such as `0.5 * (calm + voice@main~3)`.
        alpha: Alpha of the vector. By default it is unchanged, and 1 for a new vector.
        replace: Redefine the vector if it exists.

    Raises:
        UsageError: The expression, name or alpha is invalid, or the vector exists and `replace` is false.
        Refusal: `persona.toml` has edits.
    """
    checked_vector_name(name)
    if alpha is not None:
        check_alpha(alpha)
    expression = " ".join(expression.split())
    with clean_recipe(repo, command) as (change, text):
        recipe = resolve(parse(text), repo.objects, repo.recipe(repo.head()), text)
        vector = stored_sum(repo, recipe, expression)
        before = recipe.entry(name)
        entry = entry_for(before, name, vector, alpha, None)
        if before is not None and before.id != vector and not replace:
            raise UsageError(
                f"the recipe already has a vector '{name}'", "Choose another name, or add --replace to redefine it."
            )
        if entry == before:
            note = f"'{name}' is already this vector; nothing was recorded"
            return DeriveResult(None, summarize(repo, entry, recipe), expression, False, (note,))
        form = repo.vector(vector).form
        is_sum = form == FORM  # an expression such as `1 * voice` is the stored vector itself
        text = edit.put_vector(text, entry, comment=f"= {expression}" if is_sum else "")
        facts = {"vector": name, "form": form, "expression": expression}
        recorded = record(repo, change, text, message or f"derive {name} = {expression}", author, facts)
    after = repo.recipe(recorded.commit)
    notes = () if is_sum else (f"this is the vector {vector.short} under another name",)
    return DeriveResult(recorded, summarize(repo, entry, after), expression, before is not None, notes)
