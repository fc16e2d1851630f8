"""Convert verbs' results to the demo's tables and findings; every number is in the verb's own output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from persona.demo.telling import DOTS, LINES, MATRIX, DemoTable, Finding, TableCell, TableRow, largest
from persona.history.evaluations import number_called
from persona.recipe.alphas import alpha_text
from persona.verbs.show import ShownReadout, ShownVector

if TYPE_CHECKING:
    from persona.evaluate.results import FigureChange
    from persona.readout.drift import ReadoutShift
    from persona.verbs.blame import BlameResult, VectorEffect
    from persona.verbs.eval import EvalResult, Score
    from persona.verbs.readout.drift import ReadoutDrift
    from persona.verbs.sweep import SweepResult
    from persona.verbs.verify_vectors import VerifyVectorsResult
    from persona.workspace.vectors import VectorSummary


@dataclass(frozen=True)
class Measured:
    """Revisions measured by one suite."""

    command: str
    revs: tuple[str, ...]
    done: EvalResult

    def score(self, rev: str, measure: str, name: str) -> Score:
        """One score of a revision."""
        scores = _scores(self.done, self.revs.index(rev))
        return next(score for score in scores if (score.measure, score.name) == (measure, name))


def vectors(command: str, summaries: Sequence[VectorSummary]) -> DemoTable:
    """The vectors of a recipe, with their sizes."""
    rows = tuple(
        TableRow(
            f"{vector.name} ({vector.form}, α {alpha_text(vector.alpha)})",
            (TableCell(vector.tensors), TableCell(vector.kept_bytes)),
        )
        for vector in summaries
    )
    return DemoTable("Vectors of the recipe", command, ("tensors", "bytes stored"), rows)


def curve(command: str, name: str, shown: object) -> DemoTable:
    """The loss curve of a run."""
    assert isinstance(shown, ShownVector)
    points = shown.run["history"]["loss"]["points"]
    rows = tuple(TableRow(f"{step}", (TableCell(loss),)) for step, loss in points)
    return DemoTable(f"{name}: training loss", command, ("loss",), rows, "nats per token", picture=LINES)


def readout(command: str, shown: object) -> DemoTable:
    """AUC on held-out texts, by concept and layer."""
    assert isinstance(shown, ShownReadout)
    layers = tuple(f"layer {layer}" for layer in shown.layers)
    auc = zip(shown.concepts, shown.tables["auc"], strict=True)
    rows = tuple(TableRow(concept, tuple(map(_known, values))) for concept, values in auc)
    return DemoTable("AUC on held-out texts", command, layers, rows, note="0.5 is chance, 1 is perfect.")


def best_layer(shown: object) -> int:
    """The layer that tells the first concept apart best; of several, the middle one."""
    assert isinstance(shown, ShownReadout)
    auc = [-1.0 if value is None else value for value in shown.tables["auc"][0]]
    best = [layer for layer, value in zip(shown.layers, auc, strict=True) if value == max(auc)]
    return best[len(best) // 2]


def _known(value: float | None) -> TableCell | None:
    return None if value is None else TableCell(value)


def alone(command: str, done: VerifyVectorsResult) -> Iterator[DemoTable]:
    """The effects of each vector alone and of noise of the same size, with the same colour scale."""
    columns = tuple(number_called(column.measure, column.name) for column in done.columns)
    parts = (("effect", "each vector alone"), ("control", "noise of the same size"))
    fullest = None
    for part, title in parts:
        rows = tuple(
            TableRow(name, tuple(_changed(getattr(column.cells[at], part)) for column in done.columns))
            for at, name in enumerate(done.vectors)
        )
        fullest = largest(rows) if fullest is None else fullest
        title = f"Change from the base: {title}"
        yield DemoTable(title, command, columns, rows, "nats per token", picture=MATRIX, fullest=fullest)


def each_learnt(command: str, done: VerifyVectorsResult, kinds: Mapping[str, str]) -> Finding:
    """Whether each vector lowers the loss of its own kind of reply by more than noise of the same size does."""
    numbers, holds = [], True
    for column in done.columns:
        for cell in column.cells:
            if kinds.get(cell.vector) == column.measure and cell.effect is not None and cell.beyond is not None:
                holds &= cell.effect.verdict == cell.beyond.verdict == "better"
                numbers.append(f"{cell.vector} {cell.effect.value:+.3f}")
    claim = "each vector lowers the loss on its own kind of reply, and noise of the same size does not"
    return Finding(claim, holds and len(numbers) == len(kinds), ", ".join(numbers), command)


def evaluated(command: str, revs: Sequence[str], done: EvalResult) -> DemoTable:
    """The scores of revisions in one suite; verdicts are relative to the base."""
    scores = [_scores(done, at) for at in range(len(revs))]
    columns = tuple(number_called(score.measure, score.name) for score in scores[0])
    rows = tuple(TableRow(rev, tuple(map(_scored, row))) for rev, row in zip(revs, scores, strict=True))
    suite = done.builds[0].suites[0]
    return DemoTable(f"Suite {suite.suite}", command, columns, rows, suite.scores[0].unit, picture=DOTS)


def _scores(done: EvalResult, at: int) -> Sequence[Score]:
    return done.builds[at].suites[0].scores


def _scored(score: Score) -> TableCell:
    change = score.from_base
    value, verdict = (change.value, change.verdict) if change is not None else (None, "")
    return TableCell(score.value, score.low, score.high, value, verdict)


def _changed(change: FigureChange | None) -> TableCell | None:
    if change is None:
        return None
    return TableCell(change.value, change.low, change.high, None, change.verdict)


def moved(claim: str, done: Measured, measure: str, name: str, verdict: str) -> Finding:
    """Whether a score of the last revision changed in the direction of `verdict` from the commit before."""
    change = done.score(done.revs[-1], measure, name).from_before
    holds = change is not None and change.verdict == verdict
    return Finding(claim, holds, in_words(change), done.command)


def fell(claim: str, done: Measured, measure: str, name: str) -> Finding:
    """Whether a score of the last revision is significantly lower than the base's."""
    before, after = (done.score(rev, measure, name) for rev in (done.revs[0], done.revs[-1]))
    change = after.from_base
    holds = change is not None and change.high is not None and change.high < 0
    return Finding(claim, holds, f"{before.value:.0%} → {after.value:.0%}", done.command)


