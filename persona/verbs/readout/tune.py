"""``persona readout tune``: at which layer, and how strongly, to steer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from persona import suggestions
from persona.errors import UsageError
from persona.progress import SILENT, Progress
from persona.readout.tuning import ReplyBounds, SteeringSearch, SteeringTrial
from persona.repository import Repository
from persona.workspace.loading import load_model
from persona.workspace.reading import readout_named, remarks

TRIALS, PROMPTS = 40, 8
"""How many trials there are unless said otherwise, and how many prompts there must be."""


@dataclass(frozen=True)
class ReadoutTuneResult:
    """What a search found. ``trials`` begin with the one that does not steer.

    ``best`` has the largest effect of those within ``bounds`` if it is more than twice its standard error, and is None if
    there is no such trial; ``again`` is it once more with another seed, against replies of that seed without steering.
    ``said`` is that in words, and ``resumed`` how many trials were there before.
    """

    model: str
    readout: str
    toward: str | None
    away_from: str | None
    bounds: ReplyBounds
    prompts: int
    trials: tuple[SteeringTrial, ...]
    resumed: int
    best: SteeringTrial | None
    again: SteeringTrial | None
    said: str
    file: Path
    notes: tuple[str, ...] = ()


def readout_tune(
    repo: Repository | None,
    out: Path,
    prompts: Sequence[str],
    search: SteeringSearch,
    readout: str | Path | None = None,
    model: str | Path | None = None,
    *,
    count: int = TRIALS,
    plain: bool = False,
    cwd: Path | str = ".",
    dtype: str | None = None,
    device: str = "cpu",
    blocks: str | None = None,
    batch_size: int = 8,
    progress: Progress = SILENT,
) -> ReadoutTuneResult:
    """Search for layer and strengths with ``count`` trials, kept in ``out``, from which it goes on if that is there.

    ``prompts`` go through the model's chat template where it has one, unless ``plain``.
    """
    from persona.readout import tuning
    from persona.readout.passes import fitting
    from persona.readout.replies import prompt_tokens
    from persona.readout.trialfile import question, read_trials, same_start, write_trials
    from persona.readout.units import centers, sizes

    suggestions.require_optuna()
    found, name = readout_named(repo, readout, Path(cwd))
    tuning.checked(found, search)
    sizes(found, "std"), centers(found)  # an error before the model is loaded
    _check(prompts, count, out)
    live = load_model(repo, model, Path(cwd), dtype=dtype, device=device, progress=progress)
    fitting(live.model, found, blocks)
    tokens = prompt_tokens(live, prompts, search.max_tokens, plain=plain)
    asked = question(search, found, tokens)
    known = read_trials(out, asked)
    with progress.task("steering", count + 2, "trials") as task:
        tuner = tuning.Tuner(live, found, tokens, search, batch_size=batch_size, blocks=blocks)
        same_start(out, known, tuner.trial(0, None, 0.0, 0.0))
        task.advance(len(known))
        kept = list(known)

        def keep(one: SteeringTrial) -> None:
            kept.append(one)
            write_trials(out, asked, kept)
            task.advance(1)

        steering = tuning.SteeringTrials(tuner, found, search, known, keep)
        if steering.run(count) == "interrupted":
            raise KeyboardInterrupt  # the file has the trials so far
        trials = steering.reports()
        best, again = tuning.best(trials), None
        if best is not None:
            other = replace(search, seed=search.seed + 1_000_003)
            fresh = tuning.Tuner(live, found, tokens, other, batch_size=batch_size, blocks=blocks)
            again = fresh.trial(best.number, best.layer, best.toward, best.away_from)
    return ReadoutTuneResult(
        live.label, name, search.toward, search.away_from, search.bounds, len(prompts), trials, len(known), best, again,
        in_words(search, trials, best, again), out, remarks(found, [live]),
    )  # fmt: skip


def _check(prompts: Sequence[str], count: int, out: Path) -> None:
    if len(prompts) < PROMPTS:
        raise UsageError(
            f"{len(prompts)} prompts are too few to tell an effect from chance", f"Give {PROMPTS} or more."
        )
    if count < 1:
        raise UsageError("there is nothing to try", "Give one trial or more.")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {out.parent}", "Make it, or name another file with -o.")


def in_words(
    search: SteeringSearch, trials: Sequence[SteeringTrial], best: SteeringTrial | None, again: SteeringTrial | None
) -> str:
    """What a person should take from it."""
    inside = sum(one.feasible for one in trials[1:])
    if best is None or again is None:
        furthest = max(trials[1:], key=lambda one: one.effect)
        broken = f", and breaks its bound on {' and '.join(furthest.broken)}" if furthest.broken else ""
        return (
            f"No trial reads further than the unsteered replies within the bounds, beyond chance: {inside} of "
            f"{len(trials) - 1} kept them. The furthest, trial {furthest.number}, moved by {furthest.effect:+.2f} "
            f"± {furthest.error:.2f}{broken}."
        )
    poles = [f"{alpha:.2f} {way} {name}" for alpha, way, name in _poles(search, best)]
    ratio = best.perplexity / trials[0].perplexity
    confirmed = again.effect > 2 * again.error and again.feasible
    verdict = "as well" if confirmed else "which does NOT confirm it"
    return (
        f"Trial {best.number} is the best of {inside} within the bounds: layer {best.layer}, {' and '.join(poles)}. Its "
        f"replies read {best.effect:.2f} ± {best.error:.2f} standard deviations further that way, at {ratio:.2f} × the "
        f"perplexity of the unsteered ones; with another seed {again.effect:+.2f} ± {again.error:.2f}"
        f"{', out of bounds' if again.broken else ''}, {verdict}."
    )


def _poles(search: SteeringSearch, one: SteeringTrial) -> list[tuple[float, str, str]]:
    found = [(one.toward, "towards", search.toward), (one.away_from, "away from", search.away_from)]
    return [(alpha, way, name) for alpha, way, name in found if name is not None]
