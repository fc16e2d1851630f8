"""Running a suite over a model."""

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
    """What suites need of the base; files without names hold it until this is closed."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._kept: dict[tuple[str, str], Reference] = {}

    def __enter__(self) -> References:
        return self

    def __exit__(self, *failure: object) -> None:
        self._kept.clear()
        self._stack.close()

    def has(self, suite: Suite) -> bool:
        """Whether all is there that the suite needs."""
        return all((suite.digest, asked.name) in self._kept for asked in _referring(suite))

    def of(self, suite: Suite, asked: SuiteMeasure) -> Reference | None:
        """What one measure of it needs; None if nothing."""
        return self._kept.get((suite.digest, asked.name))

    def take(self, live: LoadedModel, suite: Suite, seed: int, batch_size: int, progress: Progress = SILENT) -> None:
        """Run what compares with the base on the base."""
        rows = sum(len(asked.rows) for asked in _referring(suite))
        with progress.task(f"{suite.name}: the base", rows, "rows") as task:
            for asked in _referring(suite):
                reference = Reference(self._stack.enter_context(files.scratch_file()))
                look = Look(live, seed, batch_size, task=task, reads=asked.reads)
                asked.module.refer(look, asked.rows, asked.settings, reference)  # type: ignore[attr-defined]
                self._kept[(suite.digest, asked.name)] = reference


def _referring(suite: Suite) -> Iterator[SuiteMeasure]:
    return (asked for asked in suite.measures if measures.refers(asked.module))


def run(
    live: LoadedModel,
    suite: Suite,
    references: References,
    seed: int = 0,
    batch_size: int = 8,
    progress: Progress = SILENT,
) -> tuple[Figure, ...]:
    """All figures of a suite, in its order."""
    with progress.task(f"{suite.name}: {live.label}", suite.rows, "rows") as task:
        return tuple(
            figure
            for asked in suite.measures
            for figure in _figures(live, asked, references.of(suite, asked), seed, batch_size, task)
        )


def _figures(
    live: LoadedModel, asked: SuiteMeasure, reference: Reference | None, seed: int, batch_size: int, task: Task
) -> Sequence[Figure]:
    look = Look(live, seed, batch_size, reference, task, asked.reads)
    found = asked.module.measure(look, asked.rows, asked.settings)
    return [
        Figure(asked.name, one.name, one.better, one.unit, *_interval(one, seed), tuple(one.totals), tuple(one.counts))
        for one in found
    ]


def _interval(sums: measures.Sums, seed: int) -> tuple[float, float | None, float | None]:
    found = ratio(sums.totals, sums.counts, seed)
    return found.value, found.low, found.high
