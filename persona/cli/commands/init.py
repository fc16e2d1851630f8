"""`persona init`."""

from __future__ import annotations

from typing import Literal

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.output import utf8
from persona.cli.render import count, size

MEANING = {
    "link": "Weight files are shared with the base's folder: do not modify them there (deleting them is fine)",
    "reference": "Not self-contained: keep the base's weight files where they are, and do not modify them",
}


class _Init(click.Command):
    """Takes ``--shared`` without a value, which it never looks for in the next argument: that may be a folder."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Complete a lone ``--shared``."""
        return super().parse_args(ctx, ["--shared=group" if one == "--shared" else one for one in args])


@click.command("init", cls=_Init)
@click.option(
    "--base",
    required=True,
    type=click.Path(readable=False),
    metavar="PATH",
    help="Folder of the pretrained checkpoint.",
)
@click.option("--link", is_flag=True, help="Hard-link the base's weight files instead of copying them.")
@click.option("--reference", is_flag=True, help="Store only the hashes and paths of the base's weight files.")
@click.option("--allow-code", is_flag=True, help="Store the base's Python files too, for models that need them.")
@click.option(
    "--shared",
    type=click.Choice(["group", "all"]),
    help="Let the group of its files use the repository, or also let all others read it. [default: as the umask says]",
)
@click.option("--name", metavar="NAME", help="Name of the base. [default: name of its folder]")
@click.argument("path", default=".", type=click.Path(readable=False))
@json_option
@click.pass_obj
def command(
    app: App,
    base: str,
    link: bool,
    reference: bool,
    allow_code: bool,
    shared: Literal["group", "all"] | None,
    name: str | None,
    path: str,
) -> None:
    """Create a repository for a base checkpoint

    By default, the base is copied into the repository. --link shares its weight files with their folder: it takes no
    space, and the originals can be deleted, but modifying them damages the repository (persona notices when it reads
    them). With --reference, the weight files must stay where they are, unmodified.

    Some models bring Python code, which transformers runs with trust_remote_code=True. Builds have the code only with
    --allow-code. persona itself never runs it.

    --shared (or --shared=group) is for several people of one group: whatever the umask of who writes, the others can read
    and write. It sets core.shared in the repository's config.toml.

    \b
    persona init --base ~/models/qwen2.5-0.5b
    persona init --base ~/models/qwen2.5-0.5b my-assistant
    persona init --base ~/models/qwen2.5-0.5b --link
    persona init --base /mnt/models/llama-70b --reference
    persona init --base ~/models/qwen2.5-0.5b --shared team-assistant
    """
    from persona.repository import Repository
    from persona.verbs.init import init

    if link and reference:
        raise click.UsageError("--link and --reference cannot be used together")
    root = app.path(path)
    done = init(
        root,
        app.path(base),
        name=name,
        keep="link" if link else "reference" if reference else "copy",
        allow_code=allow_code,
        shared=shared or "umask",
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
        for note in done.notes:
            console.print(f"note: {escape(utf8(note))}", style="dim")
        console.print("Next: persona commit RUN --as NAME", style="dim", markup=False)

    app.show("init", done, render)
