"""``persona verify-vectors``: measure each vector alone, beside random noise of the same size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from persona.errors import UsageError
from persona.evaluate.evaluator import BASE, Evaluator, base_of, same_figure, suites_of
from persona.evaluate.options import MeasureOptions
from persona.evaluate.results import FigureChange, change
from persona.evaluate.suite import Suite
from persona.history.evaluations import Better, Evaluation, Figure
from persona.progress import SILENT, Progress, Task
from persona.recipe import alphas
from persona.recipe.model import Entry, Recipe
from persona.repository import Repository
from persona.workspace.ingest import check_alpha
from persona.workspace.record import worktree_recipe


@dataclass(frozen=True)
class VectorCell:
    """The effect of one vector alone on one number.

    ``effect`` is the vector's change from the base, ``control`` that of noise of the same size, and ``beyond`` the difference
    of the two; each is null if it cannot be compared.
    """

    vector: str
    value: float
    low: float | None
    high: float | None
    effect: FigureChange | None
    control: FigureChange | None
    beyond: FigureChange | None


@dataclass(frozen=True)
class VectorColumn:
    """One number of a suite: its value for the base, and a cell for each vector."""

    suite: str
    measure: str
    name: str
    unit: str
    better: Better | None
    base: float
    cells: tuple[VectorCell, ...]


@dataclass(frozen=True)
class VerifyVectorsResult:
    """A table of vectors by numbers. ``alphas`` has the alpha of each vector; ``measured`` counts the suites that were run."""

    vectors: tuple[str, ...]
    alphas: tuple[alphas.Alpha, ...]
    columns: tuple[VectorColumn, ...]
    measured: int
    notes: tuple[str, ...] = ()


def verify_vectors(
    repo: Repository,
    *,
    suites: Sequence[str | Path] = (),
    at: str | None = None,
    alpha: float | None = None,
    options: MeasureOptions = MeasureOptions(),
    cwd: Path | str = ".",
    command: str = "verify-vectors",
    progress: Progress = SILENT,
) -> VerifyVectorsResult:
    """Measure base + α·τ for each active vector of a recipe, beside noise of the same size.

    Each vector is simply added, whatever the recipe's merge method, to the tensors that the recipe lets it change. Its control is
    the base with Gaussian noise of the same norm in each tensor, drawn by the seed of ``options``.

    Args:
        suites: Names or files of suites; all of the repository if empty.
        at: Revision of the recipe; ``persona.toml`` if None.
        alpha: Alpha of every vector; its alpha in the recipe if None.
        options: How to measure.
        cwd: Folder that relative paths start from.
        command: The command line, for the lock's message.

    Raises:
        UsageError: an unknown revision or suite, an invalid alpha, or no active vector.
    """
    recipe, acting = _acting(repo, at, alpha)
    with Evaluator(repo, suites_of(repo, suites, cwd), options, command, progress) as evaluator:
        with progress.task("measuring vectors", 2 * len(acting) + 1, "models") as task:
            base = evaluator.of(base_of(recipe), BASE)
            task.advance(1)
            runs = [_run(evaluator, recipe, entry, options.seed, task) for entry in acting]
        names = tuple(entry.name for entry in acting)
        columns = tuple(_columns(base, names, runs, options.seed))
        strengths = tuple(entry.alpha for entry in acting)
        return VerifyVectorsResult(names, strengths, columns, evaluator.measured, tuple(evaluator.notes))


def stored_vectors(
    repo: Repository,
    *,
    suites: Sequence[str | Path] = (),
    at: str | None = None,
    alpha: float | None = None,
    options: MeasureOptions = MeasureOptions(),
    cwd: Path | str = ".",
) -> VerifyVectorsResult:
    """Look up what :func:`verify_vectors` with the same arguments has measured, without running a model.

    Columns whose base was not measured are left out, and so are cells whose vector or noise was not.

    Raises:
        UsageError: as for :func:`verify_vectors`.
    """
    recipe, acting = _acting(repo, at, alpha)
    with Evaluator(repo, suites_of(repo, suites, cwd), options, "verify-vectors") as evaluator:
        columns = []
        for suite in evaluator.suites:
            for base in evaluator.known(base_of(recipe), [suite]):
                pairs = {entry.name: _stored(evaluator, recipe, entry, options.seed, suite) for entry in acting}
                for figure in base.figures:
                    cells = [
                        _cell(name, *pair, base, figure.key, options.seed)
                        for name, pair in pairs.items()
                        if pair is not None and all(one.figure(figure.key) for one in pair)
                    ]
                    columns.append(_column(base, figure, cells))
        return VerifyVectorsResult(
            tuple(entry.name for entry in acting), tuple(entry.alpha for entry in acting), tuple(columns), 0
        )


def _acting(repo: Repository, at: str | None, alpha: float | None) -> tuple[Recipe, list[Entry]]:
    """The recipe, and its active vectors with the alphas to measure them at."""
    if alpha is not None:
        check_alpha(alpha)
    recipe = worktree_recipe(repo) if at is None else repo.recipe(repo.resolve(at))
    acting = [replace(e, alpha=e.alpha if alpha is None else alpha) for e in recipe.vectors if alphas.acts(e.alpha)]
    if not acting or not all(alphas.acts(entry.alpha) for entry in acting):
        raise UsageError("no vector is active in the recipe", "Commit a run, or give a vector an alpha.")
    return recipe, acting


def _alone(recipe: Recipe, entry: Entry) -> Recipe:
    """The base and one vector, simply added."""
    return Recipe(recipe.base, recipe.base_name, (replace(entry, parameters={}),))


def _stored(
    evaluator: Evaluator, recipe: Recipe, entry: Entry, seed: int, suite: Suite
) -> tuple[Evaluation, Evaluation] | None:
    """The stored evaluations of a vector and of its control by one suite; None if one is missing."""
    found = [*evaluator.known(_alone(recipe, entry), [suite])]
    found += evaluator.known(_alone(recipe, entry), [suite], control=seed)
    return (found[0], found[1]) if len(found) == 2 else None


Run = tuple[tuple[Evaluation, ...], tuple[Evaluation, ...]]
"""The evaluations of a vector by each suite, and those of its control."""


def _run(evaluator: Evaluator, recipe: Recipe, entry: Entry, seed: int, task: Task) -> Run:
    alone = _alone(recipe, entry)
    vector = evaluator.of(alone, entry.name)
    task.advance(1)
    noise = evaluator.of(alone, f"noise as {entry.name}", control=seed)
    task.advance(1)
    return vector, noise


def _columns(
    base: Sequence[Evaluation], names: Sequence[str], runs: Sequence[Run], seed: int
) -> Iterator[VectorColumn]:
    for at, suite in enumerate(base):
        for figure in suite.figures:
            pairs = [(name, run[0][at], run[1][at]) for name, run in zip(names, runs, strict=True)]
            cells = (_cell(name, alone, noise, suite, figure.key, seed) for name, alone, noise in pairs)
            yield _column(suite, figure, cells)


def _column(base: Evaluation, figure: Figure, cells: Iterable[VectorCell]) -> VectorColumn:
    about = base.suite, figure.measure, figure.name, figure.unit, figure.better, figure.value
    return VectorColumn(*about, tuple(cells))


def _cell(
    name: str, alone: Evaluation, noise: Evaluation, base: Evaluation, key: tuple[str, str], seed: int
) -> VectorCell:
    figure, control, before = same_figure(alone, key), same_figure(noise, key), base.figure(key)
    return VectorCell(
        name, figure.value, figure.low, figure.high,
        change(figure, before, seed), change(control, before, seed), change(figure, control, seed),
    )  # fmt: skip
