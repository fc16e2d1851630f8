"""``persona tune``."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option, once
from persona.cli.complete import METHOD, SUITE, VECTOR
from persona.cli.output import note, utf8
from persona.cli.plots.picture import Picture
from persona.cli.render import count, table
from persona.cli.running import measuring_options, options_of, suite_option
from persona.cli.tables.scores import WRITTEN, called, moved, moves, number
from persona.errors import UsageError
from persona.evaluate.options import SearchOptions

if TYPE_CHECKING:
    from persona.evaluate.options import Bounds, MeasureOptions
    from persona.evaluate.search import TrialReport
    from persona.verbs.tune import TuneResult

MOST = 12
"""Largest number of trials in the table, besides trial 0."""

INTERRUPTED = 130


def bounds(text: str) -> Bounds:
    """Read ``0:1.5`` as a range."""
    low, colon, high = text.partition(":")
    try:
        if colon:
            return float(low), float(high)
    except ValueError:
        pass
    raise UsageError(f"'{text}' is not a range", "Write LOW:HIGH, such as 0:1.5.")


def _range(text: str) -> tuple[str, Bounds | None]:
    name, equals, limits = text.partition("=")
    return name, bounds(limits) if equals else None


def _slack(text: str) -> tuple[str, float]:
    """Split at the last ``=`` if a number follows; a measure's name may contain any character."""
    name, _, slack = text.rpartition("=")
    try:
        return name, float(slack)
    except ValueError:
        return text, 0.0


_READERS = {
    "vary": lambda given: once(map(_range, given), "vector"),
    "alphas": bounds,
    "methods": lambda text: tuple(part.strip() for part in text.split(",")),
    "density": bounds,
    "scale": bounds,
    "keep": lambda given: once(map(_slack, given), "measure"),
    "keep_base": lambda given: once(map(_slack, given), "measure"),
}
_TYPES = {"vary": VECTOR, "methods": METHOD, "check": SUITE}


@click.command("tune")
@suite_option
@options_of(SearchOptions, "search", types=_TYPES, readers=_READERS)
@click.option("--write", is_flag=True, help="Write the chosen trial to persona.toml, without committing it.")
@click.option("--plot", type=click.Path(readable=False), metavar="FILE", help="Draw the search (.png or .svg).")
@measuring_options
@json_option
@click.pass_obj
def command(
    app: App,
    /,
    suite: str | None,
    write: bool,
    plot: str | None,
    search: SearchOptions,
    options: MeasureOptions,
) -> int:
    """Search for the best alphas, method and density

    Trial 0 is the current persona.toml. Prints the best trial; use --write to save it. With several objectives, the best
    trial is the best in the first among those no worse than trial 0 in any. Ctrl-C ends the search with what was found; the
    same command again resumes it. Needs optuna: pip install 'persona-vcs[tune]'.

    \b
    persona tune
    persona tune --suite listening --vary voice=-0.5:0.5 --vary patience --keep forgetting=0.02
    persona tune --suite listening --scale 0.2:1.2 --method linear,ties --by gain --keep-base forgetting=0.05
    persona tune --suite listening --method linear,ties --density 0.1:1 --by answers --by "divergence kl"
    persona tune --suite listening --trials 200 --minutes 60 --check held-out --write
    """
    from persona.cli.plots import searchmap
    from persona.verbs.tune import tune

    picture = Picture(app, plot)
    done = tune(
        app.repository(), suite=suite, search=search, options=options, write=write, cwd=app.folder, command=app.command,
        progress=app.progress(),
    )  # fmt: skip
    if not app.json:
        for text in done.notes:
            note(f"note: {utf8(text)}")
    picture.write(lambda suffix: searchmap.draw(done, suffix))
    app.show("tune", done, picture.below(lambda console: _render(console, done)))
    return INTERRUPTED if done.stopped == "interrupted" else 0


def _render(console: Console, done: TuneResult) -> None:
    console.print(
        f"[bold]{escape(done.suite)}[/]  {count(len(done.trials) - 1, 'trial')}, {done.measured} measured now\n"
    )
    shown = _best(done)
    _trials(console, done, shown)
    if len(shown) < len(done.trials):
        console.print(f"… and {len(done.trials) - len(shown)} more (see --json)", style="dim")
    if done.moved:
        moves(console, done.moved)
    console.print()
    for line in textwrap.wrap(done.said, min(console.width, 100)) if console.is_terminal else [done.said]:
        console.print(escape(line), style="" if done.clear else "yellow")
    if done.edit:
        _edit(console, done)


def _best(done: TuneResult) -> list[TrialReport]:
    """The trials to show: trial 0, then the best ones, those on the front first."""
    goal = done.objectives[0]
    sign = 1 if goal.better == "lower" else -1

    def rank(trial: TrialReport) -> tuple[bool, bool, bool, float]:
        value = sign * trial.reached[0].value if not trial.failed else 0.0
        return bool(trial.failed), bool(trial.broken), not trial.front, value

    ranked = sorted(done.trials[1:], key=rank)
    shown = ranked[:MOST]
    if done.chosen and all(trial.number != done.chosen for trial in shown):
        shown = [*shown[:-1], done.trials[done.chosen]]
    return [done.trials[0], *shown]


def _trials(console: Console, done: TuneResult, shown: list[TrialReport]) -> None:
    from persona.evaluate.search import keys_of

    settings = [escape(thing.name) for thing in done.varied]
    keys = keys_of(done.objectives, done.limits)
    rows = table("#", *settings, *(part for key in keys for part in (called(*key), "from now")), "")
    for at, column in enumerate(rows.columns[:-1]):
        column.justify = "right" if at == 0 or at > len(settings) or done.varied[at - 1].kind != "method" else "left"
    for trial in shown:
        style = "bold green" if trial.number == done.chosen else "dim" if trial.failed or trial.broken else ""
        cells = *map(_setting, trial.settings), *_numbers(trial, keys), _mark(done, trial)
        rows.add_row(str(trial.number), *cells, style=style)
    console.print(rows)


def _setting(value: float | str | None) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float | int) else escape(value)


def _numbers(trial: TrialReport, keys: tuple[tuple[str, str], ...]) -> list[str]:
    reached = {(goal.measure, goal.name): goal for goal in trial.reached}
    goals = (reached.get(key) for key in keys)
    return [cell for goal in goals for cell in ((number(goal.value), moved(goal.from_now)) if goal else ("–", ""))]


def _mark(done: TuneResult, trial: TrialReport) -> str:
    if trial.failed:
        return escape(f"failed: {trial.failed}")
    if trial.broken:
        return escape(f"over: {', '.join(trial.broken)}")
    words = ["← chosen"] if trial.number == done.chosen else ["now"] if trial.number == 0 else []
    return ", ".join([*words, *(["front"] if trial.front and len(done.objectives) > 1 else [])])


def _edit(console: Console, done: TuneResult) -> None:
    console.print("\npersona.toml")
    for line in done.edit.splitlines():
        console.print(escape(line), style={"+": "green", "-": "red", "@": "cyan"}.get(line[:1], ""))
    console.print(WRITTEN if done.written else "\nNot written. To write it, add --write to the same command.")
