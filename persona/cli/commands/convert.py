"""`persona convert`."""

from __future__ import annotations

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.output import utf8
from persona.cli.render import count, notes, size


@click.command("convert")
@click.argument("path", type=click.Path(readable=False), metavar="PATH")
@click.option("-o", "--out", required=True, type=click.Path(readable=False), metavar="OUT", help="Folder to create.")
@json_option
@click.pass_obj
def command(app: App, path: str, out: str) -> None:
    """Convert weights to safetensors

    PATH is a .bin or .pt file or a folder of them, a folder of sharded FSDP weights, or a .gguf file. Configs and
    tokenizer are copied too. No code in a pickle is run: a file that needs that is refused. The weights of a GGUF file
    are dequantized to fp32.

    \b
    persona convert old-model -o old-model-safe
    persona convert runs/voice/adapter_model.bin -o voice-safe
    persona convert runs/voice/checkpoint-300 -o voice-safe
    persona convert model-q8_0.gguf -o model
    """
    from persona.verbs.convert import convert

    done = convert(app.path(path), app.path(out), progress=app.progress())

    def render(console: Console) -> None:
        console.print(f"Wrote {escape(utf8(out))}: {count(done.tensors, 'tensor')}, {size(done.nbytes)}")
        if done.files:
            console.print(f" with {escape(utf8(', '.join(done.files)))}")
        notes(console, done.notes)

    app.show("convert", done, render)
