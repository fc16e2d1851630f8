"""Folders of plain checkpoints and adapters, as a training run leaves them: without receipt or model card.

``export`` writes several of them into one folder, which appears complete or not at all. The folder lists its files in
``export.json``, so that a later export recognizes it and may replace it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from persona import files
from persona.building.adapter import Pair
from persona.building.adapter_folder import adapter_shard, write_pairs
from persona.building.budget import DEFAULT as MEMORY
from persona.building.plan import Plan
from persona.building.publish import SHARD_SIZE, index_json, make_shards, output_folder
from persona.building.run import run
from persona.building.stated import weight_files
from persona.checkpoints.adapter import CONFIG
from persona.checkpoints.adapters.writing import config_json
from persona.checkpoints.sidefiles import INDEX
from persona.errors import PersonaError, Refusal
from persona.files import translated
from persona.progress import SILENT, Progress
from persona.store.tensors import TensorStore

LISTING = "export.json"


def write_checkpoint(
    target: Path,
    plan: Plan,
    beside: Mapping[str, bytes],
    store: TensorStore,
    *,
    memory: int = MEMORY,
    progress: Progress = SILENT,
) -> None:
    """Build ``plan`` into the new folder ``target``, with the small files ``beside``."""
    shards = make_shards(plan, SHARD_SIZE)
    with output_folder(target, shards, like=weight_files(plan, store)) as folder:
        folder.reserve()
        run(plan, store, folder, progress, memory=memory)
        for name, data in beside.items():
            folder.add_file(name, data)
        if len(shards) > 1:
            folder.add_file(INDEX, index_json(shards))
        folder.publish()


def write_factors(
    target: Path, pairs: Sequence[Pair], base_name: str, config: Mapping[str, Any], like: Iterable[Path]
) -> None:
    """Write a PEFT adapter in fp32 into the new folder ``target``, no wider open than the files ``like``."""
    shard = adapter_shard(pairs, "F32")
    ranks = [(pair.module, pair.rank) for pair in pairs]
    with output_folder(target, [shard], like=like) as folder:
        folder.reserve()
        write_pairs(folder, shard, pairs, "F32")
        folder.add_file(CONFIG, config_json(ranks, base_name, config))
        folder.publish()


@contextlib.contextmanager
def several(target: Path, *, replace: bool) -> Iterator[Path]:
    """Yield a staging folder for several models; it is renamed to ``target`` at the end, or removed on an error."""
    with files.staged_folder(target, replace=replace) as staging:
        yield staging
        listing = {"schema": 1, "files": _sizes(staging)}
        files.write_file(staging / LISTING, (json.dumps(listing, indent=1) + "\n").encode())


def check_own(target: Path) -> None:
    """Check that an export may be written to ``target``.

    Raises:
        Refusal: ``target`` holds anything but an intact export.
    """
    with translated(target):
        if not target.exists() or (target.is_dir() and not any(target.iterdir())):
            return
    try:
        listed = json.loads(files.read_bytes(target / LISTING))["files"]
        own = {**listed, LISTING: (target / LISTING).stat().st_size} == _sizes(target)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, PersonaError):
        own = False
    if not own:
        raise Refusal(
            f"{target} exists and is not an intact export",
            "The models would go into that folder: give the configuration another name.",
        )


def _sizes(folder: Path) -> dict[str, int]:
    """The size of every file below ``folder``; -1 for anything that is not a regular file."""
    with translated(folder):
        return {
            str(path.relative_to(folder)): path.stat().st_size if path.is_file() and not path.is_symlink() else -1
            for path in sorted(folder.rglob("*"))
            if path.is_symlink() or not path.is_dir()
        }
