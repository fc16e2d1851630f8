"""Run a suite on a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from persona import files
from persona.evaluate import measures
from persona.evaluate.measures import Look, Reference, Sums
from persona.evaluate.statistics import ratio
from persona.history.evaluations import MOST_REPLIES, Figure, Said
from persona.progress import SILENT, Progress

if TYPE_CHECKING:
    from persona.evaluate.suite import Suite, SuiteMeasure
    from persona.inference.load import LoadedModel


@dataclass(frozen=True)
class Results:
    """The figures of a suite in its order, and the replies to keep: the first of each measure that judges replies."""

    figures: tuple[Figure, ...]
    replies: tuple[Said, ...]


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
) -> Results:
    """Run all measures of a suite."""
    figures: list[Figure] = []
    replies: list[Said] = []
    with progress.task(f"{suite.name}: {live.label}", suite.rows, "rows") as task:
        for measure in suite.measures:
            look = Look(live, seed, batch_size, references.of(suite, measure), task, measure.reads)
            for sums in measure.module.measure(look, measure.rows, measure.settings):
                figures.append(_figure(measure, sums, seed))
                replies += _said(measure, sums)
    return Results(tuple(figures), tuple(replies))


def _figure(measure: SuiteMeasure, sums: Sums, seed: int) -> Figure:
    interval = ratio(sums.totals, sums.counts, seed, sums.unit)
    bounds = interval.value, interval.low, interval.high
    return Figure(measure.name, sums.name, sums.better, sums.unit, *bounds, tuple(sums.totals), tuple(sums.counts))


def _said(measure: SuiteMeasure, sums: Sums) -> Iterator[Said]:
    kept = zip(sums.replies[:MOST_REPLIES], sums.totals, strict=False)
    return (Said(measure.name, prompt, reply, float(f"{score:.9g}")) for (prompt, reply), score in kept)
