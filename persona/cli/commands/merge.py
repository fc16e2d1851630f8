"""`persona merge`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option, message_option, warn_if_detached
from persona.cli.complete import METHOD, REV
from persona.cli.render import changed, count, notes
from persona.cli.tables.commits import headline
from persona.errors import UsageError

if TYPE_CHECKING:
    from persona.verbs.merge import MergeAborted, MergeResult

WOULD = {"fast-forward": "fast-forward", "merged": "make a commit", "conflict": "stop at conflicts"}


@click.command("merge")
@click.argument("revs", nargs=-1, type=REV, metavar="REV...")
@click.option("--method", type=METHOD, metavar="NAME", help="Merge method. [default: as in the recipes, or ties]")
@click.option("--ours", "prefer", flag_value="ours", help="Resolve conflicts with our side.")
@click.option("--theirs", "prefer", flag_value="theirs", help="Resolve conflicts with their side.")
@click.option(
    "--retrained", type=click.Choice(("ours", "theirs", "both", "mean")),
    help="What to use for a vector that both sides trained. [default: a conflict]",
)  # fmt: skip
@click.option("--no-ff", "apart", is_flag=True, help="Make a commit even if a fast-forward is possible.")
@click.option("--ff-only", "only_forward", is_flag=True, help="Refuse to merge unless a fast-forward is possible.")
@click.option("--dry-run", is_flag=True, help="Show the outcome, and change nothing.")
@click.option("--no-report", "quiet", is_flag=True, help="Do not measure how much the vectors interfere.")
@click.option("--continue", "go_on", is_flag=True, help="Commit a merge after resolving its conflicts.")
@click.option("--abort", is_flag=True, help="Abort an unfinished merge and restore persona.toml.")
@message_option
@json_option
@click.pass_obj
def command(
    app: App,
    revs: tuple[str, ...],
    method: str | None,
    prefer: str | None,
    retrained: str | None,
    apart: bool,
    only_forward: bool,
    dry_run: bool,
    quiet: bool,
    go_on: bool,
    abort: bool,
    message: str | None,
) -> int:
    """Merge another branch's recipe into this one

    Vectors, alphas, settings and nodes are merged three ways. If both sides changed the same thing, persona.toml gets
    both versions between conflict markers: edit it, then run 'persona commit'. Weights are merged by the next build,
    with the recipe's method: if no recipe names one, vectors that meet for the first time are merged with ties.

    \b
    persona merge voice
    persona merge voice --dry-run
    persona merge calm voice --method dare_ties
    persona merge voice --retrained both
    persona merge --abort
    """
    from persona.verbs import merge as verbs

    _check_arguments(revs, go_on, abort)
    repo = app.repository()
    if abort:
        aborted = verbs.abort(repo, command=app.command)
        app.show("merge", aborted, lambda console: _render_aborted(console, aborted))
        return 0
    if go_on:
        result = verbs.go_on(repo, **app.recording(repo, message))
    else:
        result = verbs.merge(
            repo,
            revs,
            method=method,
            prefer=prefer,
            retrained=retrained,
            forward=not apart,
            only_forward=only_forward,
            dry_run=dry_run,
            **app.recording(repo, message),
        )
    if not quiet:
        result = replace(result, interference=verbs.interference_of(repo, result, app.progress()))
    app.show("merge", result, lambda console: _render(console, result))
    warn_if_detached(app, result.recorded)
    return 0 if result.ok else 1


def _check_arguments(revs: tuple[str, ...], go_on: bool, abort: bool) -> None:
    if go_on and abort:
        raise UsageError("--continue and --abort cannot be used together", "Pass one of them.")
    if revs and (go_on or abort):
        raise UsageError(
            f"unexpected argument '{revs[0]}'", "Leave it out: --continue and --abort act on the merge in progress."
        )
    if not revs and not go_on and not abort:
        raise UsageError("nothing to merge", "Name a branch: persona merge NAME ('persona branch' lists them)")


def _render_aborted(console: Console, aborted: MergeAborted) -> None:
    backup = f" Your edits are saved in {escape(aborted.backup.name)}." if aborted.backup else ""
    console.print(f"Merge aborted; persona.toml is restored from HEAD.{backup}")


def _render(console: Console, result: MergeResult) -> None:
    heads = escape(", ".join(result.heads))
    if result.outcome == "up to date":
        console.print(f"Already up to date: {heads} has no new commits.")
        return
    if result.dry_run:
        console.print(f"Merging {heads} would {WOULD[result.outcome]}:")
    elif result.outcome == "fast-forward":
        console.print(f"Fast-forward to {heads}:")
    elif result.recorded is not None:
        headline(console, result.recorded)
    changed(console, result.changes)
    notes(console, result.notes)
    if result.clashes:
        _render_conflicts(console, result)
    elif result.measurable:
        console.print(f"Builds will merge the weights with [bold]{escape(result.method)}[/].", style="dim")
    if result.interference is not None:
        from persona.cli.tables.weights import weights

        weights(console, result.interference, "", "the merge", layers=False)


def _render_conflicts(console: Console, result: MergeResult) -> None:
    console.print(f"[red]{count(len(result.clashes), 'conflict')}[/]:")
    for conflict in result.clashes:
        console.print(f"  {escape(conflict.text)}")
    if not result.dry_run:
        console.print("\nResolve them in persona.toml, then run 'persona commit' (or 'persona merge --abort').")
