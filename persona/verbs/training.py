"""What ``train`` and ``train_nodes`` share: a planned run is trained in a folder of its own and then committed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona import files
from persona.errors import Locked, Refusal, WrongBase
from persona.progress import Progress
from persona.repository import now
from persona.store.fishers import Fisher, ingest_fisher
from persona.training.problems import DataSummary, Prepared
from persona.verbs.commit import Committed, commit
from persona.verbs.living import live_recipe
from persona.verbs.training_plan import DATA, EVALUATION, OLD, Asked

if TYPE_CHECKING:
    from persona.training.fisher import Drift
    from persona.training.run import Fit


@dataclass(frozen=True)
class Trained:
    """A run, or with ``dry_run`` what it would be. ``curve`` is step → loss per token.

    ``before`` and ``after`` are the losses per token on the evaluation data; ``resumed`` is the step that the run went on
    from. ``trained`` is false where it was finished already.
    """

    name: str
    run: Path
    dry_run: bool
    preset: str
    settings: dict[str, Any]
    data: DataSummary
    evaluation: DataSummary | None
    old: DataSummary | None
    steps: int
    notes: tuple[str, ...] = ()
    trained: bool = False
    resumed: int = 0
    curve: tuple[tuple[int, float], ...] = ()
    before: float | None = None
    after: float | None = None
    ewc: Drift | None = None
    committed: Committed | None = None


def trained_and_committed(
    asked: Asked,
    prepared: Mapping[str, Prepared],
    alpha: float | None,
    message: str | None,
    author: str,
    device: str,
    dry_run: bool,
    code: Mapping[str, Any] | None,
    command: str,
    progress: Progress,
) -> Trained:
    """Trained and committed."""
    if dry_run:
        return _result(asked, prepared, dry_run=True)
    fit, trained = _trained(asked, prepared, device, progress)
    with _come_apart(asked):
        done = commit(
            asked.repo,
            asked.folder / "final",
            name=asked.name,
            alpha=alpha,
            node=asked.node,
            message=message,
            author=author,
            code=code,
            more=_facts(asked, prepared, fit),
            also=lambda: _kept_fisher(asked, fit.ewc, progress),
            command=command,
            progress=progress,
        )
    found = _result(asked, prepared, dry_run=False)
    return replace(
        found,
        steps=fit.steps,
        trained=trained,
        resumed=fit.resumed,
        curve=fit.curve,
        before=fit.before,
        after=fit.after,
        ewc=fit.ewc,
        committed=done,
    )


def _trained(asked: Asked, prepared: Mapping[str, Prepared], device: str, progress: Progress) -> tuple[Fit, bool]:
    """How the run went, and whether it was trained just now."""
    from persona.training import run

    done = run.finished(asked.folder)
    if done is not None:
        return done, False
    files.make_folder(asked.folder)
    with _alone(asked.folder):
        if not run.check_identity(asked.folder, asked.identity):
            files.write_file(asked.folder / run.IDENTITY, (json.dumps(asked.identity, indent=1) + "\n").encode())
        place = "cpu" if asked.settings.method == "qlora" else device  # it goes to the device in 4 bits
        live = live_recipe(asked.repo, asked.start, asked.label, asked.on, device=place, progress=progress)
        rows = {key: one.rows for key, one in prepared.items()}
        measured, old = rows.get(EVALUATION, ()), rows.get(OLD, ())
        return run.fit(live, rows[DATA], asked.settings, asked.folder, measured, old, device, progress), True


@contextlib.contextmanager
def _come_apart(asked: Asked) -> Iterator[None]:
    """A model that is nothing like its base any more was trained too hard: it is not of another base, as commit thinks."""
    try:
        yield
    except WrongBase as error:
        raise Refusal(
            f"training has taken the model apart: {error.message}",
            f"Lower learning_rate, and train in another folder than {asked.folder}.",
        ) from None


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a run's folder, so that no second process trains in it."""
    held = files.open_lock(folder / "lock")
    if held is None:
        raise Locked(f"another process trains in {folder}", "Wait until it is done, or give another folder: -o RUN")
    try:
        yield
    finally:
        files.close_lock(held)


def _facts(asked: Asked, prepared: Mapping[str, Prepared], fit: Fit) -> dict[str, Any]:
    """What the commit keeps of the run besides what its folder says."""
    summary = prepared[DATA].summary
    training: dict[str, Any] = {
        "preset": asked.preset,
        **asked.settings.table(),
        "examples": summary.used,
        "tokens": summary.tokens,
        "learnt_tokens": summary.learnt,
    }
    if asked.data.speaker:
        training["speaker"] = asked.data.speaker
    if asked.on:
        training["on"] = asked.on
    if fit.after is not None:
        training["eval_loss"] = {"before": fit.before, "after": fit.after}
    started = {"time": now(), "seed": asked.settings.seed, "base": asked.start.base}
    if EVALUATION in prepared:
        training["eval_data"] = asked.data.prints[EVALUATION]
    share = {"node": asked.node, "share": asked.digests[DATA]} if asked.shares else {}
    points = [[step, loss] for step, loss in fit.curve]
    history = {"loss": {"count": len(points), "points": points}}
    return {"training": training, "data": [asked.data.prints[DATA] | share], "started": started, "history": history}


def _kept_fisher(asked: Asked, drift: Drift | None, progress: Progress) -> dict[str, Any]:
    """The diagonal as an object of the store, and how the run moved under it; nothing without one."""
    if drift is None:
        return {}
    tensors = ingest_fisher(asked.folder / "fisher.safetensors", asked.repo.tensors, progress)
    kept = Fisher(
        base=asked.start.base_id,
        data=(asked.data.prints[OLD]["digest"],),
        examples=drift.examples,
        tokens=drift.tokens,
        seed=asked.settings.seed,
        tensors=tensors,
        recipe=asked.repo.commit(asked.on).recipe if asked.on else None,
    )
    return {"ewc": {"fisher": kept.put(asked.repo.objects), **asdict(drift)}}


def _result(asked: Asked, prepared: Mapping[str, Prepared], *, dry_run: bool) -> Trained:
    from persona.training.run import steps_of

    settings, summaries = asked.settings, {key: one.summary for key, one in prepared.items()}
    steps = steps_of(settings, len(prepared[DATA].rows))
    notes = []
    if settings.warmup_steps >= steps:
        notes.append(
            f"the warm-up of {settings.warmup_steps} steps takes all {steps} of them: the learning rate is never reached"
        )
    if settings.method == "qlora" and EVALUATION in prepared:
        notes.append("the losses are of the model in 4 bits, and a build is not: persona eval measures what is built")
    return Trained(
        asked.name,
        asked.folder,
        dry_run,
        asked.preset,
        settings.table(),
        summaries[DATA],
        summaries.get(EVALUATION),
        summaries.get(OLD),
        steps,
        tuple(notes),
    )
