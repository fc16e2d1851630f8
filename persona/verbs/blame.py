"""``persona blame``: find the vector or the commit that makes a measure better or worse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from persona.errors import UsageError
from persona.evaluate.evaluator import Evaluator, only_suite, same_figure, suites_of
from persona.evaluate.options import MeasureOptions
from persona.evaluate.results import FigureChange, change
from persona.history.commits import Commit
from persona.history.evaluations import Better, Evaluation, Figure
from persona.ids import CommitId
from persona.notebook import Shown
from persona.progress import SILENT, Progress
from persona.recipe import alphas
from persona.recipe.changes import RecipeChange as Edit
from persona.recipe.changes import changes
from persona.recipe.model import Recipe
from persona.repository import Repository
from persona.workspace.operands import REVISION, operand_of
from persona.workspace.record import worktree_recipe


@dataclass(frozen=True)
class VectorEffect:
    """The effect of one vector on a number.

    ``without`` is the number of the recipe without the vector. ``effect`` is the number with it minus the number without
    it, null if the two cannot be compared.
    """

    vector: str
    alpha: alphas.Alpha
    without: float
    effect: FigureChange | None


@dataclass(frozen=True)
class CommitEffect:
    """The effect of one commit on a number: its ``value`` minus that of its first parent, null if they cannot be compared."""

    commit: CommitId
    subject: str
    value: float
    effect: FigureChange | None
    changes: tuple[Edit, ...]


E = TypeVar("E", VectorEffect, CommitEffect)


@dataclass(frozen=True)
class MeasureBlame:
    """One number of the suite, with the effects on it.

    The most harmful effect is first; if neither direction is better, the largest.
    """

    measure: str
    name: str
    unit: str
    better: Better | None
    value: float
    low: float | None
    high: float | None
    vectors: tuple[VectorEffect, ...] = ()
    commits: tuple[CommitEffect, ...] = ()


@dataclass(frozen=True, repr=False)
class BlameResult(Shown):
    """The effects on all numbers of a suite. ``of`` is what was measured; ``measured`` counts the builds that had to be run."""

    suite: str
    of: str
    verdicts: tuple[MeasureBlame, ...]
    measured: int
    notes: tuple[str, ...] = ()


def blame(
    repo: Repository,
    rev: str | None = None,
    *,
    suite: str | Path | None = None,
    history: bool = False,
    most: int | None = None,
    options: MeasureOptions = MeasureOptions(),
    cwd: Path | str = ".",
    command: str = "blame",
    progress: Progress = SILENT,
) -> BlameResult:
    """Measure a recipe with each of its vectors left out in turn, or a history commit by commit.

    Differences are paired: both builds are measured on the same examples.

    Args:
        rev: The revision; by default ``persona.toml``, or HEAD with ``history``.
        suite: Name or file of the suite; may be None if the repository has only one.
        history: Compare each commit along first parents with the one before it.
        most: With ``history``, the number of newest commits to compare; None for all.
        options: How to measure.
        cwd: Folder that relative paths start from.
        command: The command line, for the lock's message.

    Raises:
        UsageError: an unknown revision or suite, no suite where there are several, or no active vector.
    """
    if most is not None and most < 1:
        raise UsageError(f"invalid number of commits: {most}", "Give 1 or more.")
    chosen = suites_of(repo, [only_suite(repo, suite)], cwd)
    recipe, label = _of(repo, "HEAD" if history and rev is None else rev, Path(cwd))
    if not history and sum(alphas.acts(entry.alpha) for entry in recipe.vectors) == 0:
        raise UsageError(f"no vector is active in {label}", "See 'persona vectors'.")
    with Evaluator(repo, chosen, options, command, progress) as evaluator:
        verdicts = (
            _by_commit(repo, evaluator, rev, most, options.seed, progress)
            if history
            else _by_vector(evaluator, recipe, label, options.seed, progress)
        )
        return BlameResult(chosen[0].name, label, tuple(verdicts), evaluator.measured, tuple(evaluator.notes))


def _of(repo: Repository, rev: str | None, cwd: Path) -> tuple[Recipe, str]:
    if rev is None:
        return worktree_recipe(repo), repo.recipe_path.name
    side = operand_of(repo, rev, cwd)
    if side.kind != REVISION or side.recipe is None:
        raise UsageError(f"'{rev}' is a {side.kind}", "Give a revision, such as HEAD.")
    return side.recipe, side.label


def _by_vector(
    evaluator: Evaluator, recipe: Recipe, label: str, seed: int, progress: Progress
) -> Iterator[MeasureBlame]:
    acting = [entry for entry in recipe.vectors if alphas.acts(entry.alpha)]
    without = {}
    with progress.task("measuring without each vector", len(acting) + 1, "models") as task:
        whole = evaluator.of(recipe, label)[0]
        task.advance(1)
        for entry in acting:
            rest = replace(recipe, vectors=tuple(other for other in recipe.vectors if other is not entry))
            without[entry.name] = evaluator.of(rest, f"without {entry.name}")[0]
            task.advance(1)
    for figure in whole.figures:
        effects = []
        for entry in acting:
            other = same_figure(without[entry.name], figure.key)
            effects.append(VectorEffect(entry.name, entry.alpha, other.value, change(figure, other, seed)))
        yield _blame(figure, vectors=_worst_first(effects, figure))


def _by_commit(
    repo: Repository, evaluator: Evaluator, rev: str | None, most: int | None, seed: int, progress: Progress
) -> Iterator[MeasureBlame]:
    line = list(_first_parents(repo, repo.resolve(rev or "HEAD"), most))
    done = {}
    with progress.task("measuring commits", len(line), "commits") as task:
        for name, _ in line:
            done[name] = evaluator.of(repo.recipe(name), f"commit {name[:7]}")[0]
            task.advance(1)
    for figure in done[line[0][0]].figures:
        steps = [
            _step(repo, name, commit, done, figure.key, seed)
            for name, commit in line
            if commit.parents[:1] and commit.parents[0] in done
        ]
        yield _blame(figure, commits=_worst_first(steps, figure))


def _first_parents(repo: Repository, start: CommitId, most: int | None) -> Iterator[tuple[CommitId, Commit]]:
    """Commits, newest first: one more than ``most``, to compare the oldest with."""
    name: CommitId | None = start
    left = most
    while name is not None and (left is None or left >= 0):
        commit = repo.commit(name)
        yield name, commit
        name = commit.parents[0] if commit.parents else None
        left = None if left is None else left - 1


def _step(
    repo: Repository,
    name: CommitId,
    commit: Commit,
    done: dict[CommitId, Evaluation],
    key: tuple[str, str],
    seed: int,
) -> CommitEffect:
    parent = commit.parents[0]
    after, before = same_figure(done[name], key), done[parent].figure(key)
    edits = tuple(changes(repo.recipe(parent), repo.recipe(name), repo.objects))
    return CommitEffect(name, commit.subject, after.value, change(after, before, seed), edits)


def _worst_first(effects: Sequence[E], figure: Figure) -> tuple[E, ...]:
    return tuple(sorted(effects, key=lambda each: -_harm(each.effect, figure.better)))


def _harm(effect: FigureChange | None, better: Better | None) -> float:
    """How much worse the effect makes the number; if neither direction is better, how much it moves it."""
    if effect is None or effect.value != effect.value:
        return float("-inf")
    return -effect.value if better == "higher" else effect.value if better == "lower" else abs(effect.value)


def _blame(
    figure: Figure, vectors: tuple[VectorEffect, ...] = (), commits: tuple[CommitEffect, ...] = ()
) -> MeasureBlame:
    about = figure.measure, figure.name, figure.unit, figure.better, figure.value, figure.low, figure.high
    return MeasureBlame(*about, vectors, commits)
