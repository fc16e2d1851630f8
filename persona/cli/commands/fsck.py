"""``persona fsck``."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.render import count, short, size, table

if TYPE_CHECKING:
    from persona.verbs.fsck import CheckReport, LostObject

MOST = 20
"""Losses that are listed before the rest is only counted."""


@click.command("fsck")
@click.option("--sample", metavar="P%", help="Read only this share of the tensors' bytes, chosen by chance.")
@click.option("--seed", type=int, metavar="N", help="Choose the same sample again.")
@click.option(
    "--repair-from",
    metavar="PATH",
    type=click.Path(readable=False),
    help="Store again what is lost and what the checkpoint in this folder has.",
)
@json_option
@click.pass_obj
def command(app: App, sample: str | None, seed: int | None, repair_from: str | None) -> int:
    """Examine everything that is stored, and say what is lost and which commits and vectors that touches.

    It ends with 1 if anything is damaged or missing. To heal, give the base, the run or the adapter that was
    recorded. A base that was moved after init --reference is referred to where you say.

    \b
    persona fsck
    persona fsck --sample 5%
    persona fsck --repair-from runs/listening
    """
    from persona.verbs.fsck import fsck, open_damaged

    share = _share(sample)
    if share < 1 and repair_from is not None:
        raise click.UsageError("--repair-from reads everything: leave out --sample")
    done = fsck(
        open_damaged(Path(app.folder)),
        sample=share,
        seed=random.randrange(100_000) if seed is None else seed,
        repair_from=app.optional_path(repair_from),
        command=app.command,
        progress=app.progress(),
    )
    app.show("fsck", done, lambda console: _render(console, done))
    return 0 if done.ok else 1


def _share(text: str | None) -> float:
    if text is None:
        return 1.0
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise click.BadParameter(f"'{text}' is not a percentage from 0 to 100", param_hint="--sample")
    return share


def _render(console: Console, done: CheckReport) -> None:
    for text in done.healed:
        console.print(f"[green]healed:[/] {escape(text)}")
    for text in done.problems:
        console.print(f"[red]damaged:[/] {escape(text)}")
    if done.lost:
        _losses(console, done.lost)
    for text in done.notes:
        console.print(f"note: {escape(text)}", style="dim")
    if done.outside:
        console.print(f"Not self-contained: it keeps no bytes of {escape(_few(list(done.outside)))}")
    console.print(_summary(done))
    if done.ok:
        console.print("[green]Everything that was checked is whole.[/]")
        return
    found = [count(len(done.lost), "loss").replace("losss", "losses")] if done.lost else []
    found += [count(len(done.problems), "other fault")] if done.problems else []
    console.print(f"[red]{' and '.join(found)}.[/] Next: persona fsck --repair-from PATH, or restore from a backup")


def _losses(console: Console, lost: tuple[LostObject, ...]) -> None:
    rows = table("lost", "id", "how", "lies in", "commits", "vectors")
    for loss in lost[:MOST]:
        commits = [f"{short(one.commit)} {one.subject}".strip() for one in loss.commits]
        rows.add_row(
            loss.kind,
            loss.id[:12],
            "missing" if "is missing" in loss.why and not loss.files else "damaged",
            ", ".join(_file(name) for name in loss.files),
            escape(_few(commits)),
            escape(_few(list(loss.vectors))),
        )
    console.print(rows)
    if len(lost) > MOST:
        console.print(f"… and {len(lost) - MOST:,} more: persona fsck --json lists all")


def _file(name: str) -> str:
    if "/" in name:
        return escape(name)
    stem, _, suffix = name.partition(".")
    return f"packs/{stem[:8]}….{suffix}"


def _few(texts: list[str]) -> str:
    return ", ".join(texts[:3]) + (f", … ({len(texts)})" if len(texts) > 3 else "")


def _summary(done: CheckReport) -> str:
    counts = done.counts
    tensors = f"{counts.tensors_read:,} of " if counts.tensors_read < counts.tensors else ""
    nbytes = f"{size(counts.bytes_read)}" + (f" of {size(counts.bytes_all)}" if done.sample < 1 else "")
    seed = f" (sample of {done.sample:.3g}, seed {done.seed})" if done.sample < 1 else ""
    return (
        f"CheckReport {count(counts.refs, 'ref')}, {count(counts.operations, 'operation')}, "
        f"{count(counts.objects, 'object')}, {count(counts.files, 'file')}, "
        f"{tensors}{count(counts.tensors, 'tensor')} and {count(counts.blobs, 'blob')}: {nbytes}{seed}"
    )
