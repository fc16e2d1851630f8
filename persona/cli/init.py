"""``persona init``."""

from __future__ import annotations

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option, utf8
from persona.cli.render import count, size


@click.command("init")
@click.option(
    "--base",
    required=True,
    type=click.Path(readable=False),
    metavar="PATH",
    help="Folder of the pretrained checkpoint.",
)
@click.option("--name", metavar="NAME", help="What to call the base; its folder's name otherwise.")
@click.argument("path", default=".", type=click.Path(readable=False))
@json_option
@click.pass_obj
def command(app: App, base: str, name: str | None, path: str) -> None:
    """Make a repository around a base checkpoint.

    \b
    persona init --base ~/models/qwen2.5-0.5b
    persona init --base ~/models/qwen2.5-0.5b my-assistant
    """
    from persona.repository import Repository
    from persona.verbs.init import init

    root = app.path(path)
    author = app.author(Repository(root))
    done = init(root, app.path(base), name=name, author=author, command=app.command, progress=app.progress())

    def render(console: Console) -> None:
        weights = f"{count(done.tensors, 'tensor')}, {done.weights:,} weights, {size(done.nbytes)}"
        console.print(f"Repository in {utf8(str(done.root.resolve()))}", markup=False)
        console.print(
            f"\\[main {done.commit[:7]}] base [bold]{escape(done.base_name)}[/] ({done.base.short})  {weights}"
        )
        console.print("Next: persona commit RUN --as NAME", style="dim", markup=False)

    app.show("init", done, render)
