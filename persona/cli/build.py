"""``persona build``."""

from __future__ import annotations

import re

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option, utf8
from persona.cli.render import count, size

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)I?B?", re.IGNORECASE)
_POWERS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class Size(click.ParamType[int]):
    """A number of bytes: 5GB, 200MB, 1500000."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes, in powers of 1000 as transformers counts them."""
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"'{value}' is not a size; write it like 5GB or 200MB", param, ctx)
        return int(float(match[1]) * _POWERS[match[2].upper()])


@click.command("build")
@click.argument("rev", required=False)
@click.option("-o", "--out", required=True, type=click.Path(readable=False), metavar="OUT", help="Folder to make.")
@click.option("--dtype", metavar="D", help="bf16, fp16 or fp32; as the checkpoints have it otherwise.")
@click.option(
    "--shard-size", type=Size(), default="5GB", show_default=True, metavar="SIZE", help="Largest weight file."
)
@click.option(
    "--memory", type=Size(), default="500MB", show_default=True, metavar="SIZE",
    help="Tensors held at once, at most; less is slower, never different.",
)  # fmt: skip
@click.option("--device", default="cpu", show_default=True, metavar="D", help="cpu, or a GPU: cuda, cuda:1.")
@click.option("--replace", is_flag=True, help="Replace an earlier build in OUT.")
@json_option
@click.pass_obj
def command(
    app: App,
    rev: str | None,
    out: str,
    dtype: str | None,
    shard_size: int,
    memory: int,
    device: str,
    replace: bool,
) -> None:
    """Make the model that the recipe describes, as a folder that transformers loads.

    Without REV it is the recipe as it stands in persona.toml. The folder appears whole or not at all.

    \b
    persona build -o merged
    persona build HEAD~1 -o rolled-back --dtype bf16
    """
    from persona.verbs.build import build

    target = app.path(out)
    done = build(
        app.repository(),
        target,
        rev,
        dtype=dtype,
        shard_size=shard_size,
        replace=replace,
        memory=memory,
        device=device,
        progress=app.progress(),
    )

    def render(console: Console) -> None:
        state = f"[yellow]{done.commit[:7]}[/]{' with uncommitted edits' if done.edited else ''}"
        files = f"{count(done.tensors, 'tensor')}, {size(done.nbytes)} in {count(done.shards, 'file')}"
        console.print(f"Built {state} into {escape(utf8(out))}: {files}")
        console.print(f" {done.combined} computed, {done.copied} copied bit for bit")

    app.show("build", done, render)
