"""Search for the layer and the strengths that steer furthest while replies stay coherent.

Each trial steers at one layer with a strength for each concept, lets the model reply to the same prompts with the same seeds, and
reads the replies in the model without steering (:mod:`persona.readout.replies`). The largest effect alone is gibberish, so a
trial is *feasible* only within bounds relative to the unsteered replies, which are trial 0. Optuna's sampler uses the bounds as
constraints: it prefers feasible trials, and learns from the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from persona.errors import UsageError
from persona.readout.model import Readout
from persona.readout.replies import Judged, Tokens, generate, judge
from persona.readout.steering import steered
from persona.suggestions import Choices, Range, Search, Trial

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32
    from persona.inference.load import LoadedModel


LEAST = 0.01
"""Smallest strength to try, as a share of the largest. The scale is logarithmic, as weak strengths need a finer search."""


def _option(text: str, metavar: str, least: float | None = None, flag: str | None = None) -> dict[str, Any]:
    """Metadata from which the command line makes an option; see ``persona.cli.running``."""
    return {"help": text, "metavar": metavar, "min": least} | ({"flag": flag} if flag else {})


@dataclass(frozen=True)
class ReplyBounds:
    """Bounds on the replies of a feasible trial, relative to the unsteered ones.

    ``perplexity`` is a factor; ``repetition`` and ``special`` are differences.
    """

    perplexity: float = field(
        default=1.5, metadata=_option("Maximum perplexity, relative to unsteered replies.", "X", 1, "--max-perplexity")
    )
    repetition: float = field(
        default=0.1, metadata=_option("Maximum increase in repeated 3-grams.", "S", 0, "--max-repetition")
    )
    special: float = field(
        default=0.05, metadata=_option("Maximum increase in special tokens.", "S", 0, "--max-special")
    )


@dataclass(frozen=True)
class SteeringSearch:
    """What to search for, and how to generate replies.

    Steers towards a concept, away from another, or both, with strengths of up to ``most`` standard deviations.
    """

    toward: str | None = field(metadata=_option("Steer towards this concept.", "CONCEPT"))
    away_from: str | None = field(metadata=_option("Steer away from this concept, with its own strength.", "CONCEPT"))
    most: float = field(
        default=16.0,
        metadata=_option("Largest strength, in standard deviations of the readout.", "S", 0) | {"min_open": True},
    )
    bounds: ReplyBounds = ReplyBounds()
    max_tokens: int = field(default=40, metadata=_option("Maximum number of new tokens per reply.", "N", 1))
    temperature: float = field(default=1.0, metadata=_option("Sampling temperature; 0 means greedy decoding.", "T", 0))
    seed: int = field(default=0, metadata=_option("Random seed.", "N", 0))


@dataclass(frozen=True)
class SteeringTrial:
    """One trial of a search. Trial 0 does not steer, and its ``layer`` is null.

    ``toward`` and ``away_from`` are strengths, in standard deviations of the readout. ``effect`` is how far the replies move in
    the wanted direction relative to the unsteered ones, in the same unit, with its standard ``error`` over the prompts.
    ``broken`` names the bounds that the trial breaks, and ``reply`` is its reply to the first prompt.
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
        """Whether the trial is within all bounds."""
        return not self.broken


def checked(readout: Readout, search: SteeringSearch) -> None:
    """Raise UsageError if a concept does not exist, none is named, or both are the same."""
    if search.toward is None and search.away_from is None:
        raise UsageError("no concept to steer by", "Give --toward CONCEPT, --away-from CONCEPT, or both.")
    if search.toward == search.away_from:
        raise UsageError(
            f"cannot steer both towards and away from '{search.toward}'", "Name one concept, or two different ones."
        )
    for name in (search.toward, search.away_from):
        if name is not None:
            readout.row(name)


class Tuner:
    """Makes trials with one model and its prompts, and compares them with its unsteered replies.

    Args:
        live: The model.
        readout: Steers it, and reads the replies.
        prompts: Prompts in tokens.
        search: What to steer by, and how to generate replies.
        batch_size: Number of prompts per batch.
        blocks: Path of the model's list of blocks; None to find it.
    """

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
        """Steer at ``layer`` with these strengths, and judge the replies; do not steer if ``layer`` is None."""
        replies, judged = self._plain if layer is None else self._judged(layer, toward, away_from)
        effect, error = self._effect(judged)
        excess = excesses(judged, self._plain[1], self._search.bounds)
        broken = tuple(name for name, value in excess.items() if value > 0)
        text = self._live.need_tokenizer().decode(replies[0], skip_special_tokens=False)
        return SteeringTrial(
            number, layer, toward, away_from, effect, error,
            judged.perplexity, judged.repetition, judged.special, broken, text,
        )  # fmt: skip

    def _judged(self, layer: int | None, toward: float, away_from: float) -> tuple[Tokens, Judged]:
        search = self._search
        how = {"max_tokens": search.max_tokens, "temperature": search.temperature, "seed": search.seed}
        strengths: dict[str | tuple[str, str], float | tuple[float, float]] = {
            name: alpha for name, alpha in ((search.toward, toward), (search.away_from, -away_from)) if name is not None
        }
        layers = [layer] if layer is not None else list(self._readout.layers)
        with steered(
            self._live.model, {} if layer is None else strengths, self._readout, layers=layers, blocks=self._blocks
        ):
            replies = generate(self._live, self._prompts, batch_size=self._batch_size, **how)  # type: ignore[arg-type]
        return replies, judge(
            self._live, self._readout, self._prompts, replies, batch_size=self._batch_size, blocks=self._blocks
        )

    def _effect(self, judged: Judged) -> tuple[float, float]:
        """Mean and standard error of the effect over the prompts; empty replies count as no effect."""
        import numpy as np

        moved = np.nan_to_num(self._direction(judged.scores) - self._direction(self._plain[1].scores))
        return float(moved.mean()), float(moved.std(ddof=1)) / math.sqrt(len(moved)) if len(moved) > 1 else math.inf

    def _direction(self, scores: Float32) -> Float32:
        """How far each reply reads in the wanted direction: [replies]."""
        import numpy as np

        signs = ((self._search.toward, 1), (self._search.away_from, -1))
        scored = [sign * scores[:, self._readout.row(name)].mean(1) for name, sign in signs if name is not None]
        mean: Float32 = np.mean(scored, axis=0).astype(np.float32)
        return mean


def excesses(judged: Judged | SteeringTrial, plain: Judged | SteeringTrial, bounds: ReplyBounds) -> dict[str, float]:
    """How far each bound is exceeded: a number above 0 breaks it."""
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


def best(trials: Sequence[SteeringTrial]) -> SteeringTrial | None:
    """The feasible trial with the largest effect among those above twice their standard error; None if there is none."""
    good = [trial for trial in trials[1:] if trial.feasible and trial.effect > 2 * trial.error]
    return max(good, key=lambda trial: trial.effect, default=None)
