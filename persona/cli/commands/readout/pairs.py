"""``persona readout pairs``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import REV
from persona.cli.output import note, utf8
from persona.cli.render import count, table
from persona.cli.sources import place_of, server_options
from persona.errors import NoRepository, UsageError

if TYPE_CHECKING:
    from persona.readout.extract import ConceptCounts, ConceptOverlap
    from persona.repository import Repository
    from persona.verbs.readout.pairs import ReadoutPairs

MOST = 12
"""Concepts that have too little data, and pairs of them, that are named before the rest is only counted."""


@click.command("pairs")
@click.argument("source", required=False, metavar="[SOURCE]")
@click.option(
    "-o", "--out", type=click.Path(readable=False), metavar="PAIRS", help="File to write: a JSON object a line."
)
@click.option("--dry-run", is_flag=True, help="Only count; write nothing.")
@click.option("--replace", is_flag=True, help="Replace the file, where it says something else.")
@click.option("--graph", "rev", type=REV, metavar="REV", help="Take the graph that was imported, as it is at REV.")
@click.option(
    "--contrast", multiple=True, type=click.Path(readable=False), metavar="FILE",
    help="Hand-written statements, each labelled as having a concept or not; may be repeated.",
)  # fmt: skip
@click.option("--concept", "concepts", multiple=True, metavar="NAME", help="Only this concept; may be repeated.")
@click.option(
    "--min-positive-score", type=float, default=8.0, show_default=True, metavar="S",
    help="A text with this score or a higher one has the concept.",
)  # fmt: skip
@click.option(
    "--max-negative-score", type=float, default=2.0, show_default=True, metavar="S",
    help="A text with this score or a lower one has it not.",
)  # fmt: skip
@click.option(
    "--max-negative-mentions", type=click.IntRange(min=0), default=0, show_default=True, metavar="N",
    help="Nor has a text without a score that mentions it no more often.",
)  # fmt: skip
@click.option(
    "--min-content-chars", type=click.IntRange(min=0), default=40, show_default=True, metavar="N",
    help="Leave out texts that are shorter, without their tags.",
)  # fmt: skip
@click.option(
    "--max-examples-per-concept", type=click.IntRange(min=1), default=500, show_default=True, metavar="N",
    help="Of more texts of a side, choose so many.",
)  # fmt: skip
@click.option(
    "--min-examples", type=click.IntRange(min=1), default=8, show_default=True, metavar="N",
    help="Leave out concepts with fewer texts of either side.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Decides which texts are chosen.")
@server_options
@json_option
@click.pass_obj
def command(
    app: App,
    source: str | None,
    out: str | None,
    dry_run: bool,
    replace: bool,
    rev: str | None,
    contrast: tuple[str, ...],
    concepts: tuple[str, ...],
    tools: tuple[str, ...],
    timeout: float,
    min_positive_score: float,
    max_negative_score: float,
    max_negative_mentions: int,
    min_content_chars: int,
    max_examples_per_concept: int,
    min_examples: int,
    seed: int,
) -> None:
    """Make labelled texts from a memory graph: for each concept, texts that have it, and texts that have it not.

    SOURCE is a folder of Markdown or text, a JSONL export, or an MCP server. Without it, it is the graph that was
    imported, or only what --contrast names. The last lines of a text are scores, such as 'warmth:9 clarity:10'; they, and
    tags in its midst, are cut out.

    \b
    persona readout pairs notes/ --dry-run
    persona readout pairs notes/ -o pairs.jsonl --concept warmth --concept frustration
    persona readout pairs http://localhost:7777 -o pairs.jsonl
    persona readout pairs --graph HEAD~3 -o pairs.jsonl
    persona readout pairs --contrast optimism.json --concept optimism -o pairs.jsonl
    """
    from persona.readout.extract import Rules
    from persona.verbs.readout.pairs import readout_pairs

    place = None if source is None else place_of(app, source)
    if (out is None) != dry_run:
        raise UsageError(
            "there is no file to write" if out is None else "--dry-run writes no file",
            "Give one of -o PAIRS and --dry-run.",
        )
    done = readout_pairs(
        place,
        app.optional_path(out),
        repo=_repository(app, source, rev, bool(contrast)),
        rev=rev,
        contrast=[app.path(one) for one in contrast],
        concepts=concepts,
        rules=Rules(
            min_positive_score=min_positive_score,
            max_negative_score=max_negative_score,
            max_negative_mentions=max_negative_mentions,
            min_content_chars=min_content_chars,
            max_examples=max_examples_per_concept,
            min_examples=min_examples,
            seed=seed,
        ),
        tools=tools,
        patience=timeout,
        replace=replace,
    )
    app.show("readout pairs", done, lambda console: _render(console, done, out))
    if not app.json:
        for text in done.notes:
            note(text)


def _repository(app: App, source: str | None, rev: str | None, contrast: bool) -> Repository | None:
    """Where the graph is, if no other source is named; contrasts can do without one."""
    if rev is None and (source is not None or contrast):
        return None
    try:
        return app.repository()
    except NoRepository as error:
        if rev is not None:
            raise
        raise NoRepository(error.message, "Name a SOURCE: a folder, a .jsonl file, or the URL of a server.") from None


def _render(console: Console, done: ReadoutPairs, out: str | None) -> None:
    good = [one for one in done.concepts if one.ok]
    what = f"{count(done.examples, 'example')} of {count(len(good), 'concept')}"
    console.print(f"Would write {what}" if out is None else f"Wrote {escape(utf8(out))}: {what}")
    if done.source is not None:
        console.print(f" from {escape(done.source.place)}: {_said(done)}")
    if done.middling:
        console.print(f" left out: {count(done.middling, 'statement')} labelled 2, 3 or 4")
    if good:
        console.print()
        console.print(_rows(good))
    if done.overlaps:
        console.print("\nHard to tell apart, for the same texts have both:")
        _some(console, [_overlap(one) for one in done.overlaps])
    poor = sorted((one for one in done.concepts if not one.ok), key=lambda one: -one.positive_found)
    if poor:
        console.print("\nToo little data, left out:")
        _some(console, [f"[yellow]{escape(one.concept)}[/]  {_found(one)}" for one in poor])


def _some(console: Console, lines: list[str]) -> None:
    for line in lines[:MOST]:
        console.print(f" {line}")
    if len(lines) > MOST:
        console.print(f" … and {len(lines) - MOST:,} more: --json has all")


def _overlap(one: ConceptOverlap) -> str:
    return f"{escape(one.first)} and {escape(one.second)}  {count(one.shared, 'text')}, {one.share:.0%} of the rarer"


def _said(done: ReadoutPairs) -> str:
    parts = [count(done.nodes, "node")]
    parts += [f"{done.short:,} too short"] if done.short else []
    parts += [f"{done.copies:,} with the text of another"] if done.copies else []
    return ", ".join(parts)


def _rows(concepts: list[ConceptCounts]) -> object:
    """A row for each concept; columns in which nothing would stand are left out."""
    cells = {
        "positive": [f"{one.positive:,}" for one in concepts],
        "negative": [f"{one.negative:,}" for one in concepts],
        "chosen of": [f"{one.positive_found:,} + {one.negative_found:,}" if one.chosen else "" for one in concepts],
        "by hand": [f"{one.by_hand:,}" if one.by_hand else "" for one in concepts],
        "between": [f"{one.between:,}" for one in concepts],
        "only mentioned": [f"{one.mentioned:,}" for one in concepts],
    }
    shown = {head: column for head, column in cells.items() if any(column)}
    rows = table("concept", *shown, right=shown)
    for one, *row in zip(concepts, *shown.values(), strict=True):
        rows.add_row(escape(one.concept), *row)
    return rows


def _found(one: ConceptCounts) -> str:
    highest = "" if one.positive_found or one.highest is None else f"; the highest score is {one.highest:g}"
    return f"{one.positive_found:,} positive, {one.negative_found:,} negative{highest}"
