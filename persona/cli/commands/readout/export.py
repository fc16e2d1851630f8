"""`persona readout export`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import READOUT
from persona.cli.output import note, utf8
from persona.cli.readout_running import repository_if_any
from persona.cli.render import count
from persona.store.readouts import layers_text

if TYPE_CHECKING:
    from persona.verbs.readout.export import ReadoutExportResult


@click.command("export")
@click.argument("readout", type=READOUT, metavar="NAME|NAME@REV|FOLDER")
@click.option(
    "-o", "--out", required=True, type=click.Path(readable=False), metavar="OUT",
    help="New folder to write, or new file for npz.",
)  # fmt: skip
@click.option(
    "--format", type=click.Choice(("vllm", "gguf", "npz")), required=True,
    help="Format: for a vLLM plugin, llama.cpp control vectors, or numpy arrays.",
)  # fmt: skip
@click.option("--concept", "concepts", multiple=True, metavar="NAME", help="Export only this concept; repeatable.")
@click.option("--layers", metavar="LAYERS", help="Export only these layers, counted from 0, such as 3,5-8.")
@click.option(
    "--scale", type=click.Choice(("unit", "raw")), default="unit", show_default=True,
    help="Length of the directions: 1, or the original length.",
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
    """Export a readout for vLLM, llama.cpp or numpy

    All formats count layers (blocks) from 0. llama.cpp gets one control vector per concept, and cannot steer layer 0.
    vLLM itself reads no readouts: that format is for a plugin, which finds the files by the two variables printed.

    \b
    persona readout export feelings -o out/vllm --format vllm
    persona readout export feelings@HEAD~2 -o out/gguf --format gguf --concept warmth
    persona readout export out/feelings -o feelings.npz --format npz --layers 14-18
    """
    from persona.readout.layers import parse_indices
    from persona.verbs.readout.export import readout_export

    done = readout_export(
        repository_if_any(app), readout, app.path(out), format=format, concepts=concepts,
        layers=parse_indices(layers) if layers is not None else (), scale=scale, replace=replace, cwd=app.folder,
    )  # fmt: skip
    for text in done.notes:
        note(f"note: {utf8(text)}")
    app.show("readout export", done, lambda console: _render(console, done))


def _render(console: Console, done: ReadoutExportResult) -> None:
    what = f"{count(len(done.concepts), 'concept')}, {layers_text(done.layers)}"
    console.print(f"Wrote [bold]{escape(done.name)}[/] ({what}) to {escape(utf8(str(done.out)))}")
    for line in done.paste:
        console.print(escape(utf8(line)), soft_wrap=True)
