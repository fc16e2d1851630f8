"""``persona eval``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.core import ParameterSource
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import SHOWN
from persona.cli.output import note
from persona.cli.render import short, table
from persona.cli.running import measuring_options, suites_option
from persona.cli.tables import said
from persona.cli.tables.scores import LEGEND, called, interval, moved, number
from persona.errors import UsageError

if TYPE_CHECKING:
    from persona.evaluate.options import MeasureOptions
    from persona.verbs.eval import BuildScores, EvalResult, SuiteScores
    from persona.verbs.eval_init import EvalInitResult


@click.command("eval")
@click.argument("revs", nargs=-1, metavar="[REV|NAME]...", type=SHOWN)
@suites_option
@click.option("--init", is_flag=True, help="Write suites to start from to evals/, and measure nothing.")
@click.option("--replies", is_flag=True, help="Show what the models replied, prompt by prompt, beside the base.")
@measuring_options
@json_option
@click.pass_obj
def command(
    app: App, /, revs: tuple[str, ...], suites: tuple[str, ...], init: bool, replies: bool, options: MeasureOptions
) -> None:
    """Measure revisions with the suites in evals/

    Without REV, measures the current persona.toml. A vector is measured alone on its base. Models are built in memory;
    results are kept, and not measured again.

    --init writes three suites, and overwrites nothing: a template that judges replies, a hundred everyday questions, and
    a hundred neutral paragraphs. The last two show what a model has forgotten.

    \b
    persona eval --init
    persona eval
    persona eval HEAD~1 HEAD --suite listening --replies
    persona eval main --suite evals/safety.toml --device cuda --limit 50
    """
    from persona.verbs.eval import eval as evaluate

    if init:
        _init(app)
        return
    done = evaluate(
        app.repository(), revs, suites=suites, options=options, cwd=app.folder, command=app.command, replies=replies,
        progress=app.progress(),
    )  # fmt: skip
    for text in done.notes:
        note(f"note: {text}")
    app.show("eval", done, lambda console: _render(console, done))


def _init(app: App) -> None:
    """Write suites to start from; refuse anything else on the command line."""
    from persona.verbs.eval_init import eval_init

    context = click.get_current_context()
    given = (name for name in context.params if name != "init")
    if any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in given):
        raise UsageError("--init measures nothing", "Run persona eval --init alone, and persona eval afterwards.")
    done = eval_init(app.repository())
    for text in done.notes:
        note(f"note: {text}")
    app.show("eval", done, lambda console: _written(console, done), hint="eval --init")


def _written(console: Console, done: EvalInitResult) -> None:
    for path in done.kept:
        console.print(f"[yellow]left[/]     {escape(path)}")
    for path in done.written:
        console.print(f"[green]written[/]  {escape(path)}")
    if done.kept:
        console.print("\nA suite is not written where one of its files is there already.")


def _render(console: Console, done: EvalResult) -> None:
    for measure in done.replies:
        said.replies(console, measure)
        console.print()
    for number_, build in enumerate(done.builds):
        if number_:
            console.print()
        _build(console, build)
    if any(score.from_base for build in done.builds for suite in build.suites for score in suite.scores):
        console.print(f"\n[dim]{LEGEND}[/]")


def _build(console: Console, build: BuildScores) -> None:
    console.print(f"[bold]{escape(build.label)}[/]")
    for suite in build.suites:
        console.print(f"\n{escape(suite.suite)}", style="cyan")
        _suite(console, build, suite)


def _suite(console: Console, build: BuildScores, suite: SuiteScores) -> None:
    before = f"since {short(build.before)}" if build.before else ""
    columns = ["", "value", "95 % interval", *(["from base"] if any(s.from_base for s in suite.scores) else [])]
    columns += [before] if before else []
    rows = table(*columns, right={"value"}, whole=columns[1:])
    for score in suite.scores:
        cells = [called(score.measure, score.name), number(score.value), interval(score.low, score.high)]
        cells += [moved(score.from_base)] if "from base" in columns else []
        rows.add_row(*cells, *([moved(score.from_before)] if before else []))
    console.print(rows)
