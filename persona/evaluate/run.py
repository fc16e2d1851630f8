"""Run a suite on a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from persona import files
from persona.evaluate import measures
from persona.evaluate.measures import Look, Reference
from persona.evaluate.statistics import ratio
from persona.history.evaluations import Figure
from persona.progress import SILENT, Progress, Task

if TYPE_CHECKING:
    from persona.evaluate.suite import Suite, SuiteMeasure
    from persona.inference.load import LoadedModel


class References:
    """What suites keep of the base, in temporary files until this is closed."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._kept: dict[tuple[str, str], Reference] = {}

    def __enter__(self) -> References:
        return self

    def __exit__(self, *failure: object) -> None:
        self._kept.clear()
        self._stack.close()

    def has(self, suite: Suite) -> bool:
        """Whether the base has been run for the suite."""
        return all((suite.digest, measure.name) in self._kept for measure in _referring(suite))

    def of(self, suite: Suite, measure: SuiteMeasure) -> Reference | None:
        """What one measure of the suite kept of the base, or None."""
        return self._kept.get((suite.digest, measure.name))

    def take(self, live: LoadedModel, suite: Suite, seed: int, batch_size: int, progress: Progress = SILENT) -> None:
        """Run the base for all measures of a suite that compare with it."""
        rows = sum(len(measure.rows) for measure in _referring(suite))
        with progress.task(f"{suite.name}: the base", rows, "rows") as task:
            for measure in _referring(suite):
                reference = Reference(self._stack.enter_context(files.scratch_file()))
                look = Look(live, seed, batch_size, task=task, reads=measure.reads)
                measure.module.refer(look, measure.rows, measure.settings, reference)  # type: ignore[attr-defined]
                self._kept[(suite.digest, measure.name)] = reference


def _referring(suite: Suite) -> Iterator[SuiteMeasure]:
    return (measure for measure in suite.measures if measures.refers(measure.module))


def run(
    live: LoadedModel,
    suite: Suite,
    references: References,
    seed: int = 0,
    batch_size: int = 8,
    progress: Progress = SILENT,
) -> tuple[Figure, ...]:
    """Run all measures of a suite, and return their figures in the suite's order."""
    with progress.task(f"{suite.name}: {live.label}", suite.rows, "rows") as task:
        return tuple(
            figure
            for measure in suite.measures
            for figure in _figures(live, measure, references.of(suite, measure), seed, batch_size, task)
        )


def _figures(
    live: LoadedModel, measure: SuiteMeasure, reference: Reference | None, seed: int, batch_size: int, task: Task
) -> Sequence[Figure]:
    look = Look(live, seed, batch_size, reference, task, measure.reads)
    figures = []
    for sums in measure.module.measure(look, measure.rows, measure.settings):
        interval = ratio(sums.totals, sums.counts, seed)
        bounds = interval.value, interval.low, interval.high
        sides = tuple(sums.totals), tuple(sums.counts)
        figures.append(Figure(measure.name, sums.name, sums.better, sums.unit, *bounds, *sides))
    return figures
