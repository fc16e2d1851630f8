"""Plan training runs: check a request and read its data before any weight is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from persona.checkpoints.provenance.dataset import fingerprint
from persona.errors import Refusal, UsageError, WrongBase, did_you_mean
from persona.graph.coverage import complaint
from persona.ids import CommitId
from persona.progress import Progress
from persona.recipe.model import Recipe
from persona.recipe.parse import checked_vector_name
from persona.repository import Repository
from persona.store.graphs import split_reference
from persona.training import nodes as nodes_
from persona.training.anchors import AnchorPlan, Prompt, plan_anchors, read_prompts
from persona.training.examples import TrainingExample, read_examples
from persona.training.problems import DataSummary, Prepared, prepare
from persona.training.settings import Settings, read_settings
from persona.workspace.graphs import graph_of
from persona.workspace.ingest import check_alpha
from persona.workspace.loading import reader_of_recipe
from persona.workspace.record import refuse_while_merging, worktree_recipe

DATA, EVALUATION, OLD = "data", "evaluation", "ewc_data"
"""Kinds of data files: to train on, to measure the loss on, and of the old task that must not be forgotten."""

RUNS = "runs"


@dataclass(frozen=True)
class TrainRequest:
    """The arguments of a call of `train` or `train_nodes`, without those that name a vector, node or folder."""

    repo: Repository
    data: Path | str
    evaluation: Path | str | None
    preset: str | Path
    changes: Mapping[str, Any] | None
    speaker: str | None
    on: str | None
    ewc_data: Path | str | None
    anchors: Sequence[Path | str]
    alpha: float | None
    message: str | None
    author: str
    device: str
    dry_run: bool
    code: Mapping[str, Any] | None
    command: str
    told: Callable[[str], None]
    progress: Progress

    @cached_property
    def settings(self) -> Settings:
        """The preset's settings with the changes."""
        return read_settings(self.preset, self.changes)

    @cached_property
    def paths(self) -> dict[str, Path]:
        """The data files by kind."""
        given = {DATA: self.data, EVALUATION: self.evaluation, OLD: self.ewc_data}
        return {key: Path(path) for key, path in given.items() if path is not None}

    @cached_property
    def prints(self) -> dict[str, dict[str, Any]]:
        """Fingerprints of the data files."""
        return {key: fingerprint(path) for key, path in self.paths.items()}

    @cached_property
    def examples(self) -> dict[str, list[TrainingExample]]:
        """All examples of each data file."""
        return {key: examples_for(self.settings, path, self.speaker) for key, path in self.paths.items()}

    @cached_property
    def anchor_prints(self) -> list[dict[str, Any]]:
        """Fingerprints of the user's files of prompts."""
        return [fingerprint(Path(path)) for path in self.anchors]

    @cached_property
    def prompts(self) -> list[Prompt]:
        """The user's prompts for anchors."""
        return [prompt for path in self.anchors for prompt in read_prompts(Path(path))]

    def report_left_out(self, nodes: Sequence[str]) -> tuple[str, ...]:
        """Tell the caller which examples belong to none of `nodes`; return one sentence per file."""
        notes = (nodes_.left_out(self.paths[key], rows, nodes) for key, rows in self.examples.items() if key != OLD)
        left_out = tuple(note for note in notes if note is not None) if nodes else ()
        for note in left_out:
            self.told(note)
        return left_out


def examples_for(settings: Settings, path: Path, speaker: str | None) -> list[TrainingExample]:
    """Read the examples of a file as the settings say."""
    return read_examples(path, speaker, settings.turns, settings.loss == "all", last=settings.answers == "last")


