"""Search for good settings: trials one after another, each suggested by Optuna's sampler TPE.

Settings are drawn where p(settings | good trials) / p(settings | other trials) is largest (Bergstra et al. 2011, "Algorithms
for Hyper-Parameter Optimization"; for several values at once Ozaki et al. 2022, doi:10.1613/jair.1.13188), and at random
until there are ten trials. Each suggestion starts from a new study of all trials so far, so it depends only on the space, the
trials and the seed: a search that was stopped continues with the trials it would have made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Generic, Literal, TypeVar

from persona.errors import UsageError

R = TypeVar("R")
Setting = float | str
Stopped = Literal["trials", "minutes", "interrupted"]
Values = tuple[float, ...] | None
"""One value per objective, lower is better. None for a trial that failed or breaks a limit; it is never chosen."""

AT_RANDOM = 10
"""Number of trials before the sampler starts to learn from them."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, on a logarithmic scale if ``log``."""

    low: float
    high: float
    log: bool = False

    def has(self, value: Any) -> bool:
        """Whether ``value`` lies in the range."""
        return not isinstance(value, str) and value is not None and self.low <= value <= self.high


@dataclass(frozen=True)
class Choices:
    """A list of options."""

    values: tuple[Setting, ...]

    def has(self, value: Any) -> bool:
        """Whether ``value`` is one of the options."""
        return value in self.values


Space = Mapping[str, Range | Choices]


@dataclass(frozen=True)
class Trial(Generic[R]):
    """The settings of one trial and what came of them.

    ``values`` has one number per objective, lower is better; it is None if the trial failed, and ``failed`` says why.
    ``excess`` has a number per limit; the trial breaks those above 0.
    """

    settings: Mapping[str, Any]
    values: Values = None
    excess: Mapping[str, float] = field(default_factory=dict)
    result: R | None = None
    failed: str = ""

    @property
    def broken(self) -> tuple[str, ...]:
        """Names of the limits that the trial breaks."""
        return tuple(name for name, value in self.excess.items() if value > 0)

    @property
    def eligible(self) -> Values:
        """Its values, or None if it must not be chosen."""
        return None if self.broken else self.values


class Search(ABC, Generic[R]):
    """Trials of settings from a space; trial 0 is the present state, which may lie outside of it.

    A subclass fills in trial 0, or all trials made before if it resumes a search.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.trials: list[Trial[R]] = []
        self.count = 0

    @abstractmethod
    def attempt(self, number: int, settings: dict[str, Any]) -> Trial[R]:
        """Try the suggested settings; the trial says which ones were really used."""

    @abstractmethod
    def seed_of(self, number: int) -> int:
        """The sampler's seed for a trial."""

    def run(self, count: int, minutes: float | None = None) -> Stopped:
        """Make trials up to number ``count``, or until ``minutes`` have passed or a KeyboardInterrupt arrives."""
        start, self.count = monotonic(), count
        try:
            for number in range(len(self.trials), count + 1):
                if minutes is not None and monotonic() - start >= 60 * minutes:
                    return "minutes"
                inside = [trial for trial in self.trials if self._is_inside(trial)]
                settings = suggested(self.space, inside, self.seed_of(number))
                self.trials.append(self.attempt(number, settings))
        except KeyboardInterrupt:
            return "interrupted"
        return "trials"

    def front(self) -> tuple[int, ...]:
        """Numbers of the trials on the Pareto front."""
        return front([trial.eligible for trial in self.trials])

    def recommended(self) -> int | None:
        """The best trial, or None if none is better than trial 0; see :func:`recommended`."""
        return recommended([trial.eligible for trial in self.trials]) or None

    def _is_inside(self, trial: Trial[R]) -> bool:
        return all(part.has(trial.settings.get(name)) for name, part in self.space.items())


def dominates(values: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether ``values`` are no worse than ``other`` in any objective, and better in one."""
    return all(a <= b for a, b in zip(values, other, strict=True)) and values != other


def front(trials: Sequence[Values]) -> tuple[int, ...]:
    """Numbers of the trials that no other dominates (the Pareto front)."""
    sound = [(number, values) for number, values in enumerate(trials) if values is not None]
    return tuple(number for number, values in sound if not any(dominates(other, values) for _, other in sound))


def recommended(trials: Sequence[Values]) -> int | None:
    """The best trial in the first objective among those no worse than trial 0 in any objective.

    Ties go to the next objective, then to the earlier trial. The result is always on the Pareto front: whatever dominated
    it would also be no worse than trial 0, and better. If trial 0 has no values, all others compete.

    Returns:
        The number of the trial: 0 if nothing is better, None if no trial is eligible.
    """
    start = trials[0]
    good = [
        (values, number)
        for number, values in enumerate(trials)
        if values is not None and (start is None or values == start or dominates(values, start))
    ]
    return min(good)[1] if good else None


def require_optuna() -> None:
    """Raise UsageError if optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"tuning needs optuna, which cannot be imported: {error}", "Install it: pip install 'persona-vcs[tune]'"
        ) from None


def suggested(space: Space, trials: Sequence[Trial[Any]], seed: int) -> dict[str, Any]:
    """Suggest settings for the next trial.

    Args:
        space: What to choose from.
        trials: Trials so far. Their settings must lie in the space, and all must have the same number of values.
        seed: Seed of the sampler.
    """
    import optuna

    distributions = {name: _distribution(part) for name, part in space.items()}
    number = next((len(trial.values) for trial in trials if trial.values is not None), 1)
    with _quiet():
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=AT_RANDOM, constant_liar=False)
        study = optuna.create_study(directions=["minimize"] * number, sampler=sampler)
        for trial in trials:
            study.add_trial(
                optuna.create_trial(
                    params=dict(trial.settings),
                    distributions=distributions,
                    values=trial.values or (0.0,) * number,
                    constraints=_constraints(trial, trials),
                )
            )
        return dict(study.ask(distributions).params)


def _distribution(part: Range | Choices) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if isinstance(part, Choices):
        return CategoricalDistribution(part.values)
    return FloatDistribution(part.low, part.high, log=part.log)


def _constraints(trial: Trial[Any], trials: Sequence[Trial[Any]]) -> dict[str, float]:
    """The limits of a trial; if any trial failed, having failed is a limit, too."""
    if all(other.values is not None for other in trials):
        return dict(trial.excess)
    names = {name for other in trials for name in other.excess}
    return {**dict.fromkeys(names, 0.0), **trial.excess, "failed": float(trial.values is None)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence optuna, which otherwise logs each trial to stderr."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
