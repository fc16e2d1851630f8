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

from persona.cli.app import App, json_option, stdout, utf8
from persona.cli.render import size, table
from persona.errors import Refusal

if TYPE_CHECKING:
    from persona.demo.story import Told


@click.command("demo")
@click.option(
    "--keep",
    type=click.Path(readable=False),
    metavar="DIR",
    help="Leave the repository, models and builds in this new folder.",
)
@click.option("--seed", default=0, show_default=True, metavar="N", help="Seed of the text and of the training.")
@click.option("--quick", is_flag=True, help="A model too small to speak: to see in seconds that everything runs.")
@json_option
@click.pass_obj
def command(app: App, keep: str | None, seed: int, quick: bool) -> int:
    """See the whole story on a model that is trained here, with no download, in two or three minutes.

    It trains a small base and three behaviours, commits them, takes one away, builds, rolls back, and measures
    what came of it. Exits with 1 if what it set out to show did not show.

    \b
    persona demo
    persona demo --keep my-demo
    """
    root = app.optional_path(keep)
    if root is not None:
        _check_new(root)
    with ExitStack() as stack:
        folder = root or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="persona-demo-")))
        told = _tell(app, folder.absolute(), seed, quick)
    app.show("demo", told, lambda console: _render(console, told, root))
    return 0 if told.rolled_back_identical and all(one.holds for one in told.findings) else 1


def _check_new(root: Path) -> None:
    from persona import files

    with files.translated(root):
        if root.exists() and not root.is_dir():
            raise Refusal(f"{root} is a file", "Choose a new folder for --keep.")
        if root.exists() and any(root.iterdir()):
            raise Refusal(f"{root} is not empty", "Choose a new folder for --keep.")


def _tell(app: App, folder: Path, seed: int, quick: bool) -> Told:
    if not app.json:
        stdout().print("Loading torch and transformers …", style="dim")
    from persona.demo.story import tell
    from persona.demo.training import FULL, QUICK

    return tell(folder, _Aloud(app), app.progress(), QUICK if quick else FULL, seed)


class _Aloud:
    """Tells the story on stdout, or nowhere when the result is wanted as JSON."""

    def __init__(self, app: App) -> None:
        self._console = None if app.json else stdout()

    def chapter(self, title: str) -> None:
        """A new part begins."""
        if self._console:
            self._console.print(f"\n[bold]{escape(title)}[/]")

    def command(self, text: str) -> None:
        """What a person would type."""
        if self._console:
            self._console.print(f"[cyan]$ {escape(text)}[/]")

    def say(self, text: str) -> None:
        """What came of it."""
        if self._console:
            self._console.print(f"  {escape(text)}", style="dim")


def _render(console: Console, told: Told, root: Path | None) -> None:
    _losses(console, told)
    _shares(console, told)
    console.print("\n[bold]What they say[/] (greedy, on prompts that no run has seen)")
    for reply in told.replies:
        console.print(f"\n  {escape(reply.prompt)}", style="italic")
        console.print(f"    base         {escape(reply.before)}")
        console.print(f"    personality  {escape(reply.after)}")
    console.print("\n[bold]What it showed[/] (± is twice the standard error)")
    for one in told.findings:
        mark = "[green]yes[/]" if one.holds else "[bold red]NO [/]"
        console.print(f"  {mark}  {escape(one.claim)}: {escape(one.numbers)}")
    mark = "[green]yes[/]" if told.rolled_back_identical else "[bold red]NO [/]"
    console.print(f"  {mark}  the rolled-back build is the first one, byte for byte")
    console.print(
        f"\nKept: {size(told.kept_bytes)} for the base and the runs; whole checkpoints would take {size(told.whole_bytes)}."
    )
    if root is not None:
        where = utf8(str(root))
        console.print(f"Everything is in {escape(where)}. Next: cd {escape(shlex.quote(where))} && persona log")


def _losses(console: Console, told: Told) -> None:
    from persona.demo.dialogues import KINDS

    console.print("\n[bold]Loss on held-out replies of each kind[/] (nats per token; lower is more like it)")
    rows = table("build", *KINDS, right=KINDS)
    base = told.measured[0]
    for one in told.measured:
        rows.add_row(escape(one.build), *(_cell(one.losses[kind], base.losses[kind]) for kind in KINDS))
    console.print(rows)


def _cell(loss: float, base: float) -> str:
    text = f"{loss:.3f}"
    if loss < 0.8 * base:
        return f"[green]{text}[/]"
    return f"[red]{text}[/]" if loss > 1.25 * base else text


def _shares(console: Console, told: Told) -> None:
    from persona.demo.dialogues import KINDS

    console.print('\n[bold]What sampled replies do[/] when the user has decided ("I have decided to …")')
    rows = table("build", *KINDS, right=KINDS)
    for one in told.measured:
        rows.add_row(escape(one.build), *(f"{one.shares[kind]:.0%}" for kind in KINDS))
    console.print(rows)
