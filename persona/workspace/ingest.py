"""What the verbs share that take runs in: a folder becomes a vector, an entry of the recipe, and facts to keep."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from persona.checkpoints.folder import RECEIPT, is_adapter, open_checkpoint, read_json
from persona.checkpoints.provenance import run_facts
from persona.errors import CheckpointError, UsageError
from persona.ids import BaseId, VectorId
from persona.progress import Progress
from persona.recipe.model import Entry
from persona.recipe.parse import LARGEST
from persona.repository import Repository
from persona.store.ingest import Ingested, ingest_run
from persona.store.ingest_adapter import ingest_adapter


def ingest_folder(repo: Repository, base_id: BaseId, folder: Path, progress: Progress) -> Ingested:
    """Keep what is in ``folder``, a full checkpoint or an adapter, as a vector of the base."""
    receipt = read_json(folder / RECEIPT)
    if receipt:
        commit = str(receipt.get("commit"))[:12]
        raise CheckpointError(
            f"{folder} is a build of commit {commit}, not a training run",
            "Commit the folder that your training script saved.",
        )
    base = repo.base(base_id)
    if is_adapter(folder):
        return ingest_adapter(folder, base_id, base, repo.tensors, progress)
    return ingest_run(open_checkpoint(folder), base_id, base, repo.tensors, progress)


def entry_for(before: Entry | None, name: str, vector: VectorId, alpha: float | None, node: str | None) -> Entry:
    """The recipe's entry for a run: what it said before, with what is new."""
    entry = before or Entry(name, vector)
    return replace(
        entry.with_vector(vector),
        alpha=entry.alpha if alpha is None else float(alpha),
        node=entry.node if node is None else node,
    )


def check_alpha(alpha: float) -> None:
    """Raise unless it may stand in a recipe."""
    if not abs(alpha) <= LARGEST:  # also false for NaN
        raise UsageError(f"alpha {alpha} is not a finite number of at most {LARGEST:.0e}", "Give one such as 0.8.")


def name_of(folder: Path) -> str:
    """A vector's name when none was given: the run folder's."""
    own = folder.resolve()
    return own.parent.name if own.name.startswith("checkpoint-") else own.name


def vector_name(text: str) -> str:
    """``text`` as a vector may be called; empty if nothing of it can stay."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:64].rstrip("-")


def run_metadata(run: Path, folder: Path, name: str, ingested: Ingested, kept: int) -> tuple[dict[str, Any], list[str]]:
    """What a commit keeps of a run, found without being asked, and notes about what could not be read."""
    found, notes = run_facts(run, folder)
    taken = {
        "vector": name,
        "folder": _utf8(run),
        "checkpoint": _utf8(folder.name),
        "form": ingested.vector.form,
        "total_bytes": ingested.total_bytes,
        "kept_bytes": kept,
        "relative_norm": ingested.relative_norm,
    }
    return found | taken, notes


def _utf8(path: Path | str) -> str:
    """A path as an object can keep it, whatever bytes it has."""
    return os.fsencode(path).decode(errors="replace")
