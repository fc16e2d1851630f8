"""``persona train``: examples compiled into a vector."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona import files
from persona.errors import Locked, Refusal, UsageError, WrongBase
from persona.progress import SILENT, Progress
from persona.repository import Repository, now
from persona.store.fishers import Fisher, ingest_fisher
from persona.training.plan import DATA, EVALUATION, OLD, RUNS, PlannedRun, checked, data_of, name_of, prepare_all
from persona.training.problems import DataSummary, Prepared
from persona.training.settings import read_settings
from persona.verbs.commit import CommitResult, commit
from persona.workspace.loading import load_recipe

if TYPE_CHECKING:
    from persona.training.fisher import FisherDrift
    from persona.training.run import Fit


@dataclass(frozen=True)
class TrainResult:
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
    ewc: FisherDrift | None = None
    committed: CommitResult | None = None


def trained_and_committed(
    asked: PlannedRun,
    prepared: Mapping[str, Prepared],
    alpha: float | None,
    message: str | None,
    author: str,
    device: str,
    dry_run: bool,
    code: Mapping[str, Any] | None,
    command: str,
    progress: Progress,
) -> TrainResult:
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


def _trained(asked: PlannedRun, prepared: Mapping[str, Prepared], device: str, progress: Progress) -> tuple[Fit, bool]:
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
        live = load_recipe(asked.repo, asked.start, asked.label, asked.on, device=place, progress=progress)
        rows = {key: one.rows for key, one in prepared.items()}
        measured, old = rows.get(EVALUATION, ()), rows.get(OLD, ())
        return run.fit(live, rows[DATA], asked.settings, asked.folder, measured, old, device, progress), True


@contextlib.contextmanager
def _come_apart(asked: PlannedRun) -> Iterator[None]:
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


def _facts(asked: PlannedRun, prepared: Mapping[str, Prepared], fit: Fit) -> dict[str, Any]:
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


def _kept_fisher(asked: PlannedRun, drift: FisherDrift | None, progress: Progress) -> dict[str, Any]:
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


def _result(asked: PlannedRun, prepared: Mapping[str, Prepared], *, dry_run: bool) -> TrainResult:
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
    return TrainResult(
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
    """Train on ``data`` and commit what came of it as the vector ``name``, which implements ``node``.

    It begins with the base of HEAD, or with a build of the revision ``on``; with elastic weight consolidation what
    ``ewc_data`` asks of the weights is kept. ``changes`` are settings that override the preset's. The run is in the
    folder ``out`` (``runs/NAME`` unless given): the same call goes on there after a kill. Rows that say another node than
    ``node`` are left out, and ``told`` hears of that before anything is trained.
    """
    files_ = data_of(data, evaluation, ewc_data, speaker, read_settings(preset, changes))
    asked = checked(repo, files_, node, name, preset, on, out, alpha, device)
    notes = files_.left_out([node] if node is not None else [])
    for text in notes:
        told(text)
    prepared = prepare_all(asked)
    done = trained_and_committed(asked, prepared, alpha, message, author, device, dry_run, code, command, progress)
    return replace(done, notes=(*notes, *done.notes))


@dataclass(frozen=True)
class TrainNodesResult:
    """A run for each node, in the order that they were named; ``notes`` are of the data."""

    runs: tuple[TrainResult, ...]
    notes: tuple[str, ...] = ()


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
    """:func:`train` for each of several nodes, one after the other, on those rows of ``data`` whose ``"node"`` it is.

    A vector is called as its node, and its run is in the folder of that name in ``out`` (``runs`` unless given). All data is
    looked at before anything is trained. The same call goes on after a kill: runs that are finished are not run again.
    """
    files_ = data_of(data, evaluation, ewc_data, speaker, read_settings(preset, changes))
    if twice := next((node for node in nodes if list(nodes).count(node) > 1), None):
        raise UsageError(f"'{twice}' is named twice", "Name each node once.")
    place = Path(out) if out is not None else repo.root / RUNS
    all_ = [
        checked(repo, files_, node, None, preset, on, place / name_of(node, Path(data)), alpha, device, several=True)
        for node in nodes
    ]
    _check_apart(all_)
    notes = files_.left_out(nodes)
    for text in notes:
        told(text)
    ready = [(asked, prepare_all(asked)) for asked in all_]
    how = alpha, message, author, device, dry_run, code, command, progress
    return TrainNodesResult(tuple(trained_and_committed(asked, prepared, *how) for asked, prepared in ready), notes)


def _check_apart(all_: Sequence[PlannedRun]) -> None:
    """Raise if two nodes' vectors would be called the same."""
    names = [asked.name for asked in all_]
    for asked in all_:
        if names.count(asked.name) > 1:
            nodes = " and ".join(str(other.node) for other in all_ if other.name == asked.name)
            raise UsageError(
                f"the vectors of {nodes} would both be called '{asked.name}'", "Train them one by one: --as NAME"
            )
