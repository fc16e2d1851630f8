"""``persona eval``: measure revisions, single vectors on their base, and the current recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from persona.errors import UsageError
from persona.evaluate.evaluator import BASE, Evaluator, base_of, suites_of
from persona.evaluate.options import MeasureOptions
from persona.evaluate.results import FigureChange, change
from persona.history.evaluations import Better, Evaluation, Figure
from persona.ids import CommitId
from persona.progress import SILENT, Progress
from persona.repository import Repository
from persona.workspace.operands import WORK_TREE, Operand, operand_of, worktree_operand


@dataclass(frozen=True)
class Score:
    """One number of a measure.

    ``low`` and ``high`` are its 95 % interval over ``examples``, null if there are too few. ``better`` is "lower" or "higher",
    or null if neither is better. ``from_base`` is its change from the base, ``from_before`` from the previous commit, if that was
    measured by the same suite.
    """

    measure: str
    name: str
    unit: str
    better: Better | None
    value: float
    low: float | None
    high: float | None
    examples: int
    from_base: FigureChange | None = None
    from_before: FigureChange | None = None


@dataclass(frozen=True)
class SuiteScores:
    """The numbers of one suite for one build; ``time`` is when they were measured."""

    suite: str
    suite_digest: str
    time: str
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class BuildScores:
    """All numbers of one build.

    ``build`` identifies everything that determines its weights. ``before`` is the previous commit, if it was measured, too.
    """

    label: str
    commit: CommitId | None
    build: str
    before: CommitId | None
    suites: tuple[SuiteScores, ...]


@dataclass(frozen=True)
class EvalResult:
    """The builds in the order they were given. ``measured`` counts the suites that were run; the others were looked up."""

    builds: tuple[BuildScores, ...]
    measured: int
    notes: tuple[str, ...] = ()


def eval(  # called as persona.eval, as persona.open is
    repo: Repository,
    revs: str | Sequence[str] = (),
    *,
    suites: Sequence[str | Path] = (),
    options: MeasureOptions = MeasureOptions(),
    cwd: Path | str = ".",
    command: str = "eval",
    progress: Progress = SILENT,
) -> EvalResult:
    """Measure builds by suites, and keep the results.

    Models are built in memory, one at a time. Results are kept by build and suite, and not measured again.

    Args:
        revs: Revisions or vectors (``NAME``, ``NAME@REV``: alone on the base, at alpha 1); ``persona.toml`` if empty.
        suites: Names or files of suites; all of the repository if empty.
        options: How to measure.
        cwd: Folder that relative paths start from.
        command: The command line, for the lock's message.

    Raises:
        UsageError: an unknown revision or suite, or a folder instead of a revision.
    """
    chosen = suites_of(repo, suites, cwd)
    sides = [_side(repo, rev, Path(cwd)) for rev in ([revs] if isinstance(revs, str) else revs)]
    sides = sides or [worktree_operand(repo)]
    with Evaluator(repo, chosen, options, command, progress) as evaluator:
        builds = tuple(_built(repo, side, evaluator, options.seed) for side in sides)
        return EvalResult(builds, evaluator.measured, tuple(evaluator.notes))


def _side(repo: Repository, rev: str, cwd: Path) -> Operand:
    side = operand_of(repo, rev, cwd)
    if side.folder is not None:
        raise UsageError(
            f"{rev} is a folder, but results are kept by recipe",
            "Give the revision that it was built from, or commit it first.",
        )
    return side


def _built(repo: Repository, side: Operand, evaluator: Evaluator, seed: int) -> BuildScores:
    assert side.recipe is not None
    commit, before = _places(repo, side)
    base = {scored.suite: scored for scored in evaluator.of(base_of(side.recipe), BASE)}
    after = evaluator.of(side.recipe, side.label)
    past = {scored.suite: scored for scored in evaluator.known(repo.recipe(before))} if before is not None else {}
    suites = tuple(_suite_scores(scored, base.get(scored.suite), past.get(scored.suite), seed) for scored in after)
    return BuildScores(side.label, commit, after[0].build, before if past else None, suites)


def _places(repo: Repository, side: Operand) -> tuple[CommitId | None, CommitId | None]:
    """The commit of a side, and the one to compare it with: its first parent, or HEAD for an edited recipe."""
    commit = side.commit
    if side.kind == WORK_TREE and commit is None:
        return None, repo.head()
    parents = repo.commit(commit).parents if commit is not None else ()
    return commit, parents[0] if parents else None


def _suite_scores(after: Evaluation, base: Evaluation | None, past: Evaluation | None, seed: int) -> SuiteScores:
    scores = tuple(
        _score(figure, base, past, seed, same=after.build == getattr(base, "build", "")) for figure in after.figures
    )
    return SuiteScores(after.suite, after.suite_digest, after.time, scores)


def _score(figure: Figure, base: Evaluation | None, past: Evaluation | None, seed: int, *, same: bool) -> Score:
    def since(other: Evaluation | None) -> FigureChange | None:
        return change(figure, other.figure(figure.key), seed) if other is not None else None

    return Score(
        measure=figure.measure,
        name=figure.name,
        unit=figure.unit,
        better=figure.better,
        value=figure.value,
        low=figure.low,
        high=figure.high,
        examples=len(figure.totals),
        from_base=None if same else since(base),
        from_before=since(past),
    )
