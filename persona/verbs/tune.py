"""``persona tune``: search alphas, method and density together for the best numbers of a suite.

Trial 0 is the current recipe. Each trial depends only on those before it and the seed (:mod:`persona.suggestions`), and evaluations are
kept by build: the same command again only looks results up, and a search that was stopped resumes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from persona import suggestions
from persona.errors import Refusal, UsageError
from persona.evaluate import space
from persona.evaluate.evaluator import Evaluator, only_suite, suites_of
from persona.evaluate.options import MeasureOptions, SearchOptions
from persona.evaluate.results import FigureDiff, TrialFigure
from persona.evaluate.rows import SuiteRow
from persona.evaluate.search import Objective, RecipeSearch, SearchLimit, TrialReport
from persona.evaluate.space import VariedSetting
from persona.evaluate.suite import Suite
from persona.graph.differences import patch
from persona.history.evaluations import number_called
from persona.notebook import Shown
from persona.progress import SILENT, Progress
from persona.recipe.model import Recipe
from persona.recipe.rewrite import rewrite
from persona.repository import Repository
from persona.suggestions import Stopped
from persona.workspace.record import refuse_while_merging, worktree_recipe, worktree_text


@dataclass(frozen=True, repr=False)
class TuneResult(Shown):
    """The result of a search. Trial 0 is the recipe before it.

    ``recommended`` is the trial that is best in the first objective among those no worse than trial 0 in any, null if none is
    better. ``chosen`` is that trial, or the one that was picked. ``clear`` says whether it is significantly better than trial 0 in
    an objective and significantly worse in none. ``edit`` is its change of ``persona.toml`` as a unified diff, and ``written`` says
    whether it was made.

    ``moved`` has the numbers of the suite ``check`` before and after; ``confirmed`` says whether the choice is clearly better
    there, too, null if there is no such suite or it has none of the objectives. ``stopped`` says what ended the search,
    ``measured`` counts the builds that had to be run, and ``said`` summarizes the result in words.
    """

    suite: str
    objectives: tuple[Objective, ...]
    limits: tuple[SearchLimit, ...]
    varied: tuple[VariedSetting, ...]
    trials: tuple[TrialReport, ...]
    stopped: Stopped
    recommended: int | None
    chosen: int | None
    clear: bool
    edit: str
    written: bool
    check: str | None
    moved: tuple[FigureDiff, ...]
    confirmed: bool | None
    said: str
    measured: int
    notes: tuple[str, ...] = ()


def tune(
    repo: Repository,
    *,
    suite: str | Path | None = None,
    search: SearchOptions = SearchOptions(),
    options: MeasureOptions = MeasureOptions(),
    write: bool = False,
    cwd: Path | str = ".",
    command: str = "tune",
    progress: Progress = SILENT,
) -> TuneResult:
    """Search the settings of ``persona.toml`` for the best numbers of a suite.

    The search ends after the last trial, when its time is over, or at a KeyboardInterrupt; what was found by then is the result.

    Args:
        suite: Name or file of the suite; may be None if the repository has only one.
        search: What to vary and to optimize, and when to stop.
        options: How to measure.
        write: Write the chosen trial to ``persona.toml``, except after a KeyboardInterrupt. It is not committed.
        cwd: Folder that relative paths start from.
        command: The command line, for the operation log.

    Raises:
        UsageError: optuna is missing, a vector, method, measure or suite is unknown, or an option is invalid.
        Refusal: ``write`` during a merge, or ``persona.toml`` was changed while the search ran.
    """
    suggestions.require_optuna()
    search.check_budget()
    check, pick = search.check, search.pick
    recipe, text = worktree_recipe(repo), worktree_text(repo)
    things = space.varied(recipe, search)
    suites = suites_of(repo, [only_suite(repo, suite), *([check] if check is not None else [])], cwd)
    if check is not None and len(suites) == 1:
        raise UsageError(f"{check} is the suite of the search itself", "Give --check a suite of other data.")
    _edit(text, space.recipe_at(recipe, things, space.middle(things)))  # raises before the work
    if write:
        refuse_while_merging(repo)
    with Evaluator(repo, suites, options, command, progress) as evaluator:
        tried = RecipeSearch(repo, evaluator, recipe, things, options.seed, search)
        stopped = tried.run(search.trials, search.minutes)
        recommended = tried.recommended()
        chosen = recommended if pick is None else _picked(tried, pick, stopped)
        moved: tuple[FigureDiff, ...] = ()
        if chosen is not None and check is not None and stopped != "interrupted":
            moved = tried.moved(chosen, evaluator.suites[1])
        notes = (*evaluator.notes, *tried.notes, *_remarks(recipe, things, suites))
        measured = evaluator.measured
    wanted = tried.recipe_of(chosen or 0)
    edit = _edit(text, wanted)
    written = write and stopped != "interrupted" and _write(repo, recipe, wanted, command)
    shown, objectives = tried.reports(), tried.objectives
    done = TuneResult(
        suites[0].name, objectives, tried.limits, things, shown, stopped, recommended, chosen,
        chosen is not None and _is_clear(goal.from_now.verdict for goal in _goals(shown[chosen], objectives) if goal.from_now),
        edit, written, suites[1].name if check is not None else None, moved, _confirmed(moved, objectives), "", measured, notes,
    )  # fmt: skip
    return replace(done, said=in_words(done))


def _picked(search: RecipeSearch, pick: int, stopped: Stopped) -> int | None:
    if pick < len(search.trials):
        if why := search.trials[pick].failed:
            raise UsageError(f"trial {pick} cannot be picked: {why}", "Pick another trial.")
        return pick
    if stopped == "interrupted":
        return None
    raise UsageError(
        f"there is no trial {pick} yet: the time was over after trial {len(search.trials) - 1}",
        "Run the same command again: it resumes the search.",
    )


def _goals(trial: TrialReport, objectives: Sequence[Objective]) -> Iterator[TrialFigure]:
    keys = [goal.key for goal in objectives]
    return (reached for reached in trial.reached if (reached.measure, reached.name) in keys)


def _is_clear(verdicts: Iterable[str]) -> bool:
    found = list(verdicts)
    return "better" in found and "worse" not in found


def _confirmed(moved: Sequence[FigureDiff], objectives: Sequence[Objective]) -> bool | None:
    keys = [goal.key for goal in objectives]
    verdicts = [diff.verdict for diff in moved if (diff.measure, diff.name) in keys]
    return _is_clear(verdicts) if verdicts else None


def _edit(text: str, wanted: Recipe) -> str:
    """The change of the text as a diff; RecipeError if the text cannot be edited safely."""
    return "\n".join(patch(text.rstrip("\n"), rewrite(text, wanted).rstrip("\n")))


def _write(repo: Repository, recipe: Recipe, wanted: Recipe, command: str) -> bool:
    """Edit ``persona.toml``; return whether it had to change."""
    if wanted == recipe:
        return False
    with repo.transaction(command) as change:
        refuse_while_merging(repo)
        if worktree_recipe(repo) != recipe:
            raise Refusal(
                f"{repo.recipe_path.name} was changed during the search, so it was not overwritten",
                "The results are kept: restore the file, and run the same command again.",
            )
        change.set_recipe_text(rewrite(worktree_text(repo), wanted))
    return True


def _remarks(recipe: Recipe, things: Sequence[VariedSetting], suites: Sequence[Suite]) -> Iterator[str]:
    """Warnings."""
    if any(thing.kind == "density" for thing in things):
        for entry in recipe.vectors:
            if space.DENSITY in entry.parameters:
                yield f"{entry.name} has a density of its own, which does not vary"
    if len(suites) > 1:
        ours, theirs = ({_content(row) for measure in suite.measures for row in measure.rows} for suite in suites)
        if ours & theirs:
            yield f"{len(ours & theirs)} examples of {suites[1].name} are also in {suites[0].name}: they do not check it independently"


def _content(row: SuiteRow) -> str:
    return repr((row.prompt, row.completion, row.messages, row.text, row.tools))


def in_words(done: TuneResult) -> str:
    """Summarize a search."""
    count = len(done.trials) - 1
    words = (
        [f"Interrupted after trial {count}: the same command resumes the search."]
        if done.stopped == "interrupted"
        else []
    )
    if done.chosen is None:
        worse = " in one objective without being worse in another" if len(done.objectives) > 1 else ""
        return " ".join([*words, f"None of {count} trials is better than the current persona.toml{worse}."])
    trial = done.trials[done.chosen]
    words.append(f"{_subject(done, count)}: {', '.join(_number(goal) for goal in _goals(trial, done.objectives))}.")
    if trial.broken:
        words.append(f"It breaks its limit on {' and '.join(trial.broken)}.")
    if trial.costs:
        words.append(f"It makes worse: {', '.join(cost.by for cost in trial.costs)}.")
    if not done.clear:
        words.append("That is not a clear improvement over the current persona.toml.")
    if done.confirmed is not None:
        words.append(
            f"On {done.check}, which did not choose it, it is {'clearly better, too' if done.confirmed else 'NOT clearly better'}."
        )
    elif done.check is None:
        words.append(
            "It was chosen and measured on the same examples, so its numbers are optimistic: --check SUITE measures it on others."
        )
    return " ".join(words)


def _subject(done: TuneResult, count: int) -> str:
    if done.chosen != done.recommended:
        return f"Trial {done.chosen} was picked"
    if len(done.objectives) == 1:
        return f"Trial {done.chosen} is the best of {count}"
    first = number_called(*done.objectives[0].key)
    return f"Of {count} trials, {done.chosen} is the best in {first} among those no worse than now in any objective"


def _number(goal: TrialFigure) -> str:
    text = f"{number_called(goal.measure, goal.name)} {goal.value:.4g}"
    moved = goal.from_now
    if moved is None:
        return text
    between = "" if moved.low is None or moved.high is None else f", 95 % {moved.low:+.3g} … {moved.high:+.3g}"
    return f"{text} ({moved.value:+.3g} from now{between})"
