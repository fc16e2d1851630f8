"""`persona export`."""

from __future__ import annotations

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.commands.build import SizeType
from persona.cli.complete import REV
from persona.cli.output import utf8
from persona.cli.render import count

FORMS = {
    "checkpoint": "a checkpoint, bit for bit",
    "adapter": "a PEFT adapter",
    "fp32": "a checkpoint of W + τ in fp32",
}


@click.command("export")
@click.argument("rev", required=False, type=REV)
@click.option(
    "--to", required=True, metavar="FILE", type=click.Path(readable=False), help="Configuration file to write (.yml)."
)
@click.option(
    "--base",
    metavar="PATH",
    type=click.Path(readable=False),
    help="Use the base in this folder instead of writing a copy.",
)
@click.option(
    "--dtype", metavar="DTYPE", help="Data type of the merged model: bf16, fp16 or fp32. [default: as in a build]"
)
@click.option(
    "--memory",
    type=SizeType(),
    default="500MB",
    show_default=True,
    metavar="SIZE",
    help="Maximum memory for tensors.",
)
@json_option
@click.pass_obj
def command(app: App, rev: str | None, to: str, base: str | None, dtype: str | None, memory: int) -> None:
    """Write a recipe as a mergekit configuration

    REV defaults to persona.toml. The vectors are written as checkpoints and adapters, in a folder named after FILE.
    Nothing is approximated: a recipe that mergekit cannot express is an error.

    \b
    persona export --to recipe.yml
    persona export main --to merge/recipe.yml --base ~/models/qwen2.5-0.5b
    """
    from persona.verbs.export import export

    done = export(
        app.repository(),
        app.path(to),
        rev,
        base=app.optional_path(base),
        dtype=dtype,
        memory=memory,
        progress=app.progress(),
    )

    def render(console: Console) -> None:
        state = f"[yellow]{done.commit[:7]}[/]{' with uncommitted edits' if done.edited else ''}"
        console.print(f"Exported {state} to {escape(utf8(to))}: {done.method}, {count(len(done.models), 'model')}")
        for model in done.models:
            console.print(f"  [green]{escape(model.name)}[/]   {FORMS[model.form]}   [dim]{escape(model.reference)}[/]")
        for text in done.notes:
            console.print(f" [yellow]note[/] {escape(text)}")
        console.print(f"To merge, run there: {escape(done.command)}")

    app.show("export", done, render)
