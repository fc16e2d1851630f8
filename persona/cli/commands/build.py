"""``persona build``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import REV
from persona.cli.output import utf8
from persona.cli.render import count, size

if TYPE_CHECKING:
    from persona.workspace.adapter import AdapterReport

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)I?B?", re.IGNORECASE)
_POWERS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

WORST = 3
"""Tensors of a compressed adapter that are printed."""


class SizeType(click.ParamType[int]):
    """A number of bytes: 5GB, 200MB, 1500000."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes, in powers of 1000 as transformers counts them."""
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"'{value}' is not a size; write it like 5GB or 200MB", param, ctx)
        return int(float(match[1]) * _POWERS[match[2].upper()])


@click.command("build")
@click.argument("rev", required=False, type=REV)
@click.option("-o", "--out", required=True, type=click.Path(readable=False), metavar="OUT", help="Folder to make.")
@click.option("--dtype", metavar="D", help="bf16, fp16 or fp32; as the checkpoints have it otherwise.")
@click.option(
    "--shard-size", type=SizeType(), default="5GB", show_default=True, metavar="SIZE", help="Largest weight file."
)
@click.option(
    "--memory", type=SizeType(), default="500MB", show_default=True, metavar="SIZE",
    help="Tensors held at once, at most; less is slower, never different.",
)  # fmt: skip
@click.option("--device", default="cpu", show_default=True, metavar="D", help="cpu, or a GPU: cuda, cuda:1.")
@click.option("--replace", is_flag=True, help="Replace an earlier build in OUT.")
@click.option("--as-adapter", is_flag=True, help="Make a PEFT adapter of it, to be loaded onto the base.")
@click.option("--rank", type=int, metavar="R", help="The nearest adapter of this rank, where no exact one exists.")
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
    as_adapter: bool,
    rank: int | None,
) -> None:
    """Make the model that the recipe describes, as a folder that transformers loads.

    Without REV it is the recipe as it stands in persona.toml. The folder appears whole or not at all.

    With --as-adapter it is a folder that PEFT and vLLM load onto the base. A linear recipe of LoRA vectors alone is
    one adapter exactly, whose rank is the sum of theirs; of any other recipe, --rank R makes the nearest one of rank
    R, and prints how much of the change it misses.

    \b
    persona build -o merged
    persona build HEAD~1 -o rolled-back --dtype bf16
    persona build -o adapter --as-adapter
    persona build -o adapter --as-adapter --rank 16
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
        as_adapter=as_adapter,
        rank=rank,
        progress=app.progress(),
    )

    def render(console: Console) -> None:
        state = f"[yellow]{done.commit[:7]}[/]{' with uncommitted edits' if done.edited else ''}"
        files = f"{count(done.tensors, 'tensor')}, {size(done.nbytes)} in {count(done.shards, 'file')}"
        console.print(f"Built {state} into {escape(utf8(out))}: {files}")
        if done.adapter is None:
            console.print(f" {done.combined} computed, {done.copied} copied bit for bit")
        else:
            _render_adapter(console, done.adapter, dtype)

    app.show("build", done, render)


def _render_adapter(console: Console, made: AdapterReport, dtype: str | None) -> None:
    """Rank, and for a compressed one what it misses, the worst first."""
    exact = "exactly the recipe" if made.error is None else f"misses {made.error:.3g} of ‖δ‖"
    if made.error is None and dtype not in (None, "fp32", "float32"):
        exact = f"the recipe, its factors rounded to {dtype}"
    console.print(f" an adapter of rank {made.rank} for {count(made.modules, 'module')}: {exact}")
    worst = sorted(made.tensors, key=lambda one: (-one.error, one.name))
    for one in worst[:WORST]:
        console.print(f"  {one.error:.3g} {escape(one.name)}", style="dim")
    if len(worst) > WORST:
        console.print(f"  and less in {count(len(worst) - WORST, 'other')}; --json has all of them", style="dim")
    reasons: dict[str, list[str]] = {}
    for left in made.left_out:
        reasons.setdefault(left.why, []).append(left.name)
    for why, names in reasons.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        console.print(f" not in it, and counted as missed: {escape(names[0])}{more}: {escape(why)}")
    if made.files:
        console.print(f" not in it: what vectors change in {escape(', '.join(made.files))}")
