"""Version control for a model's personality: a base checkpoint plus task vectors, each scaled by an alpha.

    repo = persona.open(".")
    persona.commit(repo, "runs/listening", name="listening", alpha=0.8)
    persona.build(repo, "merged/")
    tau = persona.vector(repo, "listening")      # tau["model.layers.3.mlp.up_proj.weight"] → fp32 tensor

Each command of the command line is a function here, and returns a frozen dataclass. Modules are imported on first use.
`open` and `eval` are not in `__all__`, as a star import must not replace the builtins.
"""

from __future__ import annotations

import importlib
import keyword
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.errors import PersonaError

if TYPE_CHECKING:
    from persona import readout
    from persona.evaluate.options import MeasureOptions, SearchOptions
    from persona.repository import Repository
    from persona.verbs.alpha import alpha
    from persona.verbs.anchors import anchors
    from persona.verbs.bake import bake
    from persona.verbs.bisect import bisect
    from persona.verbs.blame import blame
    from persona.verbs.branch import branch
    from persona.verbs.build import build
    from persona.verbs.chat import chat
    from persona.verbs.checkout import checkout
    from persona.verbs.cherry_pick import cherry_pick
    from persona.verbs.commit import commit
    from persona.verbs.commit_readout import commit_readout
    from persona.verbs.convert import convert
    from persona.verbs.derive import derive
    from persona.verbs.diff import diff
    from persona.verbs.eval import eval as eval
    from persona.verbs.eval_init import eval_init
    from persona.verbs.export import export
    from persona.verbs.fisher import fisher
    from persona.verbs.fsck import fsck
    from persona.verbs.gc import gc
    from persona.verbs.graph.diff import graph_diff
    from persona.verbs.graph.import_ import graph_import
    from persona.verbs.graph.link import graph_link
    from persona.verbs.graph.show import graph_show
    from persona.verbs.graph.status import graph_status
    from persona.verbs.graph.unlink import graph_unlink
    from persona.verbs.import_ import import_
    from persona.verbs.import_adapter import import_adapter
    from persona.verbs.init import init
    from persona.verbs.interference import interference
    from persona.verbs.load import load
    from persona.verbs.log import log
    from persona.verbs.merge import merge
    from persona.verbs.merge_methods import merge_methods
    from persona.verbs.mv import mv
    from persona.verbs.negate import negate
    from persona.verbs.op_log import op_log
    from persona.verbs.readout.drift import readout_drift
    from persona.verbs.readout.export import readout_export
    from persona.verbs.readout.pairs import readout_pairs
    from persona.verbs.readout.score import readout_score
    from persona.verbs.readout.train import readout_train
    from persona.verbs.readout.tune import readout_tune
    from persona.verbs.redo import redo
    from persona.verbs.restore import restore
    from persona.verbs.revert import revert
    from persona.verbs.rm import rm
    from persona.verbs.show import show
    from persona.verbs.stash import stash
    from persona.verbs.status import status
    from persona.verbs.sweep import sweep
    from persona.verbs.switch import switch
    from persona.verbs.table import table
    from persona.verbs.tag import tag
    from persona.verbs.train import train, train_nodes
    from persona.verbs.tune import tune
    from persona.verbs.undo import undo
    from persona.verbs.vector import vector
    from persona.verbs.vectors import vectors
    from persona.verbs.verify import verify
    from persona.verbs.verify_vectors import verify_vectors
    from persona.workspace.conversation import Conversation, TalkOptions

__all__ = [
    "Conversation",
    "MeasureOptions",
    "PersonaError",
    "Repository",
    "SearchOptions",
    "TalkOptions",
    "alpha",
    "anchors",
    "bake",
    "bisect",
    "blame",
    "branch",
    "build",
    "chat",
    "checkout",
    "cherry_pick",
    "commit",
    "commit_readout",
    "convert",
    "derive",
    "diff",
    "eval_init",
    "export",
    "fisher",
    "fsck",
    "gc",
    "graph_diff",
    "graph_import",
    "graph_link",
    "graph_show",
    "graph_status",
    "graph_unlink",
    "import_",
    "import_adapter",
    "init",
    "interference",
    "load",
    "log",
    "merge",
    "merge_methods",
    "mv",
    "negate",
    "op_log",
    "readout",
    "readout_drift",
    "readout_export",
    "readout_pairs",
    "readout_score",
    "readout_train",
    "readout_tune",
    "redo",
    "restore",
    "revert",
    "rm",
    "show",
    "stash",
    "status",
    "sweep",
    "switch",
    "table",
    "tag",
    "train",
    "train_nodes",
    "tune",
    "undo",
    "vector",
    "vectors",
    "verify",
    "verify_vectors",
]

_BUILTINS = ("eval", "open")
"""Public names that a star import leaves out."""


def open(path: Path | str = ".") -> Repository:
    """Open the repository at or above `path`.

    Raises:
        NoRepository: there is none.
    """
    from persona.repository import open_at

    return open_at(Path(path))


def __getattr__(name: str) -> Any:
    if name == "Repository":
        return importlib.import_module("persona.repository").Repository
    if name in ("MeasureOptions", "SearchOptions"):
        return getattr(importlib.import_module("persona.evaluate.options"), name)
    if name in ("Conversation", "TalkOptions"):
        return getattr(importlib.import_module("persona.workspace.conversation"), name)
    if name == "readout":
        return importlib.import_module("persona.readout")
    if name in (*__all__, *_BUILTINS):
        return getattr(importlib.import_module(_module_of(name)), name)
    raise AttributeError(f"module 'persona' has no attribute {name!r}")


def _module_of(verb: str) -> str:
    """Return a verb's module: `graph_show` is in `verbs/graph/show.py`, `train_nodes` in `train.py`, others in their own."""
    group, _, rest = verb.partition("_")
    if group in ("graph", "readout"):
        return f"persona.verbs.{group}.{rest}{'_' if keyword.iskeyword(rest) else ''}"
    return f"persona.verbs.{'train' if verb == 'train_nodes' else verb}"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_BUILTINS})
