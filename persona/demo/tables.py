"""What verbs found, as the demo's tables and findings. Every number stands in the result that a verb's command prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persona.demo.telling import DOTS, LINES, MATRIX, DemoTable, Finding, TableCell, TableRow, largest
from persona.history.evaluations import number_called
from persona.recipe.alphas import alpha_text
from persona.verbs.show import ShownReadout, ShownVector

if TYPE_CHECKING:
    from persona.evaluate.results import FigureChange
    from persona.verbs.blame import BlameResult, VectorEffect
    from persona.verbs.eval import EvalResult, Score
    from persona.verbs.readout.drift import ReadoutDrift
    from persona.verbs.verify_vectors import VerifyVectorsResult
    from persona.workspace.vectors import VectorSummary


@dataclass(frozen=True)
class Measured:
    """Revisions, measured by one suite."""

    command: str
    revs: tuple[str, ...]
    done: EvalResult

    def score(self, rev: str, measure: str, name: str) -> Score:
        """One number of one of them."""
        scores = _scores(self.done, self.revs.index(rev))
        return next(one for one in scores if (one.measure, one.name) == (measure, name))


def vectors(command: str, found: Sequence[VectorSummary]) -> DemoTable:
    """What the recipe is made of."""
    rows = [TableRow(f"{one.name} ({one.form}, α {alpha_text(one.alpha)})", _counts(one)) for one in found]
    return DemoTable("What the recipe is made of", command, ("tensors", "bytes kept"), tuple(rows))


def _counts(one: VectorSummary) -> tuple[TableCell, ...]:
    return TableCell(one.tensors), TableCell(one.kept_bytes)


def curve(command: str, name: str, shown: object) -> DemoTable:
    """How a run went: the loss of the batches of some steps."""
    assert isinstance(shown, ShownVector)
    points = shown.run["history"]["loss"]["points"]
    rows = tuple(TableRow(f"{step}", (TableCell(loss),)) for step, loss in points)
    return DemoTable(f"{name}: loss while it was trained", command, ("loss",), rows, "nats per token", picture=LINES)


def readout(command: str, shown: object) -> DemoTable:
    """How well held-out texts are told apart, by concept and layer."""
    assert isinstance(shown, ShownReadout)
    layers = tuple(f"layer {layer}" for layer in shown.layers)
    auc = shown.tables["auc"]
    rows = tuple(TableRow(concept, tuple(map(_known, one))) for concept, one in zip(shown.concepts, auc, strict=True))
    return DemoTable("AUC on texts that were held out", command, layers, rows, note="0.5 is chance, 1 is perfect.")


def _known(value: float | None) -> TableCell | None:
    return None if value is None else TableCell(value)


def alone(command: str, done: VerifyVectorsResult) -> Iterator[DemoTable]:
    """Vectors by numbers: what each does, and what noise of its size does; both in the same shades."""
    columns = tuple(number_called(one.measure, one.name) for one in done.columns)
    parts: tuple[tuple[str, str], ...] = (("effect", "each vector alone"), ("control", "noise of each vector's size"))
    fullest = None
    for part, title in parts:
        rows = tuple(
            TableRow(name, tuple(_changed(getattr(one.cells[at], part)) for one in done.columns))
            for at, name in enumerate(done.vectors)
        )
        fullest = largest(rows) if fullest is None else fullest
        title = f"Change from the base: {title}"
        yield DemoTable(title, command, columns, rows, "nats per token", picture=MATRIX, fullest=fullest)


def each_learnt(command: str, done: VerifyVectorsResult, kinds: Mapping[str, str]) -> Finding:
    """Whether each vector lowers the loss of its own kind, and by more than noise of its size."""
    numbers, holds = [], True
    for column in done.columns:
        for cell in column.cells:
            if kinds.get(cell.vector) == column.measure and cell.effect is not None and cell.beyond is not None:
                holds &= cell.effect.verdict == cell.beyond.verdict == "better"
                numbers.append(f"{cell.vector} {cell.effect.value:+.3f}")
    what = "each vector lowers the loss of its own kind of reply, and noise of its size does not"
    return Finding(what, holds and len(numbers) == len(kinds), ", ".join(numbers), command)


def evaluated(command: str, revs: Sequence[str], done: EvalResult) -> DemoTable:
    """Revisions by the numbers of one suite; verdicts are against the base."""
    scores = [_scores(done, at) for at in range(len(revs))]
    columns = tuple(number_called(one.measure, one.name) for one in scores[0])
    rows = tuple(TableRow(rev, tuple(map(_scored, found))) for rev, found in zip(revs, scores, strict=True))
    suite = done.builds[0].suites[0]
    return DemoTable(f"Suite {suite.suite}", command, columns, rows, suite.scores[0].unit, picture=DOTS)


def _scores(done: EvalResult, at: int) -> Sequence[Score]:
    return done.builds[at].suites[0].scores


def _scored(one: Score) -> TableCell:
    change = one.from_base
    value, verdict = (change.value, change.verdict) if change is not None else (None, "")
    return TableCell(one.value, one.low, one.high, value, verdict)


def _changed(change: FigureChange | None) -> TableCell | None:
    if change is None:
        return None
    return TableCell(change.value, change.low, change.high, None, change.verdict)


def moved(claim: str, done: Measured, measure: str, name: str, verdict: str) -> Finding:
    """Whether the last revision's number moved that way from the commit before."""
    change = done.score(done.revs[-1], measure, name).from_before
    holds = change is not None and change.verdict == verdict
    return Finding(claim, holds, _in_words(change), done.command)


