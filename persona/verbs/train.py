"""`persona train`: train a vector on examples, and commit it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona import files
from persona.checkpoints.folder import FINAL
from persona.errors import Locked, Refusal, UsageError, WrongBase
from persona.progress import SILENT, Progress
from persona.repository import Repository, now
from persona.store.fishers import Fisher, ingest_fisher
from persona.training.plan import DATA, EVALUATION, OLD, RUNS, PlannedRun, TrainRequest, name_of, plan_run, prepare_all
from persona.training.problems import DataSummary, Prepared
from persona.verbs.commit import CommitResult, commit
from persona.workspace.loading import load_recipe

if TYPE_CHECKING:
    from persona.training.fisher import FisherDrift
    from persona.training.run import Fit


@dataclass(frozen=True)
class TrainResult:
    """A training run, or with `dry_run` what it would be.

    `data`, `evaluation` and `old` summarize the examples to train on, to evaluate on, and of the old task. `curve` has
    pairs of step and loss per token. `before` and `after` are the losses per token on the evaluation data. `resumed` is
    the step that the run resumed from, 0 for a new one. `trained` is false if the run was already finished.
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
    ewc: FisherDrift | None = None
    committed: CommitResult | None = None


@dataclass(frozen=True)
class TrainNodesResult:
    """One run per node, in the given order; `notes` are about the data."""

    runs: tuple[TrainResult, ...]
    notes: tuple[str, ...] = ()


def train(
    repo: Repository,
    data: Path | str,
    *,
    node: str | None = None,
    name: str | None = None,
    evaluation: Path | str | None = None,
    preset: str | Path = "default",
    changes: Mapping[str, Any] | None = None,
    speaker: str | None = None,
    on: str | None = None,
    out: Path | str | None = None,
    ewc_data: Path | str | None = None,
    alpha: float | None = None,
    message: str | None = None,
    author: str = "",
    device: str = "cpu",
    dry_run: bool = False,
    code: Mapping[str, Any] | None = None,
    command: str = "train",
    told: Callable[[str], None] = lambda _: None,
    progress: Progress = SILENT,
) -> TrainResult:
    """Train on a file of examples and commit the result as a vector. The same call resumes an interrupted run.

    Args:
        data: File of examples (`persona.training.examples` lists the formats).
        node: Memory-graph node that the vector implements. Examples of other nodes are left out.
        name: Name of the vector; by default that of the node, or of the data file.
        evaluation: File of examples to measure the loss on, before and after.
        preset: Name of a preset, or a TOML file of settings.
        changes: Settings that override the preset's.
        speaker: Speaker whose turns are learnt, in conversations of [NAME] turns.
        on: Revision to start from a build of; by default the base of HEAD.
        out: Folder of the run; by default `runs/NAME`.
        ewc_data: File of examples of the old task, for elastic weight consolidation.
        alpha: Alpha of the vector; by default 1, or its current one.
        device: Device to train on, such as "cuda".
        dry_run: Only check the request and read the data.
        code: Description of the training code, kept in the commit.
        command: Name of the operation in the operation log.
        told: Called with each note about the data, before training starts.

    Raises:
        UsageError: an argument or example is invalid, or there is nothing to learn.
        Refusal: the run folder holds another run, or training diverged.
        WrongBase: `on` has another base than the current recipe.
        Locked: another process trains in the run folder.
    """
    request = TrainRequest(
        repo, data, evaluation, preset, changes, speaker, on, ewc_data, alpha,
        message, author, device, dry_run, code, command, told, progress,
    )  # fmt: skip
    run = plan_run(request, node, name=name, out=out)
    notes = request.report_left_out([node] if node is not None else [])
    result = _train_and_commit(run, prepare_all(run))
    return replace(result, notes=(*notes, *result.notes))


def train_nodes(
    repo: Repository,
    data: Path | str,
    nodes: Sequence[str],
    *,
    evaluation: Path | str | None = None,
    preset: str | Path = "default",
    changes: Mapping[str, Any] | None = None,
    speaker: str | None = None,
    on: str | None = None,
    out: Path | str | None = None,
    ewc_data: Path | str | None = None,
    alpha: float | None = None,
    message: str | None = None,
    author: str = "",
    device: str = "cpu",
    dry_run: bool = False,
    code: Mapping[str, Any] | None = None,
    command: str = "train",
    told: Callable[[str], None] = lambda _: None,
    progress: Progress = SILENT,
) -> TrainNodesResult:
    """Train one vector per node, each on the examples of `data` with that `"node"`; arguments as for `train`.

    Each vector is named after its node. All data is checked before the first run starts. The same call resumes after an
    interruption, without repeating finished runs.

    Args:
        nodes: Memory-graph nodes to train, in order.
        out: Folder in which each run gets a folder of its vector's name; by default `runs`.
    """
    request = TrainRequest(
        repo, data, evaluation, preset, changes, speaker, on, ewc_data, alpha,
        message, author, device, dry_run, code, command, told, progress,
    )  # fmt: skip
    if twice := next((node for node in nodes if list(nodes).count(node) > 1), None):
        raise UsageError(f"'{twice}' is named twice", "Name each node once.")
    place = Path(out) if out is not None else repo.root / RUNS
    runs = [plan_run(request, node, out=place / name_of(node, Path(data)), several=True) for node in nodes]
    _check_names(runs)
    notes = request.report_left_out(nodes)
    ready = [(run, prepare_all(run)) for run in runs]
    return TrainNodesResult(tuple(_train_and_commit(run, prepared) for run, prepared in ready), notes)


