"""``persona blame``: which vector, or which commit, makes a suite's numbers better or worse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from persona.errors import UsageError
from persona.evaluate.evaluator import Evaluator, only_suite, same_figure, suites_of
from persona.evaluate.options import MeasureOptions
from persona.evaluate.results import FigureChange, change
from persona.history.commits import Commit
from persona.history.evaluations import Better, Evaluation, Figure
from persona.ids import CommitId
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
    """What one vector does to a number in the recipe: ``effect`` is the number with it less the number without it.

    ``without`` is the number of the recipe that lacks it; ``effect`` is null where the two cannot be compared.
    """

    vector: str
    alpha: alphas.Alpha
    without: float
    effect: FigureChange | None


@dataclass(frozen=True)
class CommitEffect:
    """What one commit did to a number: ``effect`` is the number of the commit less that of its first parent."""

    commit: CommitId
    subject: str
    value: float
    effect: FigureChange | None
    changes: tuple[Edit, ...]


@dataclass(frozen=True)
class MeasureBlame:
    """One number of the suite, and who did what to it: the most harmful first, or the largest where no way is good."""

    measure: str
    name: str
    unit: str
    better: Better | None
    value: float
    low: float | None
    high: float | None
    vectors: tuple[VectorEffect, ...] = ()
    commits: tuple[CommitEffect, ...] = ()


@dataclass(frozen=True)
class BlameResult:
    """All verdicts of a suite; ``measured`` is how many builds had to be run."""

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
    """Measure a recipe (``persona.toml`` as it stands, or a revision's) with each of its vectors left out; or with ``history`` the
    commits along first parents, at most the ``most`` newest, each against the one before.

    Differences are of pairs: both builds answer the same examples.
    """
    if most is not None and most < 1:
        raise UsageError(f"{most} commits are none to blame", "Give a number from 1 on.")
    found = suites_of(repo, [only_suite(repo, suite)], cwd)
    recipe, label = _of(repo, "HEAD" if history and rev is None else rev, Path(cwd))
    if not history and sum(alphas.acts(entry.alpha) for entry in recipe.vectors) == 0:
        raise UsageError(f"no vector acts in {label}, so none can be blamed", "See 'persona vectors'.")
    with Evaluator(repo, found, options, command, progress) as evaluator:
        judge = (
            _by_commit(repo, evaluator, rev, most, options.seed)
            if history
            else _by_vector(evaluator, recipe, label, options.seed)
        )
        verdicts = tuple(judge)
        return BlameResult(found[0].name, label, verdicts, evaluator.measured, tuple(evaluator.notes))


def _of(repo: Repository, rev: str | None, cwd: Path) -> tuple[Recipe, str]:
    if rev is None:
        return worktree_recipe(repo), repo.recipe_path.name
    side = operand_of(repo, rev, cwd)
    if side.kind != REVISION or side.recipe is None:
        raise UsageError(f"'{rev}' is a {side.kind}", "Give a revision.")
    return side.recipe, side.label


def _by_vector(evaluator: Evaluator, recipe: Recipe, label: str, seed: int) -> Iterator[MeasureBlame]:
    whole = evaluator.of(recipe, label)[0]
    acting = [entry for entry in recipe.vectors if alphas.acts(entry.alpha)]
    without = {}
    for entry in acting:
        rest = replace(recipe, vectors=tuple(other for other in recipe.vectors if other is not entry))
        without[entry.name] = evaluator.of(rest, f"without {entry.name}")[0]
    for figure in whole.figures:
        found = []
        for entry in acting:
            other = same_figure(without[entry.name], figure.key)
            found.append(VectorEffect(entry.name, entry.alpha, other.value, change(figure, other, seed)))
        yield _verdict(figure, vectors=tuple(sorted(found, key=lambda one: -_harm(one.effect, figure.better))))


def _by_commit(
    repo: Repository, evaluator: Evaluator, rev: str | None, most: int | None, seed: int
) -> Iterator[MeasureBlame]:
    line = list(_first_parents(repo, repo.resolve(rev or "HEAD"), most))
    done = {name: evaluator.of(repo.recipe(name), f"commit {name[:7]}")[0] for name, _ in line}
    for figure in done[line[0][0]].figures:
        steps = [
            _step(repo, name, commit, done, figure.key, seed)
            for name, commit in line
            if commit.parents[:1] and commit.parents[0] in done
        ]
        yield _verdict(figure, commits=tuple(sorted(steps, key=lambda one: -_harm(one.effect, figure.better))))


def _first_parents(repo: Repository, start: CommitId, most: int | None) -> Iterator[tuple[CommitId, Commit]]:
    """Commits, newest first, and one more than ``most`` for the oldest to be compared with."""
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


def _harm(effect: FigureChange | None, better: Better | None) -> float:
    """How much worse the number is for it; how much it moved, where no way is good."""
    if effect is None or effect.value != effect.value:
        return float("-inf")
    return -effect.value if better == "higher" else effect.value if better == "lower" else abs(effect.value)


def _verdict(
    figure: Figure, vectors: Sequence[VectorEffect] = (), commits: Sequence[CommitEffect] = ()
) -> MeasureBlame:
    told = figure.measure, figure.name, figure.unit, figure.better, figure.value, figure.low, figure.high
    return MeasureBlame(*told, tuple(vectors), tuple(commits))
