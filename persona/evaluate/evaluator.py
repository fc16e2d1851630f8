"""Measure recipes by suites, and keep the results. The measuring commands share this."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from persona.errors import Locked, UsageError, did_you_mean
from persona.evaluate import run as running
from persona.evaluate import suite as suites_
from persona.evaluate.options import MeasureOptions
from persona.evaluate.suite import Suite
from persona.evaluate.suite_readouts import with_readouts
from persona.evaluate.trust import check_allowed
from persona.history.evaluations import Evaluation, Figure, Said, number_called
from persona.ids import object_digest
from persona.progress import SILENT, Progress
from persona.recipe.builds import build_digest
from persona.recipe.model import Recipe
from persona.repository import Repository, now
from persona.store.objects import canonical
from persona.workspace.workbench import Workbench

if TYPE_CHECKING:
    from persona.inference.load import LoadedModel

BASE = "base"


def suites_of(repo: Repository, names: Sequence[str | Path] = (), cwd: Path | str = ".") -> tuple[Suite, ...]:
    """Read suites by name or file; all suites of the repository if none is named.

    Raises:
        UsageError: a suite does not exist or cannot be read, or two of them have the same name.
    """
    chosen = list(dict.fromkeys(names)) or _all_names(repo)
    suites = tuple(suites_.find(repo.root, name, Path(cwd)) for name in chosen)
    twice = [name for name, count in Counter(suite.name for suite in suites).items() if count > 1]
    if twice:
        raise UsageError(
            f"two suites are called '{min(twice)}'", "A suite is named after its file: rename one of the files."
        )
    return tuple(with_readouts(repo, suite) for suite in suites)


def only_suite(repo: Repository, suite: str | Path | None) -> str | Path:
    """Return ``suite``, or the name of the repository's only suite if it is None.

    Raises:
        UsageError: ``suite`` is None and the repository has no suite, or several.
    """
    if suite is not None:
        return suite
    names = _all_names(repo)
    if len(names) > 1:
        raise UsageError(f"there are {len(names)} suites: {', '.join(names)}", f"Choose one: --suite {names[0]}.")
    return names[0]


def _all_names(repo: Repository) -> list[str]:
    names = list(suites_.names(repo.root))
    if not names:
        raise UsageError(
            f"there are no suites in {repo.root / suites_.FOLDER}",
            "Write some to start from: persona eval --init (see the guide, 'Measure').",
        )
    return names


def find_figure(evaluation: Evaluation, name: str) -> Figure:
    """Find a number by ``MEASURE`` (the measure's first number) or ``MEASURE NAME``.

    Raises:
        UsageError: the suite has no such number.
    """
    figures = list(reversed(evaluation.figures))  # reversed, so that the first of a measure wins
    known = {number_called(*figure.key): figure for figure in figures}
    known |= {f"{figure.measure} {figure.name}": figure for figure in figures}
    known |= {figure.measure: figure for figure in figures}
    if name not in known:
        raise UsageError(f"the suite has no measure '{name}'", did_you_mean(name, known))
    return known[name]


def same_figure(evaluation: Evaluation, key: tuple[str, str]) -> Figure:
    """The number ``key`` of another build.

    Raises:
        UsageError: there is none, because a Python measure returned other names for this build.
    """
    figure = evaluation.figure(key)
    if figure is None:
        raise UsageError(
            f"{evaluation.suite}: '{number_called(*key)}' was measured for one build but not for another",
            "A measure in Python must return the same names for every model.",
        )
    return figure


def goal_of(evaluation: Evaluation) -> Figure:
    """The number to optimize by default: the first that has a better direction, or else the first."""
    return next((figure for figure in evaluation.figures if figure.better is not None), evaluation.figures[0])


def base_of(recipe: Recipe) -> Recipe:
    """The recipe of the base alone."""
    return Recipe(recipe.base, recipe.base_name)


class Evaluator:
    """Measures recipes by suites, one recipe at a time, and looks up what was measured before.

    Use it as a context manager: it keeps what measures need of the base in temporary files. ``measured`` counts the
    suites that were run, ``notes`` has warnings. With ``replies``, a suite whose replies cannot be read is run again.
    """

    def __init__(
        self,
        repo: Repository,
        suites: Sequence[Suite],
        options: MeasureOptions,
        command: str,
        progress: Progress = SILENT,
        *,
        replies: bool = False,
    ) -> None:
        self._repo = repo
        self._wants_replies = replies
        self._said: dict[tuple[str, str], tuple[Said, ...]] = {}
        self._options = options.checked()
        self._command = command
        self._progress = progress
        self._bench = Workbench(repo, self._options.dtype, self._options.device, progress)
        self._references = running.References()
        self.suites = tuple(suite.limited(options.limit) for suite in suites)
        self.notes: list[str] = []
        self.measured = 0

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(self, *failure: object) -> None:
        self._references.__exit__(*failure)

    def of(
        self, recipe: Recipe, label: str, *, control: int | None = None, suites: Sequence[Suite] | None = None
    ) -> tuple[Evaluation, ...]:
        """Evaluate a recipe by each suite.

        Args:
            recipe: What to measure.
            label: How progress calls it.
            control: Measure Gaussian noise of the same size as the recipe's change instead, drawn with this seed.
            suites: Some of ``self.suites``; all of them if None.
        """
        suites = self.suites if suites is None else suites
        build = build_digest(recipe, self._options.dtype, control)
        done = {suite.name: self._find(build, suite) for suite in suites}
        missing = [suite for suite in suites if done[suite.name] is None]
        for suite in missing:
            check_allowed(suite, self._options.allow_code)
        self._refer(base_of(recipe), [suite for suite in missing if suite.refers])
        if missing:
            live = self._live(recipe, label, control)
            for suite in missing:
                done[suite.name] = self._measure(live, suite, build)
        return tuple(evaluation for evaluation in done.values() if evaluation is not None)

    def replies(self, evaluation: Evaluation) -> tuple[Said, ...]:
        """What the model said in an evaluation of this evaluator."""
        said = self._said.get((evaluation.build, evaluation.suite))
        return said if said is not None else self._repo.evaluations.replies(evaluation) or ()

    def _find(self, build: str, suite: Suite) -> Evaluation | None:
        """Look up an evaluation; None also if its replies are wanted and lost."""
        found = self._stored(build, suite)
        wanted = self._wants_replies and found is not None and found.replies is not None
        if found is None or (wanted and self._repo.evaluations.replies(found) is None):
            return None
        return found

    def known(
        self, recipe: Recipe, suites: Sequence[Suite] | None = None, *, control: int | None = None
    ) -> tuple[Evaluation, ...]:
        """The evaluations of a recipe, or of its control, that are stored, without measuring anything."""
        build = build_digest(recipe, self._options.dtype, control)
        found = (self._stored(build, suite) for suite in suites or self.suites)
        return tuple(evaluation for evaluation in found if evaluation is not None)

    def _stored(self, build: str, suite: Suite) -> Evaluation | None:
        """What is stored for a build and a suite, if it says itself that it is of this suite."""
        found = self._repo.evaluations.find(build, self._key(suite))
        asked = suite.digest, self._options.seed, self._options.limit
        return found if found and (found.suite_digest, found.seed, found.limit) == asked else None

    def _live(self, recipe: Recipe, label: str, control: int | None) -> LoadedModel:
        if control is None:
            return self._bench.become(recipe, label)
        return self._bench.become_noise(recipe, label, control)

    def _refer(self, base: Recipe, suites: Sequence[Suite]) -> None:
        """Run the base for measures that compare with it."""
        waiting = [suite for suite in suites if not self._references.has(suite)]
        if waiting:
            live = self._bench.become(base, BASE)
            for suite in waiting:
                self._references.take(live, suite, self._options.seed, self._options.batch_size, self._progress)

    def _measure(self, live: LoadedModel, suite: Suite, build: str) -> Evaluation:
        options = self._options
        done = running.run(live, suite, self._references, options.seed, options.batch_size, self._progress)
        self.measured += 1
        evaluation = Evaluation(
            build, suite.name, suite.digest, options.seed, options.limit, now(), _made(live), done.figures
        )
        evaluation = Evaluation.decode(evaluation.encode())  # the same numbers as a later look-up gives
        if self._wants_replies:
            self._said[build, suite.name] = done.replies
        try:
            with self._repo.exclusive(self._command):
                self._repo.evaluations.keep(self._key(suite), evaluation, done.replies)
        except Locked as error:
            self.notes.append(f"the results of {suite.name} were not saved: {error.message}")
        return evaluation

    def _key(self, suite: Suite) -> str:
        fields = {"suite": suite.digest, "seed": self._options.seed, "limit": self._options.limit}
        return object_digest(b"persona evaluation\n" + canonical(fields))


def _made(live: LoadedModel) -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
    return {"device": live.device.type, "dtype": live.dtype, **versions}
