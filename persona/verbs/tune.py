"""``persona tune``: alphas, method and density are searched together for what a suite says is best.

Trial 0 is the recipe as it stands. What is tried next follows from the trials so far and the seed (:mod:`persona.suggestions`), and every
evaluation is kept by what was built: the same command again is look-ups, and one that was stopped goes on where it was.
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
from persona.progress import SILENT, Progress
from persona.recipe.model import Recipe
from persona.recipe.rewrite import rewrite
from persona.repository import Repository
from persona.suggestions import Stopped
from persona.workspace.record import refuse_while_merging, worktree_recipe, worktree_text


@dataclass(frozen=True)
class TuneResult:
    """What a search found; ``trials`` begin with the recipe as it stands.

    ``recommended`` is the trial that is best in the first objective among those no worse than now in any, null where none is better.
    ``chosen`` is that one, or the one that was picked; ``edit`` is what it changes in ``persona.toml``, as a unified diff, and ``written``
    says whether that was done. ``clear`` says whether it is better than now in an objective by more than chance, and worse by more than
    chance in none.

    ``moved`` has the numbers of the suite ``check`` before and after; ``confirmed`` says whether it is clear there, too, and is null where
    that was not asked or that suite has none of the objectives. ``stopped`` is what ended the search, ``measured`` how many builds had to
    be run, and ``said`` is all that in words.
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
    """Search the settings of ``persona.toml`` as it stands at which the numbers ``by`` (``MEASURE`` or ``MEASURE NAME``; the first of the
    suite that has a good way unless given) are best, while those of ``keep`` get worse by no more than is said.

    ``vary`` names vectors with their range, or with None for the common one, ``alphas``; all that act are varied if none is named
    (:mod:`persona.evaluate.space`). ``methods`` and ``density`` are left alone unless given. It ends after so many ``trials``, before the
    first trial that would begin later than ``minutes``, or at a KeyboardInterrupt: what was found by then is the result. The suite
    ``check`` measures the choice on other data. With ``write`` the choice (``pick``, or what is recommended) is written into
    ``persona.toml``, to be committed or restored; nothing else ever changes it, and nothing does after a KeyboardInterrupt.
    """
    suggestions.require_optuna()
    search.check_budget()
    check, pick = search.check, search.pick
    recipe, text = worktree_recipe(repo), worktree_text(repo)
    things = space.varied(recipe, search)
    found = suites_of(repo, [only_suite(repo, suite), *([check] if check is not None else [])], cwd)
    if check is not None and len(found) == 1:
        raise UsageError(f"{check} is the suite that is searched by", "Give --check a suite of other data.")
    _edit(text, space.recipe_at(recipe, things, space.middle(things)))  # an error before the work
    if write:
        refuse_while_merging(repo)
    with Evaluator(repo, found, options, command, progress) as evaluator:
        tried = RecipeSearch(repo, evaluator, recipe, things, options.seed, search.by, search.keep)
        stopped = tried.run(search.trials, search.minutes)
        recommended = tried.recommended()
        chosen = recommended if pick is None else _picked(tried, pick, stopped)
        moved: tuple[FigureDiff, ...] = ()
        if chosen is not None and check is not None and stopped != "interrupted":
            moved = tried.moved(chosen, evaluator.suites[1])
        notes = (*evaluator.notes, *_remarks(recipe, things, found))
        measured = evaluator.measured
    wanted = tried.recipe_of(chosen or 0)
    edit = _edit(text, wanted)
    written = write and stopped != "interrupted" and _write(repo, recipe, wanted, command)
    shown, objectives = tried.reports(), tried.objectives
    done = TuneResult(
        found[0].name, objectives, tried.limits, things, shown, stopped, recommended, chosen,
        chosen is not None and _is_clear(one.from_now.verdict for one in _goals(shown[chosen], objectives) if one.from_now),
        edit, written, found[1].name if check is not None else None, moved, _confirmed(moved, objectives), "", measured, notes,
    )  # fmt: skip
    return replace(done, said=in_words(done))


def _picked(search: RecipeSearch, pick: int, stopped: Stopped) -> int | None:
    if pick < len(search.trials):
        if why := search.trials[pick].failed:
            raise UsageError(f"trial {pick} cannot be picked: {why}", "Pick another.")
        return pick
    if stopped == "interrupted":
        return None
    raise UsageError(
        f"there is no trial {pick} yet: the time was over after {len(search.trials) - 1}",
        "Run the same command again: it goes on from there.",
    )


