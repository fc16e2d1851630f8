"""`persona init`: create a repository for a base checkpoint."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from persona import files, sharing
from persona.checkpoints import code
from persona.checkpoints.folder import find_run, is_adapter, open_checkpoint
from persona.checkpoints.sidefiles import RECEIPT
from persona.checkpoints.subfolders import subfolders
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
from persona.sharing import Shared
from persona.store.ingest import ingest_base
from persona.store.kept import Keep
from persona.store.nouns import Base

BRANCH = "main"

IGNORE = b"# 'git add' skips this folder: persona keeps its history.\n*\n"
"""What keeps git from adding the store."""


@dataclass(frozen=True)
class InitResult:
    """A new repository and its first commit.

    `weights` and `nbytes` are the number and the size of the base's weights. `kept` says how its weight files are
    stored: `copy`, `link` or `reference`. `notes` say which files of the base were left out.
    """

    root: Path
    base: BaseId
    base_name: str
    tensors: int
    weights: int
    nbytes: int
    commit: CommitId
    kept: Keep
    notes: tuple[str, ...] = ()


def init(
    root: Path | str,
    base: Path | str,
    *,
    name: str | None = None,
    keep: Keep = "copy",
    allow_code: bool = False,
    shared: Shared = "umask",
    author: str = "",
    command: str = "init",
    progress: Progress = SILENT,
) -> InitResult:
    """Create a repository in `root` for the checkpoint in `base`. On an error, nothing is left behind.

    Args:
        root: Folder to create the repository in; created if needed.
        name: Name of the base. The default is the name of its folder.
        keep: How to store the base's weight files: `copy`, `link` (hard links), or `reference` (only hashes and paths).
        allow_code: Store the base's Python files, so that builds have them. persona never runs them.
        shared: Who besides its owner may use the repository: nobody but whom the umask lets, its `group`, or the group and
            `all` others as readers.

    Raises:
        UsageError: `keep` or `shared` is unknown.
        Refusal: `root` has a repository or a `persona.toml` already.
        CheckpointError: `base` is not a full checkpoint.
    """
    if keep not in get_args(Keep):
        raise UsageError(f"unknown keep {keep!r}", f"Use one of {', '.join(get_args(Keep))}.")
    if shared not in get_args(Shared):
        raise UsageError(f"unknown shared {shared!r}", f"Use one of {', '.join(get_args(Shared))}.")
    root, source = Path(root), Path(base)
    repo = Repository(root, root / FOLDER)
    if repo.folder.exists():
        raise Refusal(f"{repo.folder} already exists", "This folder is a repository: see 'persona status'.")
    if repo.recipe_path.exists() or repo.recipe_path.is_symlink():
        raise Refusal(f"{repo.recipe_path} already exists", "Move it away, or use another folder.")
    checkpoint = open_checkpoint(_full_checkpoint(source))
    base_name = name or name_of(source)
    _make_root(root, shared)
    staging = files.make_staging_folder(repo.folder)
    try:
        staged = Repository(root, staging)
        if shared != "umask":
            files.write_file(staging / sharing.CONFIG, sharing.line(shared).encode())
            for path in (staging / sharing.CONFIG, staging):
                files.widen(path, sharing.BITS[shared])
        for folder in ("objects", "packs", "tmp", "op", "refs/heads", "refs/tags"):
            files.make_folder(staging / folder)
        stored = ingest_base(checkpoint, staged.tensors, progress, keep, allow_code=allow_code)
        notes = (*_left_out(staged, stored, checkpoint.folder), *_closed(root, shared))
        base_id, commit = _first_commit(staged, stored, base_name, author, command)
        if _is_in_git(root):
            files.write_file(staging / ".gitignore", IGNORE)
        files.write_file(staging / "format", f"persona {FORMAT}\n".encode())
        files.publish_folder(staging, repo.folder)
    except BaseException:
        files.remove_tree(staging)
        raise
    repo.finish_interrupted()
    weights = sum(spec.entries for spec in stored.tensors.values())
    return InitResult(root, base_id, base_name, len(stored.tensors), weights, checkpoint.nbytes, commit, keep, notes)


def _left_out(repo: Repository, base: Base, folder: Path) -> Iterator[str]:
    """What the base's folder has and builds will not have."""
    yield from (f"left out: {what}" for what in subfolders(folder).left)
    configurations = {name: repo.tensors.blob(blob) for name, blob in base.files.items() if code.is_configuration(name)}
    missing = [name for name in code.referred(configurations) if name not in base.files]
    if missing:
        yield code.warning(missing)


def _is_in_git(root: Path) -> bool:
    """Whether a folder is in a git work tree; a worktree or submodule has a file `.git` instead of a folder."""
    folder = root.resolve()
    return any((place / ".git").exists() for place in (folder, *folder.parents))


def _make_root(root: Path, shared: Shared) -> None:
    """Create the folder of the repository, if there is none, and share it; one that exists is its owner's to share."""
    if not root.is_dir():
        files.make_folder(root)
        files.widen(root, sharing.BITS[shared])


def _closed(root: Path, shared: Shared) -> Iterator[str]:
    """What keeps others from changing `persona.toml`."""
    if sharing.widened(root.stat().st_mode, sharing.BITS[shared]) != stat.S_IMODE(root.stat().st_mode):
        yield f"{root} has not the permissions of a shared folder, which writing persona.toml takes: chmod g+rwxs {root}"


def _full_checkpoint(path: Path) -> Path:
    folder = find_run(path)
    if is_adapter(folder):
        raise CheckpointError(f"{folder} is an adapter, not a full checkpoint", "Pass the base model's folder.")
    if (folder / RECEIPT).is_file():
        raise CheckpointError(
            f"{folder} is a persona build, not a pretrained checkpoint",
            "Use the build's base. To start a new history from the build, delete its persona.json.",
        )
    return folder


def _first_commit(repo: Repository, base: Base, base_name: str, author: str, command: str) -> tuple[BaseId, CommitId]:
    base_id = base.put(repo.objects)
    text = edit.new_text(base_name, base_id)
    recipe = resolve(parse(text), repo.objects)
    stored = put_text(repo.objects, text)
    commit = Commit(recipe.put(repo.objects), stored, (), author or repo.author, now(), f"base {base_name}").put(
        repo.objects
    )
    refs = {
        refs_.HEAD: (None, f"{refs_.SYMBOLIC}{refs_.BRANCHES}{BRANCH}"),
        refs_.BRANCHES + BRANCH: (None, str(commit)),
    }
    repo.log.commit(Operation(None, now(), command, refs, (None, stored)).put(repo.objects))
    return base_id, commit


def name_of(folder: Path) -> str:
    """Return a name for a checkpoint: that of its folder, or of the model if the folder is in a Hugging Face cache."""
    parts = folder.resolve().parts
    hub = next((part for part in reversed(parts) if part.startswith("models--")), None)
    raw = hub.rpartition("--")[2] if hub else parts[-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", raw).strip("-").lower() or "base"
