"""``persona init``: a repository around a base checkpoint."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from persona import files
from persona.checkpoints.folder import RECEIPT, find_run, is_adapter, open_checkpoint
from persona.errors import CheckpointError, Refusal, UsageError
from persona.history import refs as refs_
from persona.history.commits import Commit, put_text
from persona.history.operations import Operation
from persona.ids import BaseId, CommitId
from persona.progress import SILENT, Progress
from persona.recipe import edit
from persona.recipe.parse import parse
from persona.recipe.resolve import resolve
from persona.repository import FOLDER, FORMAT, Repository, now
from persona.store.ingest import ingest_base
from persona.store.kept import Keep
from persona.store.nouns import Base

BRANCH = "main"


@dataclass(frozen=True)
class InitResult:
    """A new repository and its first commit; ``kept`` says how: ``copy``, ``link`` or ``reference``."""

    root: Path
    base: BaseId
    base_name: str
    tensors: int
    weights: int
    nbytes: int
    commit: CommitId
    kept: Keep


def init(
    root: Path | str,
    base: Path | str,
    *,
    name: str | None = None,
    keep: Keep = "copy",
    author: str = "",
    command: str = "init",
    progress: Progress = SILENT,
) -> InitResult:
    """Make a repository in ``root`` from the checkpoint in the folder ``base``; nothing is left if it fails.

    ``keep`` says what becomes of the base's weight files: a ``copy``, a hard ``link`` that shares the bytes with them, or
    a ``reference``, which keeps only their hashes and where they lie.
    """
    if keep not in get_args(Keep):
        raise UsageError(f"keep is {keep!r}", f"Give one of {', '.join(get_args(Keep))}.")
    root, source = Path(root), Path(base)
    repo = Repository(root, root / FOLDER)
    if repo.folder.exists():
        raise Refusal(f"{repo.folder} exists already", "This folder is a repository: see 'persona status'.")
    if repo.recipe_path.exists():
        raise Refusal(f"{repo.recipe_path} exists already", "Move it away, or init in another folder.")
    checkpoint = open_checkpoint(_full_checkpoint(source))
    base_name = name or name_of(source)
    files.make_folder(root)
    staging = files.make_staging_folder(repo.folder)
    try:
        staged = Repository(root, staging)
        for folder in ("objects", "packs", "tmp", "op", "refs/heads", "refs/tags"):
            files.make_folder(staging / folder)
        taken = ingest_base(checkpoint, staged.tensors, progress, keep)
        base_id, commit = _first_commit(staged, taken, base_name, author, command)
        files.write_file(staging / "format", f"persona {FORMAT}\n".encode())
        files.publish_folder(staging, repo.folder)
    except BaseException:
        files.remove_tree(staging)
        raise
    repo.finish_interrupted()
    weights = sum(spec.entries for spec in taken.tensors.values())
    return InitResult(root, base_id, base_name, len(taken.tensors), weights, checkpoint.nbytes, commit, keep)


def _full_checkpoint(path: Path) -> Path:
    folder = find_run(path)
    if is_adapter(folder):
        raise CheckpointError(f"{folder} is an adapter, and a base is a full checkpoint", "Give the base's folder.")
    if (folder / RECEIPT).is_file():
        raise CheckpointError(
            f"{folder} is a persona build, and a base is a pretrained checkpoint",
            "Use the build's own base, or delete persona.json there if it shall begin a new history.",
        )
    return folder


def _first_commit(repo: Repository, base: Base, base_name: str, author: str, command: str) -> tuple[BaseId, CommitId]:
    base_id = base.put(repo.objects)
    text = edit.new_text(base_name, base_id)
    recipe = resolve(parse(text), repo.objects)
    stored = put_text(repo.objects, text)
    commit = Commit(recipe.put(repo.objects), stored, (), author, now(), f"base {base_name}").put(repo.objects)
    refs = {
        refs_.HEAD: (None, f"{refs_.SYMBOLIC}{refs_.BRANCHES}{BRANCH}"),
        refs_.BRANCHES + BRANCH: (None, str(commit)),
    }
    repo.log.commit(Operation(None, now(), command, refs, (None, stored)).put(repo.objects))
    return base_id, commit


def name_of(folder: Path) -> str:
    """A name for a checkpoint: its folder's, or the model's when the folder lies in a hub cache."""
    parts = folder.resolve().parts
    hub = next((part for part in reversed(parts) if part.startswith("models--")), None)
    raw = hub.rpartition("--")[2] if hub else parts[-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", raw).strip("-").lower() or "base"
