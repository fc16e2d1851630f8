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
"""Number of losses to list before the rest is only counted."""


@click.command("fsck")
@click.option("--sample", metavar="P%", help="Read only a random sample of the tensors' bytes, such as 5%.")
@click.option("--seed", type=int, metavar="N", help="Random seed for the sample. [default: random]")
@click.option(
    "--repair-from",
    metavar="PATH",
    type=click.Path(readable=False),
    help="Repair what is damaged or missing from the checkpoint in this folder.",
)
@json_option
@click.pass_obj
def command(app: App, sample: str | None, seed: int | None, repair_from: str | None) -> int:
    """Check the repository for damage and loss

    Lists what is lost, with the commits and vectors that need it. Exits with 1 if anything is damaged or missing. To
    repair, pass --repair-from the base, run or adapter that was committed. If a base was moved after init
    --reference, pass its new folder.

    \b
    persona fsck
    persona fsck --sample 5%
    persona fsck --repair-from runs/listening
    """
    from persona.verbs.fsck import fsck, open_damaged

    share = _share(sample)
    if share < 1 and repair_from is not None:
        raise click.UsageError("--repair-from reads everything: drop --sample")
    report = fsck(
        open_damaged(Path(app.folder)),
        sample=share,
        seed=random.randrange(100_000) if seed is None else seed,
        repair_from=app.optional_path(repair_from),
        command=app.command,
        progress=app.progress(),
    )
    app.show("fsck", report, lambda console: _render(console, report))
    return 0 if report.ok else 1


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


def _render(console: Console, report: CheckReport) -> None:
    for text in report.healed:
        console.print(f"[green]repaired:[/] {escape(text)}")
    for text in report.problems:
        console.print(f"[red]damaged:[/] {escape(text)}")
    if report.lost:
        _losses(console, report.lost)
    for text in report.notes:
        console.print(f"note: {escape(text)}", style="dim")
    if report.outside:
        console.print(f"Not self-contained: the repository does not store {escape(_few(list(report.outside)))}")
    console.print(_summary(report))
    if report.ok:
        console.print("[green]No damage found.[/]")
        return
    faults = [f"{len(report.lost):,} loss{'' if len(report.lost) == 1 else 'es'}"] if report.lost else []
    faults += [count(len(report.problems), "other fault")] if report.problems else []
    console.print(f"[red]{' and '.join(faults)}.[/] Next: persona fsck --repair-from PATH, or restore from a backup")


def _losses(console: Console, lost: tuple[LostObject, ...]) -> None:
    rows = table("lost", "id", "how", "in", "commits", "vectors")
    for loss in lost[:MOST]:
        commits = [f"{short(affected.commit)} {affected.subject}".strip() for affected in loss.commits]
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
        console.print(f"… and {len(lost) - MOST:,} more: persona fsck --json lists them all")


def _file(name: str) -> str:
    if "/" in name:
        return escape(name)
    stem, _, suffix = name.partition(".")
    return f"packs/{stem[:8]}….{suffix}"


def _few(texts: list[str]) -> str:
    return ", ".join(texts[:3]) + (f", … ({len(texts)})" if len(texts) > 3 else "")


def _summary(report: CheckReport) -> str:
    counts = report.counts
    tensors = f"{counts.tensors_read:,} of " if counts.tensors_read < counts.tensors else ""
    nbytes = f"{size(counts.bytes_read)}" + (f" of {size(counts.bytes_all)}" if report.sample < 1 else "")
    seed = f" (sample of {report.sample:.3g}, seed {report.seed})" if report.sample < 1 else ""
    return (
        f"Checked {count(counts.refs, 'ref')}, {count(counts.operations, 'operation')}, "
        f"{count(counts.objects, 'object')}, {count(counts.files, 'file')}, "
        f"{tensors}{count(counts.tensors, 'tensor')} and {count(counts.blobs, 'blob')}: {nbytes}{seed}"
    )
