"""The small files beside the weights: configs, tokenizer, chat template and licence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from persona.errors import CheckpointError
from persona.files import LARGEST_JSON, opened, read_bytes, storage_error, translated
from persona.jsonlines import half_in

INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
RECEIPT = "persona.json"

CODE = ".py"
_STARTED = frozenset({"sitecustomize.py", "usercustomize.py"})
"""What Python runs by itself when it starts: no part of a model."""

_SIDE_SUFFIXES = frozenset({".json", ".jinja", ".txt", ".model", ".tiktoken", ".vocab", ".spm", ".bpe", ".codes"})
_SIDE_NAMES = re.compile(r"(LICEN[CS]E|NOTICE|USE_POLICY|COPYING)(\..*)?", re.IGNORECASE)
_RUN_FILES = frozenset({
    "trainer_state.json", "all_results.json", "train_results.json", "eval_results.json", RECEIPT, ADAPTER_CONFIG,
})  # fmt: skip
MAX_SIDE_FILE = 256 << 20
_UNFIT = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\\\]")
"""Characters that no file of a model has in its name."""
_LONGEST = 255
"""Bytes that a file's name may have."""

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_MAX_POINTER = 1024
"""Bytes that a pointer of git-lfs has at most, by its specification."""

_CACHED = re.compile(
    r".*/models--[^/]+/blobs/[0-9a-f]{40,64}"  # the hub's cache
    r"|.*/files/md5/[0-9a-f]{2}/[0-9a-f]{30}|.*/\.dvc/cache/[0-9a-f]{2}/[0-9a-f]{30}"  # DVC's, shared or not
    r"|.*/annex/objects/.+/([^/]+)/\1"  # git-annex
)
"""Files in caches that name them by their content, which therefore cannot be any other file of the user's."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; empty if the file does not exist.

    Raises:
        CheckpointError: the file is not a JSON object.
    """
    try:
        value = json.loads(read_bytes(path, LARGEST_JSON))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise storage_error(error, path) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}", "Save it again.") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is not a JSON object", "Save it again.")
    return value


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration that is stored; empty if the file does not exist.

    Raises:
        CheckpointError: the file is not a JSON object, or has text that cannot be written.
    """
    value = read_json(path)
    if half := half_in(value):
        raise CheckpointError(f"{path} has {half} alone, which is half of a character", "Correct the text.")
    return value


def is_data(path: Path) -> bool:
    """Whether a small file beside weights belongs to a model, by its name: data, or a licence; never code or a pickle."""
    name = path.name
    if name.startswith(".") or _UNFIT.search(name) or name in _RUN_FILES or name.endswith(".index.json"):
        return False
    return path.suffix in _SIDE_SUFFIXES or bool(_SIDE_NAMES.fullmatch(name))


def is_code(path: Path) -> bool:
    """Whether a file is Python of a model, by its name, and not what Python runs by itself when it starts."""
    return path.suffix == CODE and path.name not in _STARTED and not _UNFIT.search(path.name)


def is_storable(name: str) -> bool:
    """Whether a base or vector may have a small file of this name, which may have folders: see :func:`is_data`."""
    path = Path(name)
    if leads_out(name) or not is_fit(name):
        return False
    return is_data(path) or is_code(path) or (len(path.parts) > 1 and path.suffix == ".safetensors")


def is_fit(name: str) -> bool:
    """Whether the parts of a name have only characters that a file of a model may have, and are not hidden or too long."""
    parts = name.split("/")
    return not _UNFIT.search(name) and all(len(part.encode()) <= _LONGEST and part[:1] != "." for part in parts)


def side_files(folder: Path, *, code: bool = False) -> Iterator[tuple[str, Path]]:
    """Names and paths of configs, tokenizer, chat template and licence in the folder itself: never pickles.

    Args:
        code: Yield Python files too.

    Raises:
        CheckpointError: a file is too large, a link to outside the folder, or a pointer of git-lfs.
    """
    for path in sorted(folder.iterdir()):
        if path.is_file() and (is_data(path) or (code and is_code(path))):
            check_side_file(path, folder)
            yield path.name, path


def check_side_file(path: Path, folder: Path) -> None:
    """Check that a file may be stored as one of the small files of a checkpoint.

    Raises:
        CheckpointError: it is too large, a link to outside ``folder``, or a pointer of git-lfs.
    """
    if path.stat().st_size > MAX_SIDE_FILE:
        raise CheckpointError(f"{path} is too large for a side file", "Move it out of the folder.")
    if path.is_symlink() and not stays_inside(path, folder):
        raise CheckpointError(
            f"{path} is a link to {path.resolve()}, outside its folder",
            "Its content would be part of every build. If you want that, replace the link by a copy.",
        )
    refuse_lfs_pointer(path)


def leads_out(name: str) -> bool:
    """Whether a file of this name, which may have folders, would be outside the folder that it is written to."""
    parts = name.split("/")
    return any(part in ("", ".", "..") for part in parts) or not {"\\", "\0"}.isdisjoint(name)


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is a pointer of git-lfs, which a clone without git-lfs has in place of the file itself."""
    with translated(path):
        if not path.is_file() or path.stat().st_size >= _MAX_POINTER:
            return False
        with opened(path) as file:
            return file.read(len(_LFS_POINTER)) == _LFS_POINTER


def refuse_lfs_pointer(path: Path) -> None:
    """Check that a file is not a pointer of git-lfs.

    Raises:
        CheckpointError: it is.
    """
    if is_lfs_pointer(path):
        raise CheckpointError(
            f"{path} is a git-lfs pointer, not the file",
            f"Fetch the files: git -C {path.parent} lfs pull",
        )


def stays_inside(link: Path, folder: Path) -> bool:
    """Whether a link points into its folder, or into a cache that names files by their content."""
    target, home = link.resolve(), folder.resolve()
    revisions = (place for place in (home, *home.parents) if place.parent.name == "snapshots")
    own = [home, *(revision.parents[1] / "blobs" for revision in revisions)]
    return any(target.is_relative_to(place) for place in own) or _CACHED.fullmatch(target.as_posix()) is not None
