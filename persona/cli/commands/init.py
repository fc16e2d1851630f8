"""``persona init``."""

from __future__ import annotations

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.output import utf8
from persona.cli.render import count, size

MEANING = {
    "link": "Its weight files are shared with the base: do not write into them (deleting them there is fine)",
    "reference": "Not self-contained: the base's weights stay where they are, and must stay there unchanged",
}


@click.command("init")
@click.option(
    "--base",
    required=True,
    type=click.Path(readable=False),
    metavar="PATH",
    help="Folder of the pretrained checkpoint.",
)
@click.option("--link", is_flag=True, help="Share the base's weight files (hard links) instead of copying them.")
@click.option(
    "--reference", is_flag=True, help="Keep no bytes of the base's weight files, only hashes and where they lie."
)
@click.option("--name", metavar="NAME", help="What to call the base; its folder's name otherwise.")
@click.argument("path", default=".", type=click.Path(readable=False))
@json_option
@click.pass_obj
def command(app: App, base: str, link: bool, reference: bool, name: str | None, path: str) -> None:
    """Make a repository around a base checkpoint.

    The repository gets a copy of the base. With --link it shares the base's weight files: they take no room, and may
    be deleted where they are, but whatever writes into one of them damages the repository (reading finds it). With
    --reference it only remembers them: they must stay where they are, as they are.

    \b
    persona init --base ~/models/qwen2.5-0.5b
    persona init --base ~/models/qwen2.5-0.5b my-assistant
    persona init --base ~/models/qwen2.5-0.5b --link
    persona init --base /mnt/models/llama-70b --reference
    """
    from persona.repository import Repository
    from persona.verbs.init import init

    if link and reference:
        raise click.UsageError("--link and --reference exclude each other: give one of them, or none to keep a copy")
    root = app.path(path)
    done = init(
        root,
        app.path(base),
        name=name,
        keep="link" if link else "reference" if reference else "copy",
        author=app.author(Repository(root)),
        command=app.command,
        progress=app.progress(),
    )

    def render(console: Console) -> None:
        weights = f"{count(done.tensors, 'tensor')}, {done.weights:,} weights, {size(done.nbytes)}"
        console.print(f"Repository in {utf8(str(done.root.resolve()))}", markup=False)
        console.print(
            f"\\[main {done.commit[:7]}] base [bold]{escape(done.base_name)}[/] ({done.base.short})  {weights}"
        )
        if done.kept in MEANING:
            console.print(MEANING[done.kept])
        console.print("Next: persona commit RUN --as NAME", style="dim", markup=False)

    app.show("init", done, render)
