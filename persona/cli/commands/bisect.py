"""``persona bisect``."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import REV
from persona.cli.lazy import SuggestingGroup
from persona.cli.output import note
from persona.cli.render import changed, count, short

if TYPE_CHECKING:
    from persona.ids import CommitId
    from persona.verbs.bisect import BisectEnd, BisectState

SKIPPED = 125
"""Exit code for a commit that cannot be tested, as in git."""


@click.group("bisect", cls=SuggestingGroup)
def command() -> None:
    """Find the commit that made something worse

    Searches the commits between a good and a bad one by halving.

    \b
    persona bisect start HEAD v0.1                  HEAD is bad, v0.1 is good
    persona bisect good                             mark this commit, and go to the next
    persona bisect run python check.py              or let a program test each commit
    persona bisect reset                            end, and go back to where you were
    """


@command.command("start")
@click.argument("bad", required=False, type=REV)
@click.argument("good", nargs=-1, type=REV)
@json_option
@click.pass_obj
def start(app: App, bad: str | None, good: tuple[str, ...]) -> None:
    """Start a search between a BAD and a GOOD commit

    Several GOOD commits may be given. Both can also be marked later.

    \b
    persona bisect start
    persona bisect start HEAD HEAD~16
    """
    from persona.verbs import bisect

    done = bisect.start(app.repository(), bad, good, command=app.command)
    app.show("bisect start", done, lambda console: _render(console, done))


@command.command("good")
@click.argument("revs", metavar="[REV]...", nargs=-1, type=REV)
@json_option
@click.pass_obj
def good(app: App, revs: tuple[str, ...]) -> None:
    """Mark a commit as good

    Marks the current commit or REV, and checks out the next commit to test.

    \b
    persona bisect good
    persona bisect good v0.1
    """
    _mark(app, "good", revs)


@command.command("bad")
@click.argument("revs", metavar="[REV]", nargs=-1, type=REV)
@json_option
@click.pass_obj
def bad(app: App, revs: tuple[str, ...]) -> None:
    """Mark a commit as bad

    Marks the current commit or REV, and checks out the next commit to test.

    \b
    persona bisect bad
    persona bisect bad main
    """
    _mark(app, "bad", revs)


@command.command("skip")
@click.argument("revs", metavar="[REV]...", nargs=-1, type=REV)
@json_option
@click.pass_obj
def skip(app: App, revs: tuple[str, ...]) -> None:
    """Mark a commit that cannot be tested

    Marks the current commit or REV, and checks out another commit to test.

    \b
    persona bisect skip
    """
    _mark(app, "skip", revs)


@command.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("program", metavar="COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@json_option
@click.pass_obj
def run(app: App, program: tuple[str, ...]) -> None:
    """Test commits with a program

    Runs COMMAND for each commit until the first bad one is found. Exit code 0 means good, 125 skip, and any other up to
    127 bad; anything else stops the search. The program runs in the repository's folder, with the commit's recipe in
    persona.toml; its output goes to stderr.

    \b
    persona bisect run python check.py
    persona bisect run sh -c "persona build -o candidate --replace && python check.py candidate"
    """
    from persona.verbs import bisect

    repo = app.repository()
    tested = []

    def judge(commit: CommitId) -> str:
        tested.append(commit)
        return _judged(program, str(repo.root), commit)

    done = bisect.run(repo, judge, lambda now: note(f"testing {short(now.here or '')} {now.subject}"))
    app.show("bisect run", done, lambda console: _render(console, done, len(tested)))


@command.command("status")
@json_option
@click.pass_obj
def status(app: App) -> None:
    """Show the state of the search

    \b
    persona bisect status
    """
    from persona.verbs import bisect

    done = bisect.state(app.repository())
    app.show("bisect status", done, lambda console: _render(console, done))


@command.command("reset")
@click.argument("rev", required=False, type=REV)
@json_option
@click.pass_obj
def reset(app: App, rev: str | None) -> None:
    """End the search and go back

    Goes back to where the search started, or to REV.

    \b
    persona bisect reset
    persona bisect reset HEAD                       # stay here
    """
    from persona.verbs import bisect

    done = bisect.reset(app.repository(), rev, command=app.command)
    app.show("bisect reset", done, lambda console: _back(console, done))


def _back(console: Console, done: BisectEnd) -> None:
    where = f"On branch [bold]{escape(done.branch)}[/] at" if done.branch else "HEAD is now at"
    console.print(f"{where} [yellow]{short(done.commit)}[/]")


def _mark(app: App, verdict: str, revs: tuple[str, ...]) -> None:
    from persona.verbs import bisect

    done = bisect.mark(app.repository(), verdict, revs, command=app.command)
    app.show(f"bisect {verdict}", done, lambda console: _render(console, done))


def _judged(program: tuple[str, ...], folder: str, commit: CommitId) -> str:
    try:
        code = subprocess.run(program, cwd=folder, check=False, stdout=2).returncode
    except OSError as error:
        raise click.UsageError(f"cannot run {program[0]}: {error.strerror}") from None
    if code == SKIPPED:
        return "skip"
    if not 0 <= code < 128:
        raise click.ClickException(
            f"the program exited with code {code} at {short(commit)}; the search is not finished"
        )
    return "bad" if code else "good"


def _render(console: Console, done: BisectState, tested: int = 0) -> None:
    if done.found is not None:
        after = f", after {count(tested, 'test')}" if tested else ""
        console.print(f"[yellow]{short(done.found)}[/] is the first bad commit{after}: {escape(done.subject)}")
        changed(console, done.changes)
        console.print("To go back: persona bisect reset", style="dim")
    elif done.here is not None:
        left = f"{count(len(done.suspects), 'suspect')}, about {count(done.steps, 'step')}"
        console.print(f"{left}. HEAD is now at [yellow]{short(done.here)}[/] {escape(done.subject)}")
        console.print("Test it, then run: persona bisect good, bad or skip", style="dim")
    elif done.suspects:
        console.print("The remaining commits cannot be tested. The first bad commit is one of these:")
        for commit in done.suspects:
            console.print(f" [yellow]{short(commit)}[/]")
    else:
        missing = "bad and a good" if done.bad is None and not done.good else "bad" if done.bad is None else "good"
        console.print(f"Mark a {missing} commit: persona bisect bad REV, persona bisect good REV")
