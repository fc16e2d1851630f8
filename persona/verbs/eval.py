"""``persona eval``: measure revisions, single vectors on their base, and the current recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from persona.errors import UsageError
from persona.evaluate.evaluator import BASE, Evaluator, base_of, suites_of
from persona.evaluate.options import MeasureOptions
from persona.evaluate.results import FigureChange, change
from persona.history.evaluations import Better, Evaluation, Figure
from persona.ids import CommitId
from persona.notebook import Shown
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
class BuildReply:
    """What one build said. ``score`` is 1 if it meets the measure's rule and 0 if not, or the judge's number."""

    build: str
    reply: str
    score: float


@dataclass(frozen=True)
class PromptReplies:
    """A prompt, and the reply of each build to it."""

    prompt: str
    replies: tuple[BuildReply, ...]


@dataclass(frozen=True)
class MeasureReplies:
    """The replies to the prompts of one measure: those of the base, then of the builds, by their labels.

    ``better`` says whether lower or higher scores are better, or null. Of many ``examples`` only the first are kept.
    """

    suite: str
    measure: str
    better: Better | None
    examples: int
    prompts: tuple[PromptReplies, ...]


@dataclass(frozen=True, repr=False)
class EvalResult(Shown):
    """The builds in the order they were given.

    ``measured`` counts the suites that were run; the others were looked up. ``replies`` is empty unless they were asked for.
    """

    builds: tuple[BuildScores, ...]
    measured: int
    notes: tuple[str, ...] = ()
    replies: tuple[MeasureReplies, ...] = ()


def eval(  # called as persona.eval, as persona.open is
    repo: Repository,
    revs: str | Sequence[str] = (),
    *,
    suites: Sequence[str | Path] = (),
    options: MeasureOptions = MeasureOptions(),
    cwd: Path | str = ".",
    command: str = "eval",
    replies: bool = False,
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
        replies: Also return what the builds and their base replied to the prompts of measures of the kind ``replies``.

    Raises:
        UsageError: an unknown revision or suite, a folder instead of a revision, or no suite that keeps replies.
    """
    chosen = suites_of(repo, suites, cwd)
    sides = [_side(repo, rev, Path(cwd)) for rev in ([revs] if isinstance(revs, str) else revs)]
    sides = sides or [worktree_operand(repo)]
    with Evaluator(repo, chosen, options, command, progress, replies=replies) as evaluator:
        done = [_Done.of(repo, side, evaluator) for side in sides]
        said = tuple(_replies(done, evaluator)) if replies else ()
        if replies and not said:
            raise UsageError(
                "no suite keeps replies", 'Add a measure with kind = "replies": persona eval --init writes an example.'
            )
        builds = tuple(one.scores(options.seed) for one in done)
        return EvalResult(builds, evaluator.measured, tuple(evaluator.notes), said)


@dataclass(frozen=True)
class _Done:
    """The evaluations of one side, of its base, and of the previous commit, by suite."""

    label: str
    commit: CommitId | None
    before: CommitId | None
    after: tuple[Evaluation, ...]
    base: dict[str, Evaluation]
    past: dict[str, Evaluation]

    @classmethod
    def of(cls, repo: Repository, side: Operand, evaluator: Evaluator) -> _Done:
        """Measure a side and its base, and look up the previous commit."""
        assert side.recipe is not None
        commit, before = _places(repo, side)
        base = {scored.suite: scored for scored in evaluator.of(base_of(side.recipe), BASE)}
        after = evaluator.of(side.recipe, side.label)
        past = {scored.suite: scored for scored in evaluator.known(repo.recipe(before))} if before is not None else {}
        return cls(side.label, commit, before if past else None, after, base, past)

    def scores(self, seed: int) -> BuildScores:
        """All numbers."""
        suites = tuple(
            _suite_scores(scored, self.base.get(scored.suite), self.past.get(scored.suite), seed)
            for scored in self.after
        )
        return BuildScores(self.label, self.commit, self.after[0].build, self.before, suites)


def _replies(done: Sequence[_Done], evaluator: Evaluator) -> Iterator[MeasureReplies]:
    """The replies of all sides to each prompt, after those of their bases that are not among the sides."""
    for at, suite in enumerate(done[0].after):
        sides = {one.after[at].build: (one.label, one.after[at]) for one in done}
        bases = {one.base[suite.suite].build: (BASE, one.base[suite.suite]) for one in done}
        shown = list(({build: base for build, base in bases.items() if build not in sides} | sides).values())
        said = [(label, evaluator.replies(evaluation)) for label, evaluation in shown]
        for measure in dict.fromkeys(one.measure for one in said[0][1]):
            labels = [label for label, _ in said]
            rows = zip(*([one for one in replies if one.measure == measure] for _, replies in said), strict=False)
            prompts = tuple(
                PromptReplies(
                    row[0].prompt, tuple(BuildReply(of, r.reply, r.score) for of, r in zip(labels, row, strict=True))
                )
                for row in rows
            )
            figure = next(figure for figure in suite.figures if figure.measure == measure)
            yield MeasureReplies(suite.suite, measure, figure.better, len(figure.totals), prompts)


def _side(repo: Repository, rev: str, cwd: Path) -> Operand:
    side = operand_of(repo, rev, cwd)
    if side.folder is not None:
        raise UsageError(
            f"{rev} is a folder, but results are kept by recipe",
            "Give the revision that it was built from, or commit it first.",
        )
    return side


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
