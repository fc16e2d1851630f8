"""What to try next: Optuna's sampler TPE, asked anew each time.

Settings are drawn where p(settings | good trials) / p(settings | other trials) is largest (Bergstra et al. 2011, "Algorithms for
Hyper-Parameter Optimization"; for several values at once Ozaki et al. 2022, doi:10.1613/jair.1.13188), and by chance until there are ten trials.
A study is made of the trials so far for every suggestion, so a suggestion follows from space, trials and seed alone: a search that was
stopped and goes on tries what it would have tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from persona.errors import UsageError

Setting = float | str

BY_CHANCE = 10
"""Trials that there must be before they are learnt from."""


@dataclass(frozen=True)
class Range:
    """From ``low`` to ``high``, evenly or by orders of magnitude."""

    low: float
    high: float
    log: bool = False

    def has(self, value: Any) -> bool:
        """Whether ``value`` lies in it."""
        return not isinstance(value, str) and value is not None and self.low <= value <= self.high


@dataclass(frozen=True)
class Choices:
    """One of these."""

    values: tuple[Setting, ...]

    def has(self, value: Any) -> bool:
        """Whether ``value`` is one of them."""
        return value in self.values


Space = Mapping[str, Range | Choices]


@dataclass(frozen=True)
class KnownTrial:
    """A trial: its settings, and its values, the lower the better; None where it has failed.

    Of ``limits``, by name, what is above 0 says how far a limit is broken: such trials are learnt from, and avoided.
    """

    settings: Mapping[str, Any]
    values: tuple[float, ...] | None
    limits: Mapping[str, float] = field(default_factory=dict)


def require_optuna() -> None:
    """Raise if the package is not there, before any work."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"tuning needs optuna, which cannot be imported: {error}", "Install it: pip install 'persona-vcs[tune]'"
        ) from None


def suggested(space: Space, known: Sequence[KnownTrial], seed: int) -> dict[str, Any]:
    """Settings of the next trial. Every known one must lie in the space, and all have the same number of values."""
    import optuna

    distributions = {name: _distribution(one) for name, one in space.items()}
    number = next((len(one.values) for one in known if one.values is not None), 1)
    with _quiet():
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=BY_CHANCE, constant_liar=False)
        study = optuna.create_study(directions=["minimize"] * number, sampler=sampler)
        for one in known:
            study.add_trial(
                optuna.create_trial(
                    params=dict(one.settings),
                    distributions=distributions,
                    values=one.values or (0.0,) * number,
                    constraints=_limits(one, known),
                )
            )
        return dict(study.ask(distributions).params)


def _distribution(one: Range | Choices) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if isinstance(one, Choices):
        return CategoricalDistribution(one.values)
    return FloatDistribution(one.low, one.high, log=one.log)


def _limits(one: KnownTrial, known: Sequence[KnownTrial]) -> dict[str, float]:
    """A trial that has failed breaks a limit that all others keep."""
    if all(other.values is not None for other in known):
        return dict(one.limits)
    names = {name for other in known for name in other.limits}
    return {**dict.fromkeys(names, 0.0), **one.limits, "failed": float(one.values is None)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna tells of each trial on stderr, unless it is told not to."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
