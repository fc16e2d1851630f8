"""How strongly, and at which layer, to steer: Optuna searches for the largest effect that leaves replies coherent.

Each trial steers at one layer with a strength for each pole, lets the model reply to the same prompts with the same seeds,
and reads the replies in the model without steering (:mod:`persona.readout.replies`). The largest effect alone is known to
be gibberish, so a trial is *feasible* only within bounds that are relative to the replies without steering, which are
trial 0. Optuna's sampler (TPE) takes bounds as constraints: it prefers what is feasible, and learns from what is not.

What is suggested follows from the trials so far and the seed alone, so that a search that was stopped and goes on finds
what it would have found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persona.errors import UsageError
from persona.readout.model import Readout
from persona.readout.replies import Judged, Tokens, generate, judge
from persona.readout.steering import steer
from persona.suggestions import Choices, Range, Search, Trial

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32
    from persona.inference.load import LoadedModel


LEAST = 0.01
"""The smallest strength that is tried, as a share of the largest: what is too strong is found soon, what is enough is not."""


@dataclass(frozen=True)
class ReplyBounds:
    """What the replies of a feasible trial may be, relative to those without steering.

    ``perplexity`` is a factor; ``repetition`` and ``special`` are added.
    """

    perplexity: float = 1.5
    repetition: float = 0.1
    special: float = 0.05


@dataclass(frozen=True)
class SteeringSearch:
    """What is looked for: towards a concept, away from another, or both; and how replies are made."""

    toward: str | None
    away_from: str | None
    most: float = 16.0
    bounds: ReplyBounds = ReplyBounds()
    max_tokens: int = 40
    temperature: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class SteeringTrial:
    """One way to steer, and what came of it; trial 0 does not steer.

    ``toward`` and ``away_from`` are strengths, in standard deviations. ``effect`` is how much further the replies read that
    way than those without steering, in the same unit, with its standard ``error`` over the prompts. ``broken`` names the
    bounds that it breaks, and ``reply`` is its reply to the first prompt.
    """

    number: int
    layer: int | None
    toward: float
    away_from: float
    effect: float
    error: float
    perplexity: float
    repetition: float
    special: float
    broken: tuple[str, ...]
    reply: str

    @property
    def feasible(self) -> bool:
        """Whether it keeps within the bounds."""
        return not self.broken


def checked(readout: Readout, search: SteeringSearch) -> None:
    """Raise if a concept is not there, or none is named."""
    if search.toward is None and search.away_from is None:
        raise UsageError("steer which way?", "Give --toward CONCEPT, --away-from CONCEPT, or both.")
    if search.toward == search.away_from:
        raise UsageError(f"towards '{search.toward}' and away from it is nowhere", "Name two concepts, or one.")
    for name in (search.toward, search.away_from):
        if name is not None:
            readout.row(name)


class Tuner:
    """A model, prompts, and what their replies are like without steering."""

    def __init__(
        self,
        live: LoadedModel,
        readout: Readout,
        prompts: Tokens,
        search: SteeringSearch,
        *,
        batch_size: int,
        blocks: str | None,
    ) -> None:
        self._live, self._readout, self._prompts, self._search = live, readout, prompts, search
        self._batch_size, self._blocks = batch_size, blocks
        self._plain = self._judged(None, 0.0, 0.0)

    def trial(self, number: int, layer: int | None, toward: float, away_from: float) -> SteeringTrial:
        """Steer, and see what comes of it."""
        replies, judged = self._plain if layer is None else self._judged(layer, toward, away_from)
        effect, error = self._effect(judged)
        excess = excesses(judged, self._plain[1], self._search.bounds)
        broken = tuple(name for name, value in excess.items() if value > 0)
        words = self._live.need_tokenizer().decode(replies[0], skip_special_tokens=False)
        return SteeringTrial(
            number, layer, toward, away_from, effect, error,
            judged.perplexity, judged.repetition, judged.special, broken, words,
        )  # fmt: skip

    def _judged(self, layer: int | None, toward: float, away_from: float) -> tuple[Tokens, Judged]:
        search = self._search
        how = {"max_tokens": search.max_tokens, "temperature": search.temperature, "seed": search.seed}
        strengths: dict[str | tuple[str, str], float | tuple[float, float]] = {
            name: alpha for name, alpha in ((search.toward, toward), (search.away_from, -away_from)) if name is not None
        }
        layers = [layer] if layer is not None else list(self._readout.layers)
        with steer(
            self._live.model, {} if layer is None else strengths, self._readout, layers=layers, blocks=self._blocks
        ):
            replies = generate(self._live, self._prompts, batch_size=self._batch_size, **how)  # type: ignore[arg-type]
        return replies, judge(
            self._live, self._readout, self._prompts, replies, batch_size=self._batch_size, blocks=self._blocks
        )

    def _effect(self, judged: Judged) -> tuple[float, float]:
        """Mean and standard error over the prompts; a reply without a word moved nowhere."""
        import numpy as np

        moved = np.nan_to_num(self._way(judged.scores) - self._way(self._plain[1].scores))
        return float(moved.mean()), float(moved.std(ddof=1)) / math.sqrt(len(moved)) if len(moved) > 1 else math.inf

    def _way(self, scores: Float32) -> Float32:
        """How far each reply reads the way that is looked for: [replies]."""
        import numpy as np

        signs = ((self._search.toward, 1), (self._search.away_from, -1))
        found = [sign * scores[:, self._readout.row(name)].mean(1) for name, sign in signs if name is not None]
        way: Float32 = np.mean(found, axis=0).astype(np.float32)
        return way


def excesses(judged: Judged | SteeringTrial, plain: Judged | SteeringTrial, bounds: ReplyBounds) -> dict[str, float]:
    """How far each bound is broken: what is above 0 breaks it."""
    return {
        "perplexity": judged.perplexity / plain.perplexity - bounds.perplexity,
        "repetition": judged.repetition - plain.repetition - bounds.repetition,
        "special": judged.special - plain.special - bounds.special,
    }


class SteeringTrials(Search[SteeringTrial]):
    """A search for the layer and strengths with the largest effect.

    Args:
        tuner: Makes the trials.
        readout: Its layers are tried.
        options: What to search for.
        known: Trials of an earlier search to resume, beginning with trial 0; may be empty.
        keep: Called with each new trial.
    """

    def __init__(
        self,
        tuner: Tuner,
        readout: Readout,
        options: SteeringSearch,
        known: Sequence[SteeringTrial],
        keep: Callable[[SteeringTrial], None],
    ) -> None:
        self._named = [name for name in ("toward", "away_from") if getattr(options, name) is not None]
        strengths = Range(options.most * LEAST, options.most, log=True)
        super().__init__({"layer": Choices(readout.layers), **dict.fromkeys(self._named, strengths)})
        self._tuner, self._options, self._keep = tuner, options, keep
        self._plain = known[0] if known else tuner.trial(0, None, 0.0, 0.0)
        if not known:
            keep(self._plain)
        self.trials = [self._trial(report) for report in known or [self._plain]]

    def attempt(self, number: int, settings: dict[str, Any]) -> Trial[SteeringTrial]:
        """Steer at the suggested layer with the suggested strengths."""
        strengths = settings.get("toward", 0.0), settings.get("away_from", 0.0)
        report = self._tuner.trial(number, settings["layer"], *strengths)
        self._keep(report)
        return self._trial(report)

    def seed_of(self, number: int) -> int:
        """A seed for each trial."""
        return self._options.seed + number

    def reports(self) -> tuple[SteeringTrial, ...]:
        """All trials as a result has them."""
        return tuple(trial.result for trial in self.trials if trial.result is not None)

    def _trial(self, report: SteeringTrial) -> Trial[SteeringTrial]:
        settings = {name: getattr(report, name) for name in ("layer", *self._named)}
        return Trial(settings, (-report.effect,), excesses(report, self._plain, self._options.bounds), report)


def best(found: Sequence[SteeringTrial]) -> SteeringTrial | None:
    """The largest effect within the bounds, if it is more than twice its standard error; else None."""
    good = [one for one in found[1:] if one.feasible and one.effect > 2 * one.error]
    return max(good, key=lambda one: one.effect, default=None)