def _goals(one: TrialReport, objectives: Sequence[Objective]) -> Iterator[TrialFigure]:
    keys = [goal.key for goal in objectives]
    return (reached for reached in one.reached if (reached.measure, reached.name) in keys)


def _is_clear(verdicts: Iterable[str]) -> bool:
    found = list(verdicts)
    return "better" in found and "worse" not in found


def _confirmed(moved: Sequence[FigureDiff], objectives: Sequence[Objective]) -> bool | None:
    keys = [goal.key for goal in objectives]
    verdicts = [one.verdict for one in moved if (one.measure, one.name) in keys]
    return _is_clear(verdicts) if verdicts else None


def _edit(text: str, wanted: Recipe) -> str:
    """What changes in the text; RecipeError where it is laid out in a way that is better left alone."""
    return "\n".join(patch(text.rstrip("\n"), rewrite(text, wanted).rstrip("\n")))


def _write(repo: Repository, recipe: Recipe, wanted: Recipe, command: str) -> bool:
    """An edit of ``persona.toml`` as a person would make it; whether it was needed."""
    if wanted == recipe:
        return False
    with repo.transaction(command) as change:
        refuse_while_merging(repo)
        if worktree_recipe(repo) != recipe:
            raise Refusal(
                f"{repo.recipe_path.name} was changed while it was tuned, and is left alone",
                "What was measured is kept: bring back what it said, and run the same command again.",
            )
        change.set_recipe_text(rewrite(worktree_text(repo), wanted))
    return True


def _remarks(recipe: Recipe, things: Sequence[VariedSetting], suites: Sequence[Suite]) -> Iterator[str]:
    """What may be a mistake."""
    if any(one.kind == "density" for one in things):
        for entry in recipe.vectors:
            if space.DENSITY in entry.parameters:
                yield f"{entry.name} has a density of its own, which is left alone"
    if len(suites) > 1:
        ours, theirs = ({_said(row) for asked in one.measures for row in asked.rows} for one in suites)
        if ours & theirs:
            yield f"{len(ours & theirs)} examples of {suites[1].name} are in {suites[0].name}, too: they judge what they chose"


def _said(row: SuiteRow) -> str:
    return repr((row.prompt, row.completion, row.messages, row.text))


def in_words(done: TuneResult) -> str:
    """What a person should take from it."""
    count = len(done.trials) - 1
    words = (
        [f"Interrupted after trial {count}: the same command goes on from there."]
        if done.stopped == "interrupted"
        else []
    )
    if done.chosen is None:
        worse = " in one objective without being worse in another" if len(done.objectives) > 1 else ""
        return " ".join([*words, f"Of {count} trials none is better than persona.toml as it stands{worse}."])
    one = done.trials[done.chosen]
    words.append(f"{_who(done, count)}: {', '.join(_number(goal) for goal in _goals(one, done.objectives))}.")
    if one.broken:
        words.append(f"It breaks its limit on {' and '.join(one.broken)}.")
    if not done.clear:
        words.append("That is no clear improvement over persona.toml as it stands.")
    if done.confirmed is not None:
        words.append(
            f"By {done.check}, which did not choose it, it is {'clearly better, too' if done.confirmed else 'NOT clearly better'}."
        )
    elif done.check is None:
        words.append(
            "It is judged by the examples that it was chosen by, which flatters it: --check SUITE asks others."
        )
    return " ".join(words)


def _who(done: TuneResult, count: int) -> str:
    if done.chosen != done.recommended:
        return f"Trial {done.chosen} was picked"
    if len(done.objectives) == 1:
        return f"Trial {done.chosen} is the best of {count}"
    first = number_called(*done.objectives[0].key)
    return (
        f"Of {count} trials, {done.chosen} is the best in {first} of those that are no worse than now in any objective"
    )


def _number(goal: TrialFigure) -> str:
    text = f"{number_called(goal.measure, goal.name)} {goal.value:.4g}"
    moved = goal.from_now
    if moved is None:
        return text
    between = "" if moved.low is None or moved.high is None else f", 95 % {moved.low:+.3g} … {moved.high:+.3g}"
    return f"{text} ({moved.value:+.3g} from now{between})"