def _check_names(runs: Sequence[PlannedRun]) -> None:
    """Raise if the vectors of two nodes would have the same name."""
    names = [run.name for run in runs]
    for run in runs:
        if names.count(run.name) > 1:
            nodes = " and ".join(str(other.node) for other in runs if other.name == run.name)
            raise UsageError(
                f"the vectors of {nodes} would have the same name '{run.name}'", "Train them one by one: --as NAME"
            )


def _train_and_commit(run: PlannedRun, prepared: Mapping[str, Prepared]) -> TrainResult:
    request = run.request
    if request.dry_run:
        return _result(run, prepared)
    fit, trained = _trained(run, prepared)
    with _explaining_divergence(run):
        committed = commit(
            run.repo,
            run.folder / FINAL,
            name=run.name,
            alpha=request.alpha,
            node=run.node,
            message=request.message,
            author=request.author,
            code=request.code,
            more=_facts(run, prepared, fit),
            also=lambda: _kept_fisher(run, fit.ewc),
            command=request.command,
            progress=request.progress,
        )
    return replace(_result(run, prepared), **vars(fit), trained=trained, committed=committed)


def _trained(run: PlannedRun, prepared: Mapping[str, Prepared]) -> tuple[Fit, bool]:
    """Train, unless the run is finished; return how it went, and whether it was trained now."""
    from persona.training.run import begin, check_identity, finished, fit

    done = finished(run.folder)
    if done is not None:
        return done, False
    request = run.request
    files.make_folder(run.folder)
    with _alone(run.folder):
        if not check_identity(run.folder, run.identity):
            begin(run.folder, run.identity)
        # qlora moves the model to the device itself, once it is quantized.
        device = "cpu" if run.settings.method == "qlora" else request.device
        model = load_recipe(run.repo, run.start, run.label, run.on, device=device, progress=request.progress)
        rows = {key: file.rows for key, file in prepared.items()}
        return fit(
            model, rows[DATA], run.settings, run.folder,
            rows.get(EVALUATION, ()), rows.get(OLD, ()), request.device, request.progress,
        ), True  # fmt: skip


@contextlib.contextmanager
def _explaining_divergence(run: PlannedRun) -> Iterator[None]:
    """Turn WrongBase into a better error: the model started from the base, so it must have diverged from it."""
    try:
        yield
    except WrongBase as error:
        raise Refusal(
            f"training diverged: {error.message}",
            f"Lower learning_rate, and train in another folder than {run.folder}.",
        ) from None


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock a run folder, so that no other process trains in it."""
    lock = files.open_lock(folder / "lock")
    if lock is None:
        raise Locked(f"another process trains in {folder}", "Wait until it ends, or give another folder: -o RUN")
    try:
        yield
    finally:
        files.close_lock(lock)


def _facts(run: PlannedRun, prepared: Mapping[str, Prepared], fit: Fit) -> dict[str, Any]:
    """Facts for the commit that are not in the run folder."""
    request, summary = run.request, prepared[DATA].summary
    training: dict[str, Any] = {
        "preset": str(request.preset),
        **run.settings.table(),
        "examples": summary.used,
        "tokens": summary.tokens,
        "learnt_tokens": summary.learnt,
    }
    if request.speaker:
        training["speaker"] = request.speaker
    if run.on:
        training["on"] = run.on
    if fit.after is not None:
        training["eval_loss"] = {"before": fit.before, "after": fit.after}
    started = {"time": now(), "seed": run.settings.seed, "base": run.start.base}
    if EVALUATION in prepared:
        training["eval_data"] = request.prints[EVALUATION]
    share = {"node": run.node, "share": run.digests[DATA]} if run.shares else {}
    points = [[step, loss] for step, loss in fit.curve]
    history = {"loss": {"count": len(points), "points": points}}
    return {"training": training, "data": [request.prints[DATA] | share], "started": started, "history": history}


def _kept_fisher(run: PlannedRun, drift: FisherDrift | None) -> dict[str, Any]:
    """Store the Fisher diagonal; return facts about it for the commit, none without elastic weight consolidation."""
    if drift is None:
        return {}
    kept = Fisher(
        base=run.start.base_id,
        data=(run.request.prints[OLD]["digest"],),
        examples=drift.examples,
        tokens=drift.tokens,
        seed=run.settings.seed,
        tensors=ingest_fisher(run.folder / "fisher.safetensors", run.repo.tensors, run.request.progress),
        recipe=run.repo.commit(run.on).recipe if run.on else None,
    )
    return {"ewc": {"fisher": kept.put(run.repo.objects), **asdict(drift)}}


def _result(run: PlannedRun, prepared: Mapping[str, Prepared]) -> TrainResult:
    """The result of a run that has not been trained."""
    from persona.training.run import steps_of

    settings, summaries = run.settings, {key: file.summary for key, file in prepared.items()}
    steps = steps_of(settings, len(prepared[DATA].rows))
    notes = []
    if settings.warmup_steps >= steps:
        notes.append(
            f"{'the only step is' if steps == 1 else f'all {steps} steps are'} warm-up (warmup_steps is {settings.warmup_steps}), "
            "so the full learning rate is never reached"
        )
    if settings.method == "qlora" and EVALUATION in prepared:
        notes.append("losses are measured on the 4-bit model, which a build is not; persona eval measures builds")
    return TrainResult(
        name=run.name,
        run=run.folder,
        dry_run=run.request.dry_run,
        preset=str(run.request.preset),
        settings=settings.table(),
        data=summaries[DATA],
        evaluation=summaries.get(EVALUATION),
        old=summaries.get(OLD),
        steps=steps,
        notes=tuple(notes),
    )
