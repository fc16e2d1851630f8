"""``persona demo``."""

from __future__ import annotations

import shlex
import tempfile
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
    from persona.demo.telling import DemoResult, DemoTable, TableCell


@click.command("demo")
@click.option(
    "--keep",
    type=click.Path(readable=False),
    metavar="DIR",
    help="Leave the repository, models and builds in this new folder, with the story as a page: story.html.",
)
@click.option(
    "--page", type=click.Path(readable=False), metavar="FILE", help="Write the story as a page, pictures and all."
)
@click.option("--seed", default=0, show_default=True, metavar="N", help="Seed of the text and of the training.")
@click.option("--quick", is_flag=True, help="A model too small to speak: to see in seconds that everything runs.")
@json_option
@click.pass_obj
def command(app: App, keep: str | None, page: str | None, seed: int, quick: bool) -> int:
    """See the whole story on a model that is trained here, with no download, in a few minutes.

    A base is trained, and five behaviours that notes specify; each is committed, measured alone, merged under several
    methods, and one is taken away. One was planted to be bad: blame finds it. Then it builds, verifies, and rolls back.
    Exits with 1 if what it set out to show did not show; with --quick, which shows little, if it did not roll back.

    \b
    persona demo
    persona demo --keep my-demo
    persona demo --page story.html
    """
    from persona import files

    root, target = app.optional_path(keep), app.optional_path(page)
    if root is not None:
        _check_new(root)
    if target is not None:
        _check_page(target)
    elif root is not None:
        target = root / "story.html"
    with ExitStack() as stack:
        folder = root or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="persona-demo-")))
        told = _tell(app, folder.absolute(), seed, quick)
    if target is not None:
        from persona.demo.page import page_of

        files.write_file(target, page_of(told).encode())
    app.show("demo", told, lambda console: _render(console, told, root, target, quick=quick))
    return 0 if told.rolled_back_identical and (quick or all(one.holds for one in told.findings)) else 1


def _check_new(root: Path) -> None:
    from persona import files

    with files.translated(root):
        if root.exists() and not root.is_dir():
            raise Refusal(f"{root} is a file", "Choose a new folder for --keep.")
        if root.exists() and any(root.iterdir()):
            raise Refusal(f"{root} is not empty", "Choose a new folder for --keep.")


def _check_page(path: Path) -> None:
    """Before minutes of work: is there a place for the page?"""
    if path.is_dir():
        raise Refusal(f"{path} is a folder", "Name a file for the page, such as story.html.")
    if not path.parent.is_dir():
        raise Refusal(f"there is no folder {path.parent}", "Make it first, or write the page elsewhere.")


def _tell(app: App, folder: Path, seed: int, quick: bool) -> DemoResult:
    if not app.json:
        stdout().print("Loading torch and transformers …", style="dim")
    from persona.demo.story import tell
    from persona.demo.training import FULL, QUICK

    return tell(folder, _Aloud(app), app.progress(), QUICK if quick else FULL, seed)


class _Aloud:
    """Tells the story on stdout, or nowhere when the result is wanted as JSON."""

    def __init__(self, app: App) -> None:
        self._console = None if app.json else stdout()

    def chapter(self, title: str, text: str) -> None:
        """A new part begins."""
        if self._console:
            self._console.print(f"\n[bold]{escape(title)}[/]")
            self._console.print(escape(text), style="dim")

    def command(self, text: str) -> None:
        """What a person would type."""
        if self._console:
            self._console.print(f"[cyan]$ {escape(text)}[/]", soft_wrap=True)

    def say(self, text: str) -> None:
        """What came of it."""
        if self._console:
            self._console.print(f"  {escape(text)}", style="dim")

    def table(self, table: DemoTable) -> None:
        """What was measured; a curve of many points as one line."""
        if self._console:
            _table(self._console, table)


def _table(console: Console, told: DemoTable) -> None:
    if told.picture == LINES:
        losses = [row.cells[0].value for row in told.rows if row.cells[0] is not None]
        console.print(f"  {escape(told.title)}  {sparkline(losses)}  {number(losses[0])} → {number(losses[-1])}")
        return
    unit = f", {told.unit}" if told.unit else ""
    note = f". {told.note}" if told.note else ""
    console.print(f"\n  [bold]{escape(told.title)}[/][dim]{escape(unit)}{escape(note)}[/]")
    rows = table("", *told.columns, right=told.columns)
    for row in told.rows:
        rows.add_row(f"  {escape(row.label)}", *(_cell(told, cell) for cell in row.cells))
    console.print(rows)


def _cell(told: DemoTable, cell: TableCell | None) -> str:
    if cell is None:
        return ""
    if cell.low is None and abs(cell.value) > 1 and float(cell.value).is_integer():
        return f"{cell.value:,.0f}"
    text = number(cell.value, sign=is_difference(told))
    return f"[{STYLES[cell.verdict]}]{text}[/]" if cell.verdict in STYLES else text


def _render(console: Console, told: DemoResult, root: Path | None, page: Path | None, *, quick: bool = False) -> None:
    console.print("\n[bold]What they say[/] (greedy, on prompts that no run has seen)")
    for reply in told.replies:
        console.print(f"\n  {escape(reply.prompt)}", style="italic")
        console.print(f"    base         {escape(reply.before)}")
        console.print(f"    personality  {escape(reply.after)}")
    console.print(
        "\n[bold]What it showed[/] (with 95 % intervals; green is better, red worse than what it is compared with)"
    )
    for one in told.findings:
        mark = "[green]yes[/]" if one.holds else "[bold red]NO [/]"
        console.print(f"  {mark}  {escape(one.claim)}: {escape(one.numbers)}")
    if quick and not all(one.holds for one in told.findings):
        console.print(
            "  (With --quick the model is too small to speak: what did not show here shows without it.)", style="dim"
        )
    console.print(
        f"\nKept: {size(told.kept_bytes)} for the base and the runs; whole checkpoints would take {size(told.whole_bytes)}."
    )
    if page is not None:
        console.print(f"The whole story as a page: {escape(utf8(str(page)))}")
    if root is not None:
        where = utf8(str(root))
        console.print(f"Everything is in {escape(where)}. Next: cd {escape(shlex.quote(where))} && persona log")