@dataclass(frozen=True)
class PlannedRun:
    """One run of a request, checked as far as possible without reading weights.

    It starts from a build of `start`, which is the recipe of commit `on`, or the base alone. `several` is true if the
    request trains several nodes, so that examples without a node belong to none of them.
    """

    request: TrainRequest
    name: str
    folder: Path
    start: Recipe
    on: CommitId | None
    node: str | None = None
    several: bool = False

    @property
    def repo(self) -> Repository:
        """The repository."""
        return self.request.repo

    @property
    def settings(self) -> Settings:
        """The settings of the run."""
        return self.request.settings

    @cached_property
    def examples(self) -> dict[str, list[TrainingExample]]:
        """The examples of this run's node by kind of data; all examples of the old task."""
        return {
            key: rows if self.node is None or key == OLD else nodes_.own(rows, self.node, several=self.several)
            for key, rows in self.request.examples.items()
        }

    @property
    def shares(self) -> bool:
        """Whether the data files have, or may have, examples of other nodes."""
        every = self.request.examples
        return self.several or any(len(self.examples[key]) < len(rows) for key, rows in every.items())

    @property
    def label(self) -> str:
        """Description of the model that training starts from."""
        return f"a build of {self.on.short}" if self.on else f"base {self.start.base_name}"

    @property
    def digests(self) -> dict[str, str]:
        """Digests of the data files; of this node's examples only, if the files are shared."""
        files_ = {key: str(known["digest"]) for key, known in self.request.prints.items()}
        if not self.shares:
            return files_
        own = {key: nodes_.digest(rows) for key, rows in self.examples.items() if key != OLD and rows}
        return own | {key: digest for key, digest in files_.items() if key == OLD}

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the result depends on; a run folder can be resumed only with the same identity."""
        return {
            "format": 1,
            "base": self.start.base,
            "on": self.repo.commit(self.on).recipe if self.on else None,
            "speaker": self.request.speaker,
            "settings": self.settings.table(),
            "digests": self.digests,
            **({"anchors": prints} if (prints := [known["digest"] for known in self.request.anchor_prints]) else {}),
        }

    @cached_property
    def reader(self) -> tuple[Any, int | None]:
        """The tokenizer of the model that training starts from, and the length of its context."""
        return reader_of_recipe(self.repo, self.start, self.label)


def plan_run(
    request: TrainRequest,
    node: str | None,
    *,
    name: str | None = None,
    out: Path | str | None = None,
    several: bool = False,
) -> PlannedRun:
    """Check everything that can be wrong before tokenizing.

    Args:
        name: Name of the vector; by default that of the node, or of the data file.
        out: Folder of the run; by default `runs/NAME`.
        several: The request trains several nodes.

    Raises:
        UsageError: an argument is invalid.
        Refusal: a merge is in progress, the run cannot start from `on`, or its folder holds another run.
        WrongBase: `on` has another base than the current recipe.
    """
    repo, settings = request.repo, request.settings
    if node is not None:
        _check_node(repo, node)
    name = checked_vector_name(name or name_of(node, request.paths[DATA]))
    if request.alpha is not None:
        check_alpha(request.alpha)
    if bool(settings.ewc) != (OLD in request.paths):
        raise UsageError(
            "elastic weight consolidation needs both a strength and data of the old task",
            "Give both: --ewc 100 --ewc-data OLD.jsonl",
        )
    if request.anchors and not settings.anchor_share:
        raise UsageError(
            f"{request.anchors[0]} has prompts for anchors, but anchors are off: anchor_share is 0",
            "Turn them on: --set anchor_share=0.5",
        )
    refuse_while_merging(repo)
    start, on = start_of(repo, request.on)
    if settings.method == "full" and start.vectors:
        raise Refusal(
            "a full fine-tune of a build would also contain the build's own vectors",
            "Train it on the base (without --on), or use --method lora, which changes the factors only.",
        )
    run = PlannedRun(request, name, Path(out) if out is not None else repo.root / RUNS / name, start, on, node, several)
    _check_machine(run)
    return run


def _check_machine(run: PlannedRun) -> None:
    """Checks that import torch, which is slow, so they come last."""
    from persona.inference.load import checked_device
    from persona.training.adapting import check_method
    from persona.training.run import check_identity

    checked_device(run.request.device)
    check_method(run.settings)
    check_identity(run.folder, run.identity)


def _check_node(repo: Repository, node: str) -> None:
    """Raise if there is a memory graph without this node."""
    graph = graph_of(repo, repo.head())
    problem = complaint(node, graph, repo.objects) if graph is not None else None
    if problem is not None:
        raise UsageError(*problem)


def name_of(node: str | None, data: Path) -> str:
    """Default name of a vector: that of its node or section, or of the data file."""
    name = data.stem
    if node is not None:
        whole, section = split_reference(node)
        name = section or whole
    return re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[:64]


def start_of(repo: Repository, on: str | None) -> tuple[Recipe, CommitId | None]:
    """The recipe that training starts from, and its commit; None for the base alone."""
    current = worktree_recipe(repo)
    if on is None:
        return replace(current, vectors=(), method="linear", scale=1.0, parameters={}), None
    commit = repo.resolve(on)
    recipe = repo.recipe(commit)
    if recipe.base != current.base:
        raise WrongBase(
            f"{on} has base {recipe.base[:12]}, but the current recipe has base {current.base[:12]}",
            "Switch to the branch that the vector is for first.",
        )
    return recipe, commit


def prepare_all(run: PlannedRun) -> dict[str, Prepared]:
    """Tokenize the data files of a run, by kind.

    Raises:
        UsageError: a file has nothing to learn for this run, or a text that cannot be used.
    """
    tokenizer, most = run.reader
    _check_own(run)
    prepared = {}
    for key, rows in run.examples.items():
        if not rows:
            continue  # evaluation data without examples of this node
        against = run.examples[DATA] if key == EVALUATION else ()
        prepared[key] = prepare(tokenizer, rows, run.settings, most, against)
        if not prepared[key].rows:
            raise UsageError(
                f"{run.request.paths[key]} has nothing to learn: {_problems(prepared[key].summary)}",
                "Check the examples, or learn all tokens: --set loss=all",
            )
    return prepared


def anchors_of(run: PlannedRun, rows: int) -> AnchorPlan | None:
    """The prompts of a run on `rows` examples, tokenized; None without anchors."""
    from persona.training.run import steps_of

    tokenizer, most = run.reader
    plan = plan_anchors(tokenizer, run.request.prompts, run.settings, steps_of(run.settings, rows), most)
    return plan if plan is None or plan.asked or plan.notes else None


def _check_own(run: PlannedRun) -> None:
    """Raise if no training example belongs to the run's node."""
    if not run.examples[DATA]:
        known = dict.fromkeys(row.node for row in run.request.examples[DATA] if row.node is not None)
        raise UsageError(
            f"{run.request.paths[DATA]} has no examples of node '{run.node}'",
            did_you_mean(str(run.node), known) or 'Name the node in each example: {"node": "…", "messages": […]}.',
        )


def _problems(summary: DataSummary) -> str:
    return "; ".join(f"{problem.count} × {problem.what}" for problem in summary.problems) or "no examples are left"
