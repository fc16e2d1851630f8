"""What a run of training is to be: asked for, checked, and its data read, before a weight is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from persona.checkpoints.provenance.dataset import fingerprint
from persona.errors import Refusal, UsageError, WrongBase, did_you_mean
from persona.graph.coverage import complaint
from persona.graph.nodes import split_reference
from persona.ids import CommitId
from persona.recipe.model import Recipe
from persona.recipe.parse import checked_vector_name
from persona.repository import Repository
from persona.training import nodes as nodes_
from persona.training.examples import TrainingExample, read_examples
from persona.training.problems import DataSummary, Prepared, prepare
from persona.training.settings import Settings
from persona.workspace.graphs import graph_of
from persona.workspace.ingest import check_alpha
from persona.workspace.loading import reader_of_recipe
from persona.workspace.record import refuse_while_merging, worktree_recipe

DATA, EVALUATION, OLD = "data", "evaluation", "ewc_data"
"""Files of data: what is learnt, what the loss is measured on, what is not to be forgotten."""

RUNS = "runs"


@dataclass(frozen=True)
class Data:
    """The files of data, each read once."""

    paths: Mapping[str, Path]
    speaker: str | None
    settings: Settings

    @cached_property
    def prints(self) -> dict[str, dict[str, Any]]:
        """Their fingerprints."""
        return {key: fingerprint(path) for key, path in self.paths.items()}

    @cached_property
    def examples(self) -> dict[str, list[TrainingExample]]:
        """All that is in them."""
        how = self.speaker, self.settings.turns, self.settings.loss == "all"
        return {key: read_examples(path, *how) for key, path in self.paths.items()}

    def left_out(self, nodes: Sequence[str]) -> tuple[str, ...]:
        """What is none of these nodes', a sentence for each file."""
        found = (nodes_.left_out(self.paths[key], these, nodes) for key, these in self.examples.items() if key != OLD)
        return tuple(text for text in found if text is not None) if nodes else ()


@dataclass(frozen=True)
class PlannedRun:
    """What a person asked for, checked as far as it can be without reading a weight."""

    repo: Repository
    name: str
    folder: Path
    preset: str
    settings: Settings
    start: Recipe
    on: CommitId | None
    data: Data
    node: str | None = None
    several: bool = False

    @cached_property
    def examples(self) -> dict[str, list[TrainingExample]]:
        """Of each file those that are this node's; of the old task all."""
        return {
            key: these if self.node is None or key == OLD else nodes_.own(these, self.node, several=self.several)
            for key, these in self.data.examples.items()
        }

    @property
    def shares(self) -> bool:
        """Whether files hold more than this node's rows, or may."""
        return self.several or any(len(self.examples[key]) < len(these) for key, these in self.data.examples.items())

    @property
    def label(self) -> str:
        """What training begins with, in words."""
        return f"a build of {self.on.short}" if self.on else f"base {self.start.base_name}"

    @property
    def digests(self) -> dict[str, str]:
        """Of the files; of this node's rows, where a file has others' too."""
        files_ = {key: str(one["digest"]) for key, one in self.data.prints.items()}
        if not self.shares:
            return files_
        own = {key: nodes_.digest(these) for key, these in self.examples.items() if key != OLD and these}
        return own | {key: one for key, one in files_.items() if key == OLD}

    @property
    def identity(self) -> dict[str, Any]:
        """What makes the run this run."""
        return {
            "format": 1,
            "base": self.start.base,
            "on": self.repo.commit(self.on).recipe if self.on else None,
            "speaker": self.data.speaker,
            "settings": self.settings.table(),
            "digests": self.digests,
        }


def data_of(
    data: Path | str,
    evaluation: Path | str | None,
    ewc_data: Path | str | None,
    speaker: str | None,
    settings: Settings,
) -> Data:
    """The files of a call; none is read yet."""
    given = {DATA: data, EVALUATION: evaluation, OLD: ewc_data}
    return Data({key: Path(path) for key, path in given.items() if path is not None}, speaker, settings)


def checked(
    repo: Repository,
    data: Data,
    node: str | None,
    name: str | None,
    preset: str | Path,
    on: str | None,
    out: Path | str | None,
    alpha: float | None,
    device: str,
    *,
    several: bool = False,
) -> PlannedRun:
    """All that can be wrong before anything is tokenised."""
    if node is not None:
        _check_node(repo, node)
    name = checked_vector_name(name or name_of(node, data.paths[DATA]))
    if alpha is not None:
        check_alpha(alpha)
    settings = data.settings
    if bool(settings.ewc) != (OLD in data.paths):
        raise UsageError(
            "elastic weight consolidation needs a strength and data of the old task",
            "Give both: --ewc 100 --ewc-data OLD.jsonl",
        )
    refuse_while_merging(repo)
    base = worktree_recipe(repo)
    start, commit_ = _start(repo, base, on)
    if settings.method == "full" and start.vectors:
        raise Refusal(
            "a full fine-tune on top of a build would hold the build's own vectors as well",
            "Train it on the base (without --on), or give --method lora, whose change is the factors alone.",
        )
    folder = Path(out) if out is not None else repo.root / RUNS / name
    asked = PlannedRun(repo, name, folder, str(preset), settings, start, commit_, data, node, several)
    _check_machine(asked, device)
    return asked


def _check_machine(asked: PlannedRun, device: str) -> None:
    """What is slow to import, last of all that can be told at once."""
    from persona.inference.load import checked_device
    from persona.training.adapting import check_method
    from persona.training.run import check_identity

    checked_device(device)
    check_method(asked.settings)
    check_identity(asked.folder, asked.identity)


def _check_node(repo: Repository, node: str) -> None:
    """Raise if there is a memory graph, and the node is not in it."""
    graph = graph_of(repo, repo.head())
    found = complaint(node, graph, repo.objects) if graph is not None else None
    if found is not None:
        raise UsageError(*found)


def name_of(node: str | None, data: Path) -> str:
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


def prepare_all(asked: PlannedRun) -> dict[str, Prepared]:
    """Every file of data in tokens; raises where there is nothing to learn."""
    tokenizer, most = reader_of_recipe(asked.repo, asked.start, asked.label)
    _check_own(asked)
    found = {}
    for key, these in asked.examples.items():
        if not these:
            continue  # nothing of this node's to be evaluated
        against = asked.examples[DATA] if key == EVALUATION else ()
        found[key] = prepare(tokenizer, these, asked.settings, most, against)
        if not found[key].rows:
            raise UsageError(
                f"{asked.data.paths[key]} has nothing to learn: {_said(found[key].summary)}",
                "Look at its examples with --dry-run on a part of them, or: --set loss=all",
            )
    return found


def _check_own(asked: PlannedRun) -> None:
    """Raise if no row is this node's."""
    if not asked.examples[DATA]:
        known = dict.fromkeys(one.node for one in asked.data.examples[DATA] if one.node is not None)
        raise UsageError(
            f"{asked.data.paths[DATA]} has no row of node '{asked.node}'",
            did_you_mean(str(asked.node), known) or 'A row says whose it is: {"node": "…", "messages": […]}.',
        )


def _said(summary: DataSummary) -> str:
    return "; ".join(f"{one.count} × {one.what}" for one in summary.problems) or "no example is left"
