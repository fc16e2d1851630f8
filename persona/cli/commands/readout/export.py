"""``persona readout export``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import READOUT
from persona.cli.output import note, utf8
from persona.cli.render import count
from persona.errors import NoRepository
from persona.store.readouts import layers_text

if TYPE_CHECKING:
    from persona.repository import Repository
    from persona.verbs.readout.export import ReadoutExportResult


@click.command("export")
@click.argument("readout", type=READOUT, metavar="NAME|NAME@REV|FOLDER")
@click.option(
    "-o", "--out", required=True, type=click.Path(readable=False), metavar="OUT",
    help="The new folder; for npz the new file.",
)  # fmt: skip
@click.option("--format", type=click.Choice(("vllm", "gguf", "npz")), required=True, help="Who is to read it.")
@click.option("--concept", "concepts", multiple=True, metavar="NAME", help="Only this concept; may be repeated.")
@click.option("--layers", metavar="LIST", help="Only these layers, counted from 0, such as 3,5-8.")
@click.option(
    "--scale", type=click.Choice(("unit", "raw")), default="unit", show_default=True,
    help="Directions of length 1, or as long as they were before.",
)  # fmt: skip
@click.option("--replace", is_flag=True, help="Replace an earlier export.")
@json_option
@click.pass_obj
def command(
    app: App,
    readout: str,
    out: str,
    format: str,
    concepts: tuple[str, ...],
    layers: str | None,
    scale: str,
    replace: bool,
) -> None:
    """Write a readout for vLLM, for llama.cpp (a control vector for each concept), or as numpy arrays.

    Layers are blocks, counted from 0, in all three. llama.cpp cannot steer block 0.

    \b
    persona readout export feelings -o out/vllm --format vllm
    persona readout export feelings@HEAD~2 -o out/gguf --format gguf --concept warmth
    persona readout export out/feelings -o feelings.npz --format npz --layers 14-18
    """
    from persona.readout.layers import parse_indices
    from persona.verbs.readout.export import readout_export

    done = readout_export(
        _repository(app), readout, app.path(out), format=format, concepts=concepts,
        layers=parse_indices(layers) if layers is not None else (), scale=scale, replace=replace, cwd=app.folder,
    )  # fmt: skip
    for text in done.notes:
        note(f"note: {utf8(text)}")
    app.show("readout export", done, lambda console: _render(console, done))


def _repository(app: App) -> Repository | None:
    """A folder can be exported anywhere."""
    try:
        return app.repository()
    except NoRepository:
        return None


def _render(console: Console, done: ReadoutExportResult) -> None:

    what = f"{count(len(done.concepts), 'concept')}, {layers_text(done.layers)}"
    console.print(f"Wrote [bold]{escape(done.name)}[/] ({what}) into {escape(utf8(str(done.out)))}")
    for line in done.paste:
        console.print(escape(utf8(line)), soft_wrap=True)
