"""`persona readout pairs`."""

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
"""Maximum number of lines for concepts with too little data, and for overlaps."""


@click.command("pairs")
@click.argument("source", required=False, metavar="[SOURCE]")
@click.option(
    "-o", "--out", type=click.Path(readable=False), metavar="FILE", help="File to write, one JSON object per line."
)
@click.option("--dry-run", is_flag=True, help="Only count the examples, and write nothing.")
@click.option("--replace", is_flag=True, help="Replace an existing file.")
@click.option("--graph", "rev", type=REV, metavar="REV", help="Use the imported graph at this revision.")
@click.option(
    "--contrast", multiple=True, type=click.Path(readable=False), metavar="FILE",
    help="File of hand-written statements, labelled as having a concept or not; repeatable.",
)  # fmt: skip
@click.option("--concept", "concepts", multiple=True, metavar="NAME", help="Include only this concept; repeatable.")
@click.option(
    "--min-positive-score", type=float, default=8.0, show_default=True, metavar="S",
    help="Minimum score of a positive text.",
)  # fmt: skip
@click.option(
    "--max-negative-score", type=float, default=2.0, show_default=True, metavar="S",
    help="Maximum score of a negative text.",
)  # fmt: skip
@click.option(
    "--max-negative-mentions", type=click.IntRange(min=0), default=0, show_default=True, metavar="N",
    help="Maximum mentions of the concept in a negative text without a score.",
)  # fmt: skip
@click.option(
    "--min-content-chars", type=click.IntRange(min=0), default=40, show_default=True, metavar="N",
    help="Minimum length of a text in characters, without tags.",
)  # fmt: skip
@click.option(
    "--max-examples-per-concept", type=click.IntRange(min=1), default=500, show_default=True, metavar="N",
    help="Maximum number of texts per side of a concept.",
)  # fmt: skip
@click.option(
    "--min-examples", type=click.IntRange(min=1), default=8, show_default=True, metavar="N",
    help="Minimum number of texts per side of a concept.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Random seed for choosing texts.")
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
    """Make labelled texts from a memory graph

    For each concept, chooses texts that have it and texts that do not, by the scores in their last lines, such as
    'warmth:9 clarity:10'. Scores and tags are removed from the texts.

    SOURCE is a folder of Markdown or text, a JSONL export, or the URL of an MCP server. Without it, uses the imported
    graph, or only the files given with --contrast.

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
            "no output file given" if out is None else "-o and --dry-run cannot be combined",
            "Give either -o PAIRS or --dry-run.",
        )
    done = readout_pairs(
        place,
        app.optional_path(out),
        repo=_repository(app, source, rev, bool(contrast)),
        rev=rev,
        contrast=[app.path(path) for path in contrast],
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
    """The repository with the graph, if no other source is given; None if --contrast is enough."""
    if rev is None and (source is not None or contrast):
        return None
    try:
        return app.repository()
    except NoRepository as error:
        if rev is not None:
            raise
        raise NoRepository(error.message, "Give a SOURCE: a folder, a .jsonl file, or the URL of a server.") from None


def _render(console: Console, done: ReadoutPairs, out: str | None) -> None:
    good = [concept for concept in done.concepts if concept.ok]
    what = f"{count(done.examples, 'example')} of {count(len(good), 'concept')}"
    console.print(f"Would write {what}" if out is None else f"Wrote {escape(utf8(out))}: {what}")
    if done.source is not None:
        console.print(f" from {escape(done.source.place)}: {_nodes(done)}")
    if done.middling:
        console.print(f" left out: {count(done.middling, 'statement')} labelled 2, 3 or 4")
    if good:
        console.print()
        console.print(_rows(good))
    if done.overlaps:
        console.print("\nHard to separate, because the same texts have both:")
        _some(console, [_overlap(overlap) for overlap in done.overlaps])
    poor = sorted((concept for concept in done.concepts if not concept.ok), key=lambda concept: -concept.positive_found)
    if poor:
        console.print("\nToo little data, left out:")
        _some(console, [f"[yellow]{escape(concept.concept)}[/]  {_available(concept)}" for concept in poor])


def _some(console: Console, lines: list[str]) -> None:
    for line in lines[:MOST]:
        console.print(f" {line}")
    if len(lines) > MOST:
        console.print(f" … and {len(lines) - MOST:,} more: --json has all")


def _overlap(pair: ConceptOverlap) -> str:
    names = f"{escape(pair.first)} and {escape(pair.second)}"
    return f"{names}  {count(pair.shared, 'text')}, {pair.share:.0%} of the rarer"


def _nodes(done: ReadoutPairs) -> str:
    parts = [count(done.nodes, "node")]
    parts += [f"{done.short:,} too short"] if done.short else []
    parts += [f"{done.copies:,} with the text of another"] if done.copies else []
    return ", ".join(parts)


def _rows(concepts: list[ConceptCounts]) -> object:
    """A table with a row per concept, without empty columns."""
    cells = {
        "positive": [f"{c.positive:,}" for c in concepts],
        "negative": [f"{c.negative:,}" for c in concepts],
        "chosen of": [f"{c.positive_found:,} + {c.negative_found:,}" if c.chosen else "" for c in concepts],
        "by hand": [f"{c.by_hand:,}" if c.by_hand else "" for c in concepts],
        "between": [f"{c.between:,}" for c in concepts],
        "only mentioned": [f"{c.mentioned:,}" for c in concepts],
    }
    shown = {head: column for head, column in cells.items() if any(column)}
    rows = table("concept", *shown, right=shown)
    for concept, *row in zip(concepts, *shown.values(), strict=True):
        rows.add_row(escape(concept.concept), *row)
    return rows


def _available(concept: ConceptCounts) -> str:
    lacking = concept.positive_found == 0 and concept.highest is not None
    highest = f"; the highest score is {concept.highest:g}" if lacking else ""
    return f"{concept.positive_found:,} positive, {concept.negative_found:,} negative{highest}"
