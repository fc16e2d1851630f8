"""``persona merge``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import METHOD, REV
from persona.cli.output import note
from persona.cli.render import changed, count
from persona.cli.tables.commits import headline
from persona.errors import UsageError

if TYPE_CHECKING:
    from persona.verbs.merge import MergeAborted, MergeResult


@click.command("merge")
@click.argument("revs", nargs=-1, type=REV, metavar="REV...")
@click.option("--method", type=METHOD, metavar="NAME", help="Merge weights by this method; ties otherwise.")
@click.option("--ours", "prefer", flag_value="ours", help="Where both changed the same thing, keep ours.")
@click.option("--theirs", "prefer", flag_value="theirs", help="Where both changed the same thing, take theirs.")
@click.option(
    "--retrained", type=click.Choice(("ours", "theirs", "both", "mean")),
    help="Of a vector that both sides trained, keep one, both, or their mean.",
)  # fmt: skip
@click.option("--no-ff", "apart", is_flag=True, help="Make a commit even where HEAD could simply move forward.")
@click.option("--ff-only", "only_forward", is_flag=True, help="Only move HEAD forward; refuse otherwise.")
@click.option("--dry-run", is_flag=True, help="Say what would come out, and change nothing.")
@click.option("--no-report", "quiet", is_flag=True, help="Do not measure how far the vectors interfere.")
@click.option("--continue", "go_on", is_flag=True, help="Commit a merge whose conflicts are settled.")
@click.option("--abort", is_flag=True, help="Give an unfinished merge up.")
@click.option("-m", "--message", metavar="MSG", help="What this is for.")
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
    """Bring the vectors of other branches into this one, and say how far they interfere.

    Recipes are merged three ways: vectors, alphas, settings, nodes. Where both sides changed the same thing,
    persona.toml has both between markers: choose, then 'persona commit'. Weights are untouched; a build merges them by
    the recipe's method, which becomes ties unless a recipe names one.

    \b
    persona merge voice
    persona merge voice --dry-run
    persona merge calm voice --method dare_ties
    persona merge voice --retrained both
    persona merge --abort
    """
    from persona.verbs import merge as verbs

    _check(revs, go_on, abort)
    repo = app.repository()
    if abort:
        aborted = verbs.abort(repo, command=app.command)
        app.show("merge", aborted, lambda console: _aborted(console, aborted))
        return 0
    if go_on:
        done = verbs.go_on(repo, message=message, author=app.author(repo), command=app.command)
    else:
        done = verbs.merge(
            repo,
            revs,
            method=method,
            prefer=prefer,
            retrained=retrained,
            forward=not apart,
            only_forward=only_forward,
            dry_run=dry_run,
            message=message,
            author=app.author(repo),
            command=app.command,
        )
    if not quiet:
        done = replace(done, interference=verbs.interference_of(repo, done, app.progress()))
    app.show("merge", done, lambda console: _render(console, done))
    if not app.json and done.recorded is not None and done.recorded.branch is None:
        note("HEAD is detached: keep this on a branch with 'persona switch -c NAME'.")
    return 0 if done.ok else 1


def _check(revs: tuple[str, ...], go_on: bool, abort: bool) -> None:
    if go_on and abort:
        raise UsageError("--continue and --abort are opposites", "Give one of them.")
    if revs and (go_on or abort):
        raise UsageError(f"'{revs[0]}' is one name too many", "--continue and --abort are about the merge under way.")
    if not revs and not go_on and not abort:
        raise UsageError("what shall be merged?", "Name a branch: persona merge NAME ('persona branch' lists them)")


def _aborted(console: Console, done: MergeAborted) -> None:
    kept = f" What you had settled is in {escape(done.backup.name)}." if done.backup else ""
    console.print(f"The merge is given up; persona.toml is as it was committed.{kept}")


def _render(console: Console, done: MergeResult) -> None:
    heads = escape(", ".join(done.heads))
    if done.outcome == "up to date":
        console.print(f"Already up to date: {heads} has nothing that is not here.")
        return
    if done.dry_run:
        console.print(f"Merging {heads} would {_WOULD[done.outcome]}:")
    elif done.outcome == "fast-forward":
        console.print(f"Fast-forward to {heads}:")
    elif done.recorded is not None:
        headline(console, done.recorded)
    changed(console, done.changes)
    for text in done.notes:
        console.print(f"   {escape(text)}")
    if done.clashes:
        _conflicts(console, done)
    elif done.measurable:
        console.print(f"Weights will be merged by [bold]{escape(done.method)}[/].", style="dim")
    if done.interference is not None:
        from persona.cli.tables.weights import weights

        weights(console, done.interference, "", "the merge", layers=False)


_WOULD = {"fast-forward": "move forward", "merged": "make a commit", "conflict": "stop at conflicts"}


def _conflicts(console: Console, done: MergeResult) -> None:
    console.print(f"[red]{count(len(done.clashes), 'conflict')}[/]:")
    for clash in done.clashes:
        console.print(f"  {escape(clash.text)}")
    if not done.dry_run:
        console.print("\nSettle them in persona.toml, then: persona commit   (or give up: persona merge --abort)")
