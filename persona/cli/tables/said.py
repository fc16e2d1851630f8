"""What models replied, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from persona.cli.render import count, table
from persona.cli.tables.scores import STYLES, number

if TYPE_CHECKING:
    from rich.console import Console

    from persona.history.evaluations import Better
    from persona.verbs.eval import MeasureReplies


def replies(console: Console, done: MeasureReplies) -> None:
    """Print each prompt of a measure, and below it what each build replied."""
    kept, heading = len(done.prompts), f"[cyan]{escape(done.suite)}[/]  [bold]{escape(done.measure)}[/]"
    some = f" (the first {kept} of {done.examples:,})" if kept < done.examples else ""
    console.print(f"{heading}  replies to {count(done.examples, 'prompt')}{some}; yes: it meets the rule")
    for prompt in done.prompts:
        console.print()
        console.print(f"[bold]{escape(_one_line(prompt.prompt))}[/]")
        rows = table("", "", "")
        rows.show_header = False
        for one in prompt.replies:
            reply = escape(_one_line(one.reply)) or "[dim](nothing)[/]"
            rows.add_row(f"  {escape(one.build)}", _verdict(one.score, done.better), reply)
        console.print(rows)


def _verdict(score: float, better: Better | None) -> str:
    """``yes``, ``no``, or the number between them, coloured by what is better."""
    text = {0.0: "no", 1.0: "yes"}.get(score, number(score))
    if better is None or score not in (0, 1):
        return text
    return f"[{STYLES['better' if (score == 1) == (better == 'higher') else 'worse']}]{text}[/]"


def _one_line(text: str) -> str:
    return " ".join(text.split())
