"""What verbs share that commit training runs: reading the folder, the recipe's entry, and the run's metadata."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from persona.checkpoints.folder import is_adapter, open_checkpoint
from persona.checkpoints.provenance import run_facts
from persona.checkpoints.sidefiles import RECEIPT, read_json
from persona.errors import CheckpointError, UsageError
from persona.ids import BaseId, VectorId
from persona.progress import Progress
from persona.recipe.model import Entry
from persona.recipe.parse import LARGEST, TAKEN
from persona.repository import Repository
from persona.store.ingest import Ingested, ingest_run
from persona.store.ingest_adapter import ingest_adapter


def ingest_folder(
    repo: Repository, base_id: BaseId, folder: Path, progress: Progress, *, tied: str | None = None
) -> Ingested:
    """Store a full checkpoint or an adapter as a vector of a base.

    Args:
        tied: How to treat an adapter's change to one of two tied names: ``untie`` or ``merge``.

    Raises:
        UsageError: ``tied`` is given for a full checkpoint.
        CheckpointError: the folder is a build, not a run, or cannot be read.
        WrongBase: it was trained from another base.
    """
    receipt = read_json(folder / RECEIPT)
    if receipt:
        commit = str(receipt.get("commit"))[:12]
        raise CheckpointError(
            f"{folder} is a build of commit {commit}, not a training run",
            "Give the folder that your training script saved.",
        )
    base = repo.base(base_id)
    if is_adapter(folder):
        return ingest_adapter(folder, base_id, base, repo.tensors, progress, tied=tied)
    if tied is not None:
        raise UsageError(f"--tied is for adapters, and {folder} is a full checkpoint", "Leave out --tied.")
    return ingest_run(open_checkpoint(folder), base_id, base, repo.tensors, progress)


def entry_for(before: Entry | None, name: str, vector: VectorId, alpha: float | None, node: str | None) -> Entry:
    """The recipe's entry for a run: the previous entry, with the new vector and whatever else is given."""
    entry = before or Entry(name, vector)
    return replace(
        entry.with_vector(vector),
        alpha=entry.alpha if alpha is None else float(alpha),
        node=entry.node if node is None else node,
    )


def check_alpha(alpha: float) -> None:
    """Check that a number is valid as an alpha.

    Raises:
        UsageError: it is not.
    """
    if not abs(alpha) <= LARGEST:  # also false for NaN
        raise UsageError(f"alpha {alpha} is not a finite number of at most {LARGEST:.0e}", "Give a number such as 0.8.")


def name_of(folder: Path) -> str:
    """The default name of a vector: the run folder's."""
    folder = folder.resolve()
    return folder.parent.name if folder.name.startswith("checkpoint-") else folder.name


def vector_name(text: str) -> str:
    """Turn text into a valid vector name; empty if no valid character is left, or the name means something else."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:64].rstrip("-")
    return "" if name in TAKEN else name


def run_metadata(run: Path, folder: Path, name: str, ingested: Ingested, kept: int) -> tuple[dict[str, Any], list[str]]:
    """Collect what a commit records about a run.

    Args:
        run: The run's folder.
        folder: The checkpoint in it.
        name: The vector's name.
        ingested: The stored vector.
        kept: Bytes that it takes in the store.

    Returns:
        The metadata, and notes about files that could not be read.
    """
    facts, notes = run_facts(run, folder)
    stored = {
        "vector": name,
        "folder": _utf8(run),
        "checkpoint": _utf8(folder.name),
        "form": ingested.vector.form,
        "total_bytes": ingested.total_bytes,
        "kept_bytes": kept,
        "relative_norm": ingested.relative_norm,
    }
    return facts | stored, notes


def _utf8(path: Path | str) -> str:
    """A path as text that an object can store, even if it is not valid UTF-8."""
    return os.fsencode(path).decode(errors="replace")