def fell(claim: str, done: Measured, measure: str, name: str) -> Finding:
    """Whether the last revision's number is surely lower than the base's."""
    before, after = (done.score(rev, measure, name) for rev in (done.revs[0], done.revs[-1]))
    change = after.from_base
    holds = change is not None and change.high is not None and change.high < 0
    return Finding(claim, holds, f"{before.value:.0%} → {after.value:.0%}", done.command)


def drift(command: str, done: ReadoutDrift) -> DemoTable:
    """How far the mean reading of the same texts moved."""
    by = {(one.concept, one.layer): one for one in done.shifts}
    rows = tuple(
        TableRow(concept, tuple(_shift(by[concept, layer]) for layer in done.layers)) for concept in done.concepts
    )
    layers = tuple(f"layer {layer}" for layer in done.layers)
    return DemoTable("Shift of the mean reading", command, layers, rows, "standard deviations", picture=DOTS)


def _shift(one: Any) -> TableCell:
    return TableCell(one.shift, one.low, one.high, None, "changed" if one.moved else "same")


def blame(command: str, done: BlameResult) -> DemoTable:
    """What each vector does to each number, the most harmful to the first number on top."""
    columns = tuple(number_called(one.measure, one.name) for one in done.verdicts)
    by = [{one.vector: one for one in verdict.vectors} for verdict in done.verdicts]
    order = [one.vector for one in done.verdicts[0].vectors]
    rows = tuple(TableRow(name, tuple(_changed(found[name].effect) for found in by)) for name in order)
    return DemoTable("Effect of each vector within the recipe", command, columns, rows, "nats per token", picture=DOTS)


def culprit(command: str, done: BlameResult, planted: str) -> Finding:
    """Whether the vector that was planted is the most harmful one to the suite's first number."""
    worst: Sequence[VectorEffect] = done.verdicts[0].vectors
    first = worst[0]
    holds = first.vector == planted and first.effect is not None and first.effect.verdict == "worse"
    said_ = "; ".join(f"{one.vector} {_in_words(one.effect)}" for one in worst[:2])
    return Finding(f"blame names '{planted}', the vector that was planted to be bad", holds, said_, command)


def _in_words(change: FigureChange | None) -> str:
    if change is None:
        return "not comparable"
    sure = "" if change.low is None else f" ({change.low:+.3f} to {change.high:+.3f})"
    return f"{change.value:+.3f}{sure}"
