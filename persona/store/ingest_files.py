"""The small files of checkpoints: reading those of a base, and what a run changed in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from persona.checkpoints import code, groups, settings
from persona.checkpoints.folder import Checkpoint
from persona.checkpoints.sidefiles import MAX_SIDE_FILE, check_side_file, side_files
from persona.checkpoints.subfolders import subfolders
from persona.errors import CheckpointError
from persona.files import read_bytes, translated
from persona.ids import blob_id
from persona.store.nouns import Base, ConfigPatch
from persona.store.smallfiles import LARGEST_TOGETHER, SmallFiles
from persona.store.tensors import TensorStore


def read_side_files(checkpoint: Checkpoint, *, allow_code: bool = False) -> dict[str, bytes]:
    """Read a checkpoint's small files, those in subfolders included, by name.

    Args:
        allow_code: Read Python files too.
    """
    folder = checkpoint.folder
    below = subfolders(folder)
    scripts = {**dict(side_files(folder, code=True)), **below.code} if allow_code else {}
    return _read(folder, {**scripts, **checkpoint.side_files, **below.data})


def read_run_files(folder: Path, small: Mapping[str, Path]) -> dict[str, bytes]:
    """Read those of a run's small files that it may bring to a build.

    Args:
        small: The files in the folder itself, or above a Trainer's ``checkpoint-N``, by name.

    Raises:
        CheckpointError: one of them is not valid JSON.
    """
    with translated(folder):
        paths = {**small, **subfolders(folder, of_groups=True).data}
    listed = paths.get(groups.MODULES_JSON)
    modules = _read(folder, {groups.MODULES_JSON: listed})[groups.MODULES_JSON] if listed else None
    wanted = {*settings.CONFIGS, *groups.compared(paths, modules)}
    found = _read(folder, {name: path for name, path in paths.items() if name in wanted})
    for name, data in found.items():
        _check_whole(paths[name], data)
    return found


def _check_whole(path: Path, data: bytes) -> None:
    """Raise if a file that a build may have is cut short, as an interrupted save leaves it."""
    if path.suffix != ".json":
        return
    try:
        json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not valid JSON: {error}",
            "Save it again. To commit the run without it, remove it: the build then has the base's.",
        ) from None


def _read(folder: Path, paths: Mapping[str, Path]) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    for name, path in paths.items():
        with translated(path):
            check_side_file(path, folder)
            contents[name] = read_bytes(path, MAX_SIDE_FILE)
        if sum(map(len, contents.values())) > LARGEST_TOGETHER:
            raise CheckpointError(
                f"the small files of {folder} are larger than {LARGEST_TOGETHER >> 30} GiB together",
                "Move those that do not belong to the model out of the folder.",
            )
    return contents


def base_config(base: Base, store: TensorStore) -> dict[str, Any]:
    """The base's ``config.json``; empty if it has none."""
    blob = base.files.get("config.json")
    return settings.parse(store.blob(blob)) if blob is not None else {}


def settings_of(
    run_files: Mapping[str, bytes], base: Base, store: TensorStore
) -> tuple[dict[str, bytes], dict[str, ConfigPatch], list[str]]:
    """What a run changed besides the weights: files to store, changed settings by file, and notes about both."""
    wanted = {*settings.CONFIGS, *groups.compared(base.files, _modules(base, store))} if run_files else set()
    listed = {name: blob for name, blob in base.files.items() if name in wanted}
    base_files = SmallFiles(store).of(listed, "the base")
    changed = groups.changed(base_files, run_files)
    patches = {
        name: patch
        for name in settings.CONFIGS
        if (patch := settings.config_patch(settings.parse(base_files.get(name)), settings.parse(run_files.get(name))))
    }
    notes = []
    for group in changed:
        how = groups.difference(
            groups.meaning(group, base_files, base_files), groups.meaning(group, run_files, base_files)
        )
        notes.append(f"brings its own {groups.title(group)}; differences: {how}")
    if settings.quantizes(
        settings.parse(base_files.get(settings.CONFIG)), settings.parse(run_files.get(settings.CONFIG))
    ):
        notes.append("its quantization_config is left out: the weights are not quantized")
    for name, patch in sorted(patches.items()):
        notes.append(f"changes {name}: {', '.join('.'.join(path) for path, _ in patch)}")
    files = {name: run_files[name] for names in changed.values() for name in names}
    return dict(sorted(files.items())), patches, notes


def code_notes(folder: Path, run_files: Mapping[str, bytes], base: Base) -> list[str]:
    """A note if a run has Python code that is not the base's: builds never have a run's code."""
    paths = {name: folder / name for name in code.referred(run_files)}
    own = []
    for name, path in paths.items():
        with translated(path):
            if path.is_file() and blob_id(read_bytes(path)) != base.files.get(name):
                own.append(name)
    return [f"its code ({', '.join(own)}) is not stored: builds have only the base's"] if own else []


def _modules(base: Base, store: TensorStore) -> bytes | None:
    blob = base.files.get(groups.MODULES_JSON)
    return store.blob(blob) if blob is not None else None
