"""``persona train``: examples compiled into a vector. A run is trained in a folder of its own and then committed."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona import files
from persona.checkpoints.runfacts.dataset import fingerprint
from persona.errors import Locked, Refusal, UsageError, WrongBase
from persona.graph.coverage import complaint
from persona.graph.nodes import split_reference
from persona.ids import CommitId
from persona.progress import SILENT, Progress
from persona.recipe.model import Recipe
from persona.recipe.parse import checked_vector_name
from persona.repository import Repository, now
from persona.store.fishers import Fisher, ingest_fisher
from persona.training.examples import Example, read_examples
from persona.training.problems import DataSummary, Prepared, prepare
from persona.training.settings import Settings, read_settings
from persona.verbs.commit import Committed, commit
from persona.verbs.graphs import graph_of
from persona.verbs.living import live_recipe, reader_of_recipe
from persona.verbs.recording import refuse_while_merging, standing_recipe
from persona.verbs.taking import check_alpha

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


@dataclass(frozen=True)
class _Asked:
    """What a person asked for, checked as far as it can be without reading a weight."""

    repo: Repository
    name: str
    folder: Path
    preset: str
    settings: Settings
    start: Recipe
    on: CommitId | None
    files: Mapping[str, Path]
    speaker: str | None

    @cached_property
    def prints(self) -> dict[str, dict[str, Any]]:
        """Fingerprints of the files of data."""
        return {key: fingerprint(path) for key, path in self.files.items()}

    @property
    def label(self) -> str:
        """What training begins with, in words."""
        return f"a build of {self.on.short}" if self.on else f"base {self.start.base_name}"

    @property
    def identity(self) -> dict[str, Any]:
        """What makes the run this run."""
        return {
            "format": 1,
            "base": self.start.base,
            "on": self.repo.commit(self.on).recipe if self.on else None,
            "speaker": self.speaker,
            "settings": self.settings.table(),
            "digests": {key: one["digest"] for key, one in self.prints.items()},
        }


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
    progress: Progress = SILENT,
) -> Trained:
    """Train on ``data`` and commit what came of it as the vector ``name``, which implements ``node``.

    It begins with the base of HEAD, or with a build of the revision ``on``; with elastic weight consolidation what
    ``ewc_data`` asks of the weights is kept. ``changes`` are settings that override the preset's. The run is in the
    folder ``out`` (``runs/NAME`` unless given): the same call goes on there after a kill.
    """
    given = {"data": data, "evaluation": evaluation, "ewc_data": ewc_data}
    paths = {key: Path(path) for key, path in given.items() if path is not None}
    asked = _checked(repo, paths, node, name, preset, changes, speaker, on, out, alpha, device)
    tokenizer, most = reader_of_recipe(repo, asked.start, asked.label)
    prepared = _prepare(asked, tokenizer, most)
    if dry_run:
        return _result(asked, prepared, dry_run=True)
    fit, trained = _trained(asked, prepared, device, progress)
    with _come_apart(asked):
        done = commit(
            repo,
            asked.folder / "final",
            name=asked.name,
            alpha=alpha,
            node=node,
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


def _checked(
    repo: Repository,
    paths: Mapping[str, Path],
    node: str | None,
    name: str | None,
    preset: str | Path,
    changes: Mapping[str, Any] | None,
    speaker: str | None,
    on: str | None,
    out: Path | str | None,
    alpha: float | None,
    device: str,
) -> _Asked:
    """All that can be wrong before a file of data is read."""
    if node is not None:
        _check_node(repo, node)
    name = checked_vector_name(name or _name_of(node, paths["data"]))
    if alpha is not None:
        check_alpha(alpha)
    settings = read_settings(preset, changes)
    if bool(settings.ewc) != ("ewc_data" in paths):
        raise UsageError(
            "elastic weight consolidation needs a strength and data of the old task",
            "Give both: --ewc 100 --ewc-data OLD.jsonl",
        )
    refuse_while_merging(repo)
    base = standing_recipe(repo)
    start, commit_ = _start(repo, base, on)
    if settings.method == "full" and start.vectors:
        raise Refusal(
            "a full fine-tune on top of a build would hold the build's own vectors as well",
            "Train it on the base (without --on), or give --method lora, whose change is the factors alone.",
        )
    folder = Path(out) if out is not None else repo.root / "runs" / name
    asked = _Asked(repo, name, folder, str(preset), settings, start, commit_, paths, speaker)
    _check_machine(asked, device)
    return asked


def _check_machine(asked: _Asked, device: str) -> None:
    """What is slow to import, last of all that can be told at once."""
    from persona.live.load import checked_device
    from persona.training.adapting import check_method
    from persona.training.run import check_identity

    checked_device(device)
    check_method(asked.settings, device)
    check_identity(asked.folder, asked.identity)


def _check_node(repo: Repository, node: str) -> None:
    """Raise if there is a memory graph, and the node is not in it."""
    graph = graph_of(repo, repo.head())
    found = complaint(node, graph, repo.objects) if graph is not None else None
    if found is not None:
        raise UsageError(*found)


def _name_of(node: str | None, data: Path) -> str:
    """A vector's name when none was given: its node's or its section's, else the data's."""
    said = data.stem
    if node is not None:
        of, section = split_reference(node)
        said = section or of
    return re.sub(r"[^A-Za-z0-9_]+", "-", said).strip("-")[:64]


def _start(repo: Repository, standing: Recipe, on: str | None) -> tuple[Recipe, CommitId | None]:
    """The recipe of what training begins with, and its commit unless it is the base alone."""
    if on is None:
        return replace(standing, vectors=(), method="linear", scale=1.0, parameters={}), None
    found = repo.resolve(on)
    recipe = repo.recipe(found)
    if recipe.base != standing.base:
        raise WrongBase(
            f"{on} is of base {recipe.base[:12]}, and the recipe of base {standing.base[:12]}",
            "Switch to where the vector is to go first.",
        )
    return recipe, found


def _prepare(asked: _Asked, tokenizer: Any, most: int | None) -> dict[str, Prepared]:
    """Every file of data in tokens; raises where there is nothing to learn."""
    if tokenizer is None:
        raise UsageError(f"{asked.label} has no tokenizer", "Save one beside the base: tokenizer.save_pretrained.")
    settings = asked.settings
    everything = settings.loss == "all"
    examples: dict[str, list[Example]] = {
        key: read_examples(path, asked.speaker, settings.turns, everything) for key, path in asked.files.items()
    }
    found = {}
    for key, these in examples.items():
        against = examples["data"] if key == "evaluation" else ()
        found[key] = prepare(tokenizer, these, settings, most, against)
        if not found[key].rows:
            raise UsageError(
                f"{asked.files[key]} has nothing to learn: {_said(found[key].summary)}",
                "Look at its examples with --dry-run on a part of them, or: --set loss=all",
            )
    return found


def _said(summary: DataSummary) -> str:
    return "; ".join(f"{one.count} × {one.what}" for one in summary.problems) or "no example is left"


def _trained(asked: _Asked, prepared: Mapping[str, Prepared], device: str, progress: Progress) -> tuple[Fit, bool]:
    """How the run went, and whether it was trained just now."""
    from persona.training import run

    done = run.finished(asked.folder)
    if done is not None:
        return done, False
    files.make_folder(asked.folder)
    with _alone(asked.folder):
        if not run.check_identity(asked.folder, asked.identity):
            files.write_file(asked.folder / run.IDENTITY, (json.dumps(asked.identity, indent=1) + "\n").encode())
        live = live_recipe(asked.repo, asked.start, asked.label, asked.on, device=device, progress=progress)
        rows = {key: one.rows for key, one in prepared.items()}
        measured, old = rows.get("evaluation", ()), rows.get("ewc_data", ())
        return run.fit(live, rows["data"], asked.settings, asked.folder, measured, old, progress), True


@contextlib.contextmanager
def _come_apart(asked: _Asked) -> Iterator[None]:
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


def _facts(asked: _Asked, prepared: Mapping[str, Prepared], fit: Fit) -> dict[str, Any]:
    """What the commit keeps of the run besides what its folder says."""
    summary = prepared["data"].summary
    training: dict[str, Any] = {
        "preset": asked.preset,
        **asked.settings.table(),
        "examples": summary.used,
        "tokens": summary.tokens,
        "learnt_tokens": summary.learnt,
    }
    if asked.speaker:
        training["speaker"] = asked.speaker
    if asked.on:
        training["on"] = asked.on
    if fit.after is not None:
        training["eval_loss"] = {"before": fit.before, "after": fit.after}
    started = {"time": now(), "seed": asked.settings.seed, "base": asked.start.base}
    if "evaluation" in asked.prints:
        training["eval_data"] = asked.prints["evaluation"]
    points = [[step, loss] for step, loss in fit.curve]
    history = {"loss": {"count": len(points), "points": points}}
    return {"training": training, "data": [asked.prints["data"]], "started": started, "history": history}


def _kept_fisher(asked: _Asked, drift: Drift | None, progress: Progress) -> dict[str, Any]:
    """The diagonal as an object of the store, and how the run moved under it; nothing without one."""
    if drift is None:
        return {}
    tensors = ingest_fisher(asked.folder / "fisher.safetensors", asked.repo.tensors, progress)
    kept = Fisher(
        base=asked.start.base_id,
        data=(asked.prints["ewc_data"]["digest"],),
        examples=drift.examples,
        tokens=drift.tokens,
        seed=asked.settings.seed,
        tensors=tensors,
        recipe=asked.repo.commit(asked.on).recipe if asked.on else None,
    )
    return {"ewc": {"fisher": kept.put(asked.repo.objects), **asdict(drift)}}


def _result(asked: _Asked, prepared: Mapping[str, Prepared], *, dry_run: bool) -> Trained:
    from persona.training.run import steps_of

    settings, summaries = asked.settings, {key: one.summary for key, one in prepared.items()}
    steps = steps_of(settings, len(prepared["data"].rows))
    notes = []
    if settings.warmup_steps >= steps:
        notes.append(
            f"the warm-up of {settings.warmup_steps} steps takes all {steps} of them: the learning rate is never reached"
        )
    return Trained(
        asked.name,
        asked.folder,
        dry_run,
        asked.preset,
        settings.table(),
        summaries["data"],
        summaries.get("evaluation"),
        summaries.get("ewc_data"),
        steps,
        tuple(notes),
    )
