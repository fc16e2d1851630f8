"""``persona table``: commits as rows, with their alphas, method, scale and measures as columns."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from persona.errors import UsageError, did_you_mean
from persona.evaluate.results import labelled, moves, readings
from persona.history import commits
from persona.history import refs as refs_
from persona.history.evaluations import Better, number_called
from persona.ids import CommitId
from persona.notebook import Shown
from persona.recipe.alphas import Alpha
from persona.repository import Repository

TEXTS = ("commit", "time", "subject", "method")
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le, ">=": operator.ge, "!=": operator.ne, "=": operator.eq, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_CONDITION = re.compile(r"\s*(.+?)\s*(<=|>=|!=|=|<|>)\s*(.+?)\s*")


@dataclass(frozen=True)
class ExperimentFigure:
    """One stored number of a commit.

    ``column`` is its heading. ``change`` is its change from the first parent, null if that was not measured on the same examples;
    ``verdict`` is "better", "worse", "changed", "same" or "unknown".
    """

    column: str
    value: float
    change: float | None = None
    verdict: str | None = None


@dataclass(frozen=True, repr=False)
class ExperimentRow(Shown):
    """One commit. ``names`` are the branches and tags that point at it, ``alphas`` those of its vectors."""

    commit: CommitId
    parent: CommitId | None
    names: tuple[str, ...]
    subject: str
    time: str
    method: str
    scale: float
    alphas: Mapping[str, Alpha]
    figures: tuple[ExperimentFigure, ...]

    def figure(self, column: str) -> ExperimentFigure | None:
        """Its number in a column; None if it was not measured."""
        return next((figure for figure in self.figures if figure.column == column), None)


@dataclass(frozen=True)
class ExperimentMeasure:
    """A measure. ``better`` is "lower" or "higher", or null if neither is better."""

    name: str
    unit: str
    better: Better | None


@dataclass(frozen=True, repr=False)
class TableResult(Shown):
    """The commits, and the vectors and measures that any of them has."""

    rows: tuple[ExperimentRow, ...]
    vectors: tuple[str, ...]
    measures: tuple[ExperimentMeasure, ...]


def table(
    repo: Repository,
    revs: str | Sequence[str] = refs_.HEAD,
    *,
    limit: int | None = None,
    everything: bool = False,
    sort: str | None = None,
    reverse: bool = False,
    where: Sequence[str] = (),
) -> TableResult:
    """Return commits and their ancestors with what was set and measured in each.

    Columns are ``commit``, ``time``, ``subject``, ``method``, ``scale``, the names of vectors (their alphas), and measures such as
    ``calm answers loss``.

    Args:
        revs: One or more revisions.
        limit: Maximum number of rows, after sorting.
        everything: Also start at every branch and tag.
        sort: Column to sort by, smallest first; by default commits are newest first. Rows without a value come last.
        reverse: Reverse the order.
        where: Conditions such as ``listening>0.5`` that all rows must meet; rows without a value do not.

    Raises:
        UsageError: a revision or column does not exist, or a condition is invalid.
    """
    refs = repo.refs()
    starts = [repo.resolve(rev) for rev in ([revs] if isinstance(revs, str) else revs)]
    starts += refs_.tips(refs) if everything else []
    names: dict[str, list[str]] = {}
    for ref, value in sorted(refs.items()):
        if ref.startswith((refs_.BRANCHES, refs_.TAGS)):
            names.setdefault(value, []).append(ref.removeprefix(refs_.BRANCHES).removeprefix(refs_.TAGS))
    columns: dict[str, ExperimentMeasure] = {}
    rows = [
        _row(repo, name, commit, tuple(names.get(name, ())), columns)
        for name, commit in commits.walk(repo.objects, starts)
    ]
    vectors = tuple(dict.fromkeys(vector for row in reversed(rows) for vector in row.alphas))
    known = (*TEXTS, "scale", *vectors, *columns)
    for text in where:
        meets = _condition(text, known)
        rows = [row for row in rows if meets(row)]
    if sort is not None:
        rows = _sorted(rows, _column(sort, known), reverse=reverse)
    elif reverse:
        rows.reverse()
    kept = rows[:limit]
    shown = {figure.column for row in kept for figure in row.figures}
    return TableResult(
        tuple(kept),
        tuple(vector for vector in vectors if any(vector in row.alphas for row in kept)),
        tuple(columns[name] for name in sorted(columns) if name in shown),
    )


def _row(
    repo: Repository,
    name: CommitId,
    commit: commits.Commit,
    names: tuple[str, ...],
    columns: dict[str, ExperimentMeasure],
) -> ExperimentRow:
    recipe = repo.recipe(name)
    parent = commit.parents[0] if commit.parents else None
    found = moves(repo, repo.recipe(parent), recipe) if parent is not None else ()
    moved = {(diff.source, diff.measure, diff.name): diff for diff in found}
    figures = []
    for reading in readings(repo, recipe):
        column = f"{labelled(reading.suite, reading.dtype)} {number_called(reading.measure, reading.name)}"
        columns[column] = ExperimentMeasure(column, reading.unit, reading.better)
        diff = moved.get((reading.source, reading.measure, reading.name))
        change = (diff.after - diff.before, diff.verdict) if diff is not None else (None, None)
        figures.append(ExperimentFigure(column, reading.value, *change))
    alphas = {entry.name: entry.alpha for entry in recipe.vectors}
    return ExperimentRow(
        name, parent, names, commit.subject, commit.time, recipe.method, recipe.scale, alphas, tuple(figures)
    )


def value_of(row: ExperimentRow, column: str) -> Any:
    """The value of a row in a column: text or a number; None if it has none, or an alpha that is not one number."""
    if column in (*TEXTS, "scale"):
        return getattr(row, column)
    if column in row.alphas:
        alpha = row.alphas[column]
        return None if isinstance(alpha, tuple) else alpha
    figure = row.figure(column)
    return figure.value if figure is not None else None


def _column(name: str, known: Sequence[str]) -> str:
    if name not in known:
        raise UsageError(f"the table has no column '{name}'", did_you_mean(name, known))
    return name


def _sorted(rows: Sequence[ExperimentRow], column: str, *, reverse: bool) -> list[ExperimentRow]:
    having = [row for row in rows if value_of(row, column) is not None]
    lacking = [row for row in rows if value_of(row, column) is None]
    return sorted(having, key=lambda row: value_of(row, column), reverse=reverse) + lacking


def _condition(text: str, known: Sequence[str]) -> Callable[[ExperimentRow], bool]:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise UsageError(
            f"'{text}' is not a condition", "Write COLUMN, one of = != < > <= >=, and a value: listening>0.5"
        )
    column, compare, typed = _column(match[1], known), _COMPARE[match[2]], match[3]
    wanted: Any = typed
    if column not in TEXTS:
        try:
            wanted = float(typed)
        except ValueError:
            raise UsageError(f"'{typed}' is not a number, which '{column}' has", f"Such as: {column}>0.5") from None

    def meets(row: ExperimentRow) -> bool:
        value = value_of(row, column)
        return value is not None and compare(value, wanted)

    return meets
