"""``persona build``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import REV
from persona.cli.output import note, utf8
from persona.cli.render import count, size

if TYPE_CHECKING:
    from persona.workspace.adapter import AdapterReport

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)I?B?", re.IGNORECASE)
_POWERS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

MAX_ERRORS = 3
"""Number of tensors to print for a compressed adapter: those with the largest errors."""


NAMED = 3
"""Number of tensors to name in a warning."""


class SizeType(click.ParamType[int]):
    """A number of bytes: 5GB, 200MB, 1500000. Also used by 'persona export'."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse a size; units are powers of 1000, and `5GiB` means the same as `5GB`."""
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"'{value}' is not a size such as 5GB or 200MB", param, ctx)
        return int(float(match[1]) * _POWERS[match[2].upper()])


@click.command("build")
@click.argument("rev", required=False, type=REV)
@click.option("-o", "--out", required=True, type=click.Path(readable=False), metavar="OUT", help="Folder to create.")
@click.option("--dtype", metavar="DTYPE", help="Data type of the weights: bf16, fp16 or fp32. [default: as stored]")
@click.option(
    "--shard-size", type=SizeType(), default="5GB", show_default=True, metavar="SIZE",
    help="Maximum size of a weight file. Not for adapters.",
)  # fmt: skip
@click.option(
    "--memory", type=SizeType(), default="500MB", show_default=True, metavar="SIZE",
    help="Maximum memory for tensors; less is slower, with the same result.",
)  # fmt: skip
@click.option(
    "--device", default="cpu", show_default=True, metavar="DEVICE", help="Device to build on: cpu, cuda or cuda:N."
)
@click.option("--replace", is_flag=True, help="Replace an earlier build in OUT.")
@click.option("--as-adapter", is_flag=True, help="Write a PEFT adapter for the base instead of a full model.")
@click.option(
    "--rank", type=int, metavar="R", help="With --as-adapter, approximate the recipe by an adapter of this rank."
)
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
    """Build the recipe into a model folder

    Builds REV, or the current persona.toml, into a folder that transformers can load. The folder appears complete or
    not at all.

    With --as-adapter, writes an adapter that PEFT and vLLM load onto the base. A linear recipe of LoRA vectors has an
    exact adapter, whose rank is the sum of theirs. For any other recipe, --rank R writes the nearest adapter of rank R
    and prints how much of the change it misses.

    \b
    persona build -o merged
    persona build HEAD~1 -o rolled-back --dtype bf16
    persona build -o adapter --as-adapter
    persona build -o adapter --as-adapter --rank 16
    """
    from persona.verbs.build import build

    result = build(
        app.repository(),
        app.path(out),
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
        state = f"[yellow]{result.commit[:7]}[/]{' with uncommitted edits' if result.edited else ''}"
        files = f"{count(result.tensors, 'tensor')}, {size(result.nbytes)} in {count(result.shards, 'file')}"
        console.print(f"Built {state} into {escape(utf8(out))}: {files}")
        if result.adapter is None:
            console.print(f" {result.combined} computed, {result.copied} copied bit for bit")
        else:
            _render_adapter(console, result.adapter, dtype)

    app.show("build", result, render)
    if result.not_finite and not app.json:
        shown = ", ".join(result.not_finite[:NAMED])
        more = f" and {len(result.not_finite) - NAMED} more" if len(result.not_finite) > NAMED else ""
        note(f"warning: {count(len(result.not_finite), 'tensor')} with infinities or NaNs: {shown}{more}")


def _render_adapter(console: Console, report: AdapterReport, dtype: str | None) -> None:
    """Print an adapter's rank and how closely it represents the recipe.

    Only a compressed adapter has errors (relative to the change of the weights): prints the total and the largest.
    """
    if report.error is not None:
        fidelity = f"misses {report.error:.3g} of the change"
    elif dtype in (None, "fp32", "float32"):
        fidelity = "exactly the recipe"
    else:
        fidelity = f"the recipe, with factors rounded to {dtype}"
    console.print(f" adapter of rank {report.rank} for {count(report.modules, 'module')}: {fidelity}")
    by_error = sorted(report.tensors, key=lambda tensor: (-tensor.error, tensor.name))
    for tensor in by_error[:MAX_ERRORS]:
        console.print(f"  {tensor.error:.3g} {escape(tensor.name)}", style="dim")
    if len(by_error) > MAX_ERRORS:
        console.print(f"  and {len(by_error) - MAX_ERRORS} with smaller errors; --json lists all", style="dim")
    names_by_reason: dict[str, list[str]] = {}
    for skipped in report.left_out:
        names_by_reason.setdefault(skipped.why, []).append(skipped.name)
    for why, names in names_by_reason.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        console.print(f" left out (included in the error): {escape(names[0])}{more}: {escape(why)}")
    if report.files:
        console.print(f" left out: changes to {escape(', '.join(report.files))}")