def swept(title: str, command: str, done: SweepResult, measures: Sequence[str]) -> DemoTable:
    """Some numbers of a sweep, one row per value; the best value is marked."""
    rows, columns = (
        [],
        tuple(number_called(one.measure, one.name) for one in done.stops[0].reached if one.measure in measures),
    )
    for stop in done.stops:
        best = " (best)" if stop.value == done.best else ""
        cells = (TableCell(one.value, one.low, one.high) for one in stop.reached if one.measure in measures)
        rows.append(TableRow(f"scale {stop.value:g}{best}", tuple(cells)))
    return DemoTable(f"What is left of each vector, {title}", command, columns, tuple(rows), picture=DOTS)


def drift(command: str, done: ReadoutDrift) -> DemoTable:
    """The shift of the mean projection, by concept and layer."""
    shifts = {(shift.concept, shift.layer): shift for shift in done.shifts}
    rows = tuple(
        TableRow(concept, tuple(_shift(shifts[concept, layer]) for layer in done.layers)) for concept in done.concepts
    )
    layers = tuple(f"layer {layer}" for layer in done.layers)
    return DemoTable("Shift of the mean projection", command, layers, rows, "standard deviations", picture=DOTS)


def _shift(shift: ReadoutShift) -> TableCell:
    return TableCell(shift.shift, shift.low, shift.high, None, "changed" if shift.moved else "same")


def blame(command: str, done: BlameResult) -> DemoTable:
    """The effect of each vector on each measure, the most harmful one for the first measure on top."""
    columns = tuple(number_called(verdict.measure, verdict.name) for verdict in done.verdicts)
    effects = [{effect.vector: effect for effect in verdict.vectors} for verdict in done.verdicts]
    order = [effect.vector for effect in done.verdicts[0].vectors]
    rows = tuple(TableRow(name, tuple(_changed(column[name].effect) for column in effects)) for name in order)
    return DemoTable("Effect of each vector within the recipe", command, columns, rows, "nats per token", picture=DOTS)


def culprit(command: str, done: BlameResult, planted: str) -> Finding:
    """Whether the planted vector is the most harmful one for the suite's first measure."""
    worst: Sequence[VectorEffect] = done.verdicts[0].vectors
    first = worst[0]
    holds = first.vector == planted and first.effect is not None and first.effect.verdict == "worse"
    numbers = "; ".join(f"{vector.vector} {in_words(vector.effect)}" for vector in worst[:2])
    return Finding(f"blame finds '{planted}', the bad vector", holds, numbers, command)


def in_words(change: FigureChange | None) -> str:
    """A change and its interval."""
    if change is None:
        return "not comparable"
    interval = "" if change.low is None else f" ({change.low:+.3f} to {change.high:+.3f})"
    return f"{change.value:+.3f}{interval}"
