"""Readouts as people see them: in a commit, in the status, in a difference, and one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from persona.cli.render import changed, count, short, table, when
from persona.cli.tables.commits import headline
from persona.cli.tables.facts import facts
from persona.store.readouts import layers_text

if TYPE_CHECKING:
    from persona.verbs.commit_readout import CommitReadoutResult
    from persona.verbs.diff import ReadoutDiff
    from persona.verbs.show import ShownReadout
    from persona.workspace.readouts import ReadoutState

MOST = 8
"""Layers that a table has beside each other on 80 columns."""


def committed(console: Console, done: CommitReadoutResult) -> None:
    """What ``commit --readout`` did."""
    if done.recorded is None:
        for text in done.notes:
            console.print(escape(text))
        return
    headline(console, done.recorded)
    parts = [f"{count(len(done.concepts), 'concept')}, {layers_text(done.layers)}, {done.hidden} wide"]
    if done.auc is not None:
        parts.append(f"AUC {done.auc:.2f}")
    if done.revision is not None:
        parts.append(f"captured on {short(done.revision)}")
    console.print(f" + readout [green]{escape(done.name)}[/]   {'   '.join(parts)}")
    for text in done.notes:
        console.print(f"   {escape(text)}")
    changed(console, (change for change in done.recorded.changes if change.name != done.name))


def listed(console: Console, states: Sequence[ReadoutState]) -> None:
    """The readouts of a recipe, a line each, and which of them the model has moved away from."""
    for one in states:
        what = f"{count(len(one.concepts), 'concept')}, {layers_text(one.layers)}"
        console.print(f"Readout [bold]{escape(one.name)}[/]: {what}{_age(one.revision, one.since)}")


def _age(revision: str | None, since: tuple[str, ...] | None) -> str:
    """``, captured on 3f2a9c4, 2 changes ago``."""
    if revision is None:
        return ""
    captured = f", captured on {short(revision)}"
    return f"{captured}, [yellow]{count(len(since), 'change')} ago[/]" if since else captured


def differences(console: Console, found: Sequence[ReadoutDiff]) -> None:
    """For each retrained readout the cosine of every direction with the one before."""
    for one in found:
        console.print(f"\n[bold]{escape(one.name)}: cosine with before, by layer[/]")
        layers = [str(layer) for layer in one.layers]
        shown = layers if len(layers) <= MOST else []
        rows = table("concept", "mean", "least", "at", *shown, right=("mean", "least", "at", *shown))
        for concept, row in zip(one.concepts, one.cosines, strict=True):
            cells = [_number(cosine, "absent") for cosine in row] if shown else []
            rows.add_row(escape(concept), *_summary(one.layers, row), *cells)
        console.print(rows)


def _summary(layers: Sequence[int], row: Sequence[float | None]) -> tuple[str, str, str]:
    known = [(cosine, layer) for cosine, layer in zip(row, layers, strict=True) if cosine is not None]
    if not known:
        return "–", "–", "–"
    least, layer = min(known)
    return _number(sum(cosine for cosine, _ in known) / len(known)), _number(least), str(layer)


def _number(value: float | None, none: str = "–") -> str:
    return none if value is None else f"{round(value, 3) + 0.0:.3f}"


def shown(console: Console, one: ShownReadout) -> None:
    """All that is known of a readout."""
    at = f" at commit {one.of.short}" if one.of else ""
    console.print(f"[yellow]readout {one.id}[/] [green]{escape(one.name)}[/]{at}")
    console.print(f"{count(len(one.concepts), 'concept')}, {layers_text(one.layers)}, {one.hidden} wide")
    console.print(f"Base:     {escape(one.base_name)}")
    if one.revision is not None:
        console.print(f"Captured: {short(one.revision)}{_since(one.since)}")
    if one.commit is not None and one.time is not None:
        console.print(f"Commit:   {one.commit.short}, {when(one.time)}")
    facts(console, one.about)
    console.print()
    rows = table("concept", "texts", "layer", *_columns(one), right=("texts", "layer", *_columns(one)))
    for row in _rows(one):
        rows.add_row(*row)
    console.print(rows)


def _since(since: tuple[str, ...] | None) -> str:
    if since is None:
        return ", which is not in this repository"
    return f"; changed since: [yellow]{escape(', '.join(since))}[/]" if since else ", and nothing has changed since"


def _columns(one: ShownReadout) -> list[str]:
    named = {"auc": "AUC", "control": "control", "norms": "norm", "centers": "center", "spreads": "spread"}
    return [heading for key, heading in named.items() if key in one.tables]


def _rows(one: ShownReadout) -> Iterator[tuple[str, ...]]:
    """A row for each concept and layer; what is the same in all rows of a concept stands in the first."""
    keys = [key for key in ("auc", "control", "norms", "centers", "spreads") if key in one.tables]
    for number, concept in enumerate(one.concepts):
        for place, layer in enumerate(one.layers):
            first = (escape(concept), _texts(one.counts.get(concept))) if place == 0 else ("", "")
            values = (one.tables[key][number][place] for key in keys)
            yield (*first, str(layer), *(_short(value) for value in values))


def _texts(counts: Any) -> str:
    """``40 + 52``: positive and negative texts."""
    if not isinstance(counts, dict) or not all(isinstance(counts.get(k), int) for k in ("positive", "negative")):
        return ""
    return f"{counts['positive']} + {counts['negative']}"


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
