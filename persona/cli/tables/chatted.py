"""Replies of models, side by side or one below the other, and what vectors did to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from persona.cli.render import table
from persona.recipe.alphas import alpha_text

if TYPE_CHECKING:
    from rich.console import Console

    from persona.verbs.chat import ChatPrompt, ChatResult
    from persona.workspace.conversation import ConceptReading, Explanation


def result(console: Console, done: ChatResult) -> None:
    """Print each prompt with the replies: in columns on a terminal, else a line each."""
    for number, prompt in enumerate(done.prompts):
        if number:
            console.print()
        console.print(f"[bold]{escape(' '.join(prompt.prompt.split()))}[/]")
        if console.is_terminal and len(prompt.replies) > 1:
            texts = [_with_readings(escape(reply.text), reply.readings) for reply in prompt.replies]
            console.print(columns([reply.model for reply in prompt.replies], texts))
        else:
            console.print(_lines(prompt))
    if done.units is not None:
        console.print(f"\n[dim]Readings are in {unit_name(done.units)}.[/]")


def columns(labels: Sequence[str], texts: Sequence[str]) -> Table:
    """Texts, in markup, side by side under their labels."""
    side = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="cyan", expand=True)
    for label in labels:
        side.add_column(escape(label), ratio=1, overflow="fold")
    side.add_row(*texts)
    return side


def readings(found: Sequence[ConceptReading]) -> str:
    """Readings in one line: ``warmth +1.20  calm -0.31``."""
    return "  ".join(f"{reading.concept} {reading.value:+.2f}" for reading in found)


def unit_name(units: str) -> str:
    """Name the units of readings."""
    return "standard deviations from the mean of texts without the concept" if units == "std" else "raw units"


def explanation(console: Console, done: Explanation) -> None:
    """Print what each vector adds to a reply's log-probability."""
    tokens = len(done.reply.tokens)
    each = f", {done.log_probability / tokens:.2f} per token" if tokens else ""
    console.print(f"log-probability of the reply: {done.log_probability:.2f}{each}")
    rows = table("vector", "alpha", "adds", right={"alpha", "adds"}, whole=("adds",))
    for row in done.vectors:
        adds = f"{row.difference:+.2f}" if row.difference is not None else f"[dim]{escape(row.problem)}[/]"
        rows.add_row(escape(row.vector), alpha_text(row.alpha), adds)
    if done.vectors:
        console.print(rows)
        console.print(
            "[dim]adds: what leaving the vector out takes away; above 0, the reply is more probable with it[/]"
        )
    else:
        console.print("[dim]The recipe has no active vectors.[/]")


def _with_readings(text: str, found: Sequence[ConceptReading]) -> str:
    return f"{text}\n[dim]{escape(readings(found))}[/]" if found else text


def _lines(prompt: ChatPrompt) -> Table:
    rows = table("", "", "")
    rows.show_header = False
    for reply in prompt.replies:
        text = escape(" ".join(reply.text.split())) or "[dim](nothing)[/]"
        rows.add_row(f"  {escape(reply.model)}", text, f"[dim]{escape(readings(reply.readings))}[/]")
    return rows
