"""Print readouts: in commits, in the status, in diffs, and in detail."""

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
"""Maximum number of layers side by side in a table of 80 columns."""
COLUMNS = {"auc": "AUC", "control": "control", "norms": "norm", "centers": "center", "spreads": "spread"}
"""Tables of a readout, and their headings."""


def committed(console: Console, done: CommitReadoutResult) -> None:
    """Print the result of `commit --readout`."""
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
    """Print the readouts of a recipe, one per line, with the number of changes since each was captured."""
    for state in states:
        what = f"{count(len(state.concepts), 'concept')}, {layers_text(state.layers)}"
        console.print(f"Readout [bold]{escape(state.name)}[/]: {what}{_age(state.revision, state.since)}")


def _age(revision: str | None, since: tuple[str, ...] | None) -> str:
    """Format as `, captured on 3f2a9c4, 2 changes ago`."""
    if revision is None:
        return ""
    captured = f", captured on {short(revision)}"
    return f"{captured}, [yellow]{count(len(since), 'change')} ago[/]" if since else captured


def differences(console: Console, diffs: Sequence[ReadoutDiff]) -> None:
    """Print, for each retrained readout, the cosine of every direction with the previous one."""
    for diff in diffs:
        console.print(f"\n[bold]{escape(diff.name)}: cosine with before, by layer[/]")
        layers = [str(layer) for layer in diff.layers]
        shown = layers if len(layers) <= MOST else []
        rows = table("concept", "mean", "least", "at", *shown, right=("mean", "least", "at", *shown))
        for concept, row in zip(diff.concepts, diff.cosines, strict=True):
            cells = [_number(cosine, "absent") for cosine in row] if shown else []
            rows.add_row(escape(concept), *_summary(diff.layers, row), *cells)
        console.print(rows)


def _summary(layers: Sequence[int], row: Sequence[float | None]) -> tuple[str, str, str]:
    known = [(cosine, layer) for cosine, layer in zip(row, layers, strict=True) if cosine is not None]
    if not known:
        return "–", "–", "–"
    least, layer = min(known)
    return _number(sum(cosine for cosine, _ in known) / len(known)), _number(least), str(layer)


def _number(value: float | None, none: str = "–") -> str:
    return none if value is None else f"{round(value, 3) + 0.0:.3f}"


def shown(console: Console, readout: ShownReadout) -> None:
    """Print everything known about a readout."""
    at = f" at commit {readout.of.short}" if readout.of else ""
    console.print(f"[yellow]readout {readout.id}[/] [green]{escape(readout.name)}[/]{at}")
    console.print(f"{count(len(readout.concepts), 'concept')}, {layers_text(readout.layers)}, {readout.hidden} wide")
    console.print(f"Base:     {escape(readout.base_name)}")
    if readout.revision is not None:
        console.print(f"Captured: {short(readout.revision)}{_since(readout.since)}")
    if readout.commit is not None and readout.time is not None:
        console.print(f"Commit:   {readout.commit.short}, {when(readout.time)}")
    _sinks(console, readout)
    facts(console, {key: value for key, value in readout.about.items() if key != "sinks"})
    console.print()
    keys = [key for key in COLUMNS if key in readout.tables]
    heads = ("texts", "layer", *(COLUMNS[key] for key in keys))
    rows = table("concept", *heads, right=heads)
    for row in _rows(readout, keys):
        rows.add_row(*row)
    console.print(rows)


def _sinks(console: Console, readout: ShownReadout) -> None:
    """Print which tokens were left out as attention sinks, or that the readout averages over them."""
    from persona.readout.sinks import in_words, is_earlier, left_out

    if "sinks" in readout.about:
        console.print(f"Sinks:    left out: {in_words(left_out(readout.about, readout.layers), readout.layers)}")
    elif is_earlier(readout.about):
        console.print("Sinks:    [yellow]averaged over, by an earlier version; train it again[/]")


def _since(since: tuple[str, ...] | None) -> str:
    if since is None:
        return ", which is not in this repository"
    return f"; changed since: [yellow]{escape(', '.join(since))}[/]" if since else ", and nothing has changed since"


def _rows(readout: ShownReadout, keys: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each concept and layer; values of the concept itself are in its first row."""
    for number, concept in enumerate(readout.concepts):
        for place, layer in enumerate(readout.layers):
            first = (escape(concept), _texts(readout.counts.get(concept))) if place == 0 else ("", "")
            values = (readout.tables[key][number][place] for key in keys)
            yield (*first, str(layer), *(_short(value) for value in values))


def _texts(counts: Any) -> str:
    """Format the numbers of positive and negative texts as `40 + 52`."""
    if not isinstance(counts, dict) or not all(isinstance(counts.get(k), int) for k in ("positive", "negative")):
        return ""
    return f"{counts['positive']} + {counts['negative']}"


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
