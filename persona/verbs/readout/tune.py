"""``persona readout tune``: find the layer and the strengths to steer with."""

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
"""Default number of trials, and smallest number of prompts."""


@dataclass(frozen=True)
class ReadoutTuneResult:
    """The result of a search. Trial 0 does not steer.

    ``best`` is the trial with the largest effect among those within ``bounds`` whose effect exceeds twice its standard error,
    null if there is none. ``again`` repeats it with another seed, compared with unsteered replies of that seed. ``resumed`` is
    the number of trials that were in the file before, and ``said`` summarizes the result in words.
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
    """Search for the layer and strengths that steer furthest while replies stay coherent.

    Args:
        out: File for the trials. If it exists, the search resumes from it.
        prompts: At least 8 prompts to reply to.
        search: What to steer by, the bounds, and how to generate replies.
        readout: Name of a readout in the recipe, or its folder; None for the only one.
        model: Revision, vector or folder; None for ``persona.toml``.
        count: Number of trials.
        plain: Do not apply the model's chat template to the prompts.
        cwd: Folder that relative paths start from.
        dtype: Data type to run the model in; None for that of its weights.
        device: Where to run the model.
        blocks: Path of the model's list of blocks; None to find it.
        batch_size: Number of prompts per batch.

    Raises:
        UsageError: optuna is missing, a concept does not exist, or there are too few prompts.
        Refusal: ``out`` has trials of another search.
    """
    from persona.readout import tuning
    from persona.readout.passes import fitting
    from persona.readout.replies import prompt_tokens
    from persona.readout.trialfile import question, read_trials, same_start, write_trials
    from persona.readout.units import centers, sizes

    suggestions.require_optuna()
    vectors, name = readout_named(repo, readout, Path(cwd))
    tuning.checked(vectors, search)
    sizes(vectors, "std"), centers(vectors)  # raise before the model is loaded
    _check(prompts, count, out)
    live = load_model(repo, model, Path(cwd), dtype=dtype, device=device, progress=progress)
    fitting(live.model, vectors, blocks)
    tokens = prompt_tokens(live, prompts, search.max_tokens, plain=plain)
    asked = question(search, vectors, tokens)
    known = read_trials(out, asked)
    with progress.task("steering", count + 2, "trials") as task:
        tuner = tuning.Tuner(live, vectors, tokens, search, batch_size=batch_size, blocks=blocks)
        same_start(out, known, tuner.trial(0, None, 0.0, 0.0))
        task.advance(len(known))
        kept = list(known)

        def keep(trial: SteeringTrial) -> None:
            kept.append(trial)
            write_trials(out, asked, kept)
            task.advance(1)

        steering = tuning.SteeringTrials(tuner, vectors, search, known, keep)
        if steering.run(count) == "interrupted":
            raise KeyboardInterrupt  # the file has the trials so far
        trials = steering.reports()
        best, again = tuning.best(trials), None
        if best is not None:
            other = replace(search, seed=search.seed + 1_000_003)
            fresh = tuning.Tuner(live, vectors, tokens, other, batch_size=batch_size, blocks=blocks)
            again = fresh.trial(best.number, best.layer, best.toward, best.away_from)
    return ReadoutTuneResult(
        live.label, name, search.toward, search.away_from, search.bounds, len(prompts), trials, len(known), best, again,
        in_words(search, trials, best, again), out, remarks(vectors, [live]),
    )  # fmt: skip


def _check(prompts: Sequence[str], count: int, out: Path) -> None:
    if len(prompts) < PROMPTS:
        raise UsageError(f"{len(prompts)} prompts are too few to measure an effect", f"Give at least {PROMPTS}.")
    if count < 1:
        raise UsageError(f"invalid number of trials: {count}", "Give 1 or more.")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"no folder {out.parent}", "Create it first, or name another file with -o.")


def in_words(
    search: SteeringSearch, trials: Sequence[SteeringTrial], best: SteeringTrial | None, again: SteeringTrial | None
) -> str:
    """Summarize a search."""
    inside = sum(trial.feasible for trial in trials[1:])
    if best is None or again is None:
        furthest = max(trials[1:], key=lambda trial: trial.effect)
        broken = f", but breaks its bound on {' and '.join(furthest.broken)}" if furthest.broken else ""
        return (
            f"No trial within the bounds has a significant effect; {inside} of {len(trials) - 1} are within the bounds. The "
            f"largest effect, of trial {furthest.number}, is {furthest.effect:+.2f} ± {furthest.error:.2f}{broken}."
        )
    poles = [f"{alpha:.2f} {way} {name}" for alpha, way, name in _poles(search, best)]
    ratio = best.perplexity / trials[0].perplexity
    confirmed = again.effect > 2 * again.error and again.feasible
    verdict = "which confirms it" if confirmed else "which does NOT confirm it"
    return (
        f"Trial {best.number} is the best of {inside} within the bounds: layer {best.layer}, {' and '.join(poles)}. Its "
        f"replies move by {best.effect:.2f} ± {best.error:.2f} standard deviations in that direction, at {ratio:.2f} × the "
        f"perplexity of the unsteered ones. With another seed it is {again.effect:+.2f} ± {again.error:.2f}"
        f"{', out of bounds' if again.broken else ''}, {verdict}."
    )


def _poles(search: SteeringSearch, trial: SteeringTrial) -> list[tuple[float, str, str]]:
    poles = [(trial.toward, "towards", search.toward), (trial.away_from, "away from", search.away_from)]
    return [(alpha, way, name) for alpha, way, name in poles if name is not None]
