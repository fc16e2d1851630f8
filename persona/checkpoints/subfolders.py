"""Subfolders of a base that belong to it: ``1_Pooling/``, ``additional_chat_templates/``; not other models or logs.

Only small data files are taken, at most two folders down. A subfolder with weights of its own is another model (an
adapter, an ONNX export, the original format), unless ``modules.json`` lists it as a module of this one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from persona.checkpoints.groups import MODULES_JSON, MORE_TEMPLATES, module_folders
from persona.checkpoints.sidefiles import MAX_SIDE_FILE, is_code, is_data, is_fit, stays_inside
from persona.files import read_bytes, translated

_OTHERS = re.compile(
    r"\..*|__pycache__|checkpoint-\d+|global_step\d+|original|onnx|openvino.*|coreml|gguf|tflite|metal|readouts|"
    r"runs|logs?|wandb|mlruns|tensorboard",
    re.IGNORECASE,
)
"""Folders that are never part of a model. A build puts readouts into ``readouts``."""

_WEIGHTS = re.compile(r".*\.(safetensors|bin|pt|pth|ckpt|h5|msgpack|onnx|gguf|npz)|adapter_config\.json", re.IGNORECASE)
_DEPTH, _MOST = 2, 100


@dataclass
class Subfolders:
    """Data files in subfolders by name (``1_Pooling/config.json``), code, and what is left out and why."""

    data: dict[str, Path] = field(default_factory=dict)
    code: dict[str, Path] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


def subfolders(folder: Path, *, of_groups: bool = False) -> Subfolders:
    """Find the files in subfolders that belong to the checkpoint in ``folder``.

    Args:
        of_groups: Look only into folders of chat templates and of modules.
    """
    found = Subfolders()
    with translated(folder):
        listed = folder / MODULES_JSON
        is_small = listed.is_file() and listed.stat().st_size <= MAX_SIDE_FILE
        modules = module_folders(read_bytes(listed)) if is_small else []
        wanted = {MORE_TEMPLATES.rstrip("/"), *(name.partition("/")[0] for name in modules)}
        for child in sorted(folder.iterdir()):
            if of_groups and child.name not in wanted:
                continue
            if child.is_dir() and not _OTHERS.fullmatch(child.name):
                _add(found, folder, child, modules)
    return found


def _add(found: Subfolders, folder: Path, child: Path, modules: list[str]) -> None:
    files = {name: path for name, path in _files(folder, child, f"{child.name}/", 1) if is_fit(name)}
    is_module = any(name.startswith(f"{child.name}/") for name in modules)
    weights = [name for name, path in files.items() if _WEIGHTS.fullmatch(path.name)]
    taken = {name: path for name, path in files.items() if is_data(path) or (is_module and _is_tensors(path))}
    code = {name: path for name, path in files.items() if is_code(path)}
    outside = [name for name, path in {**taken, **code}.items() if not stays_inside(path, folder)]
    problem = ""
    if weights and not is_module:
        problem = f"has weights of its own ({weights[0].rpartition('/')[2]})"
    elif outside:
        problem = f"has a link to outside the checkpoint ({outside[0]})"
    elif len(taken) > _MOST:
        problem = f"has {len(taken)} files, as a data set has"
    elif sum(path.stat().st_size for path in taken.values()) > MAX_SIDE_FILE:
        problem = "is too large"
    if problem:
        found.left += [f"{child.name}/, which {problem}"] if taken or weights else []
        return
    found.left += [f"{name}, which is not safetensors" for name in weights if not _is_tensors(files[name])]
    found.data |= taken
    found.code |= code


def _is_tensors(path: Path) -> bool:
    return path.suffix == ".safetensors"


def _files(folder: Path, place: Path, above: str, depth: int) -> Iterator[tuple[str, Path]]:
    """Files below ``place`` by their names from ``folder``; links that lead elsewhere are not followed."""
    for path in sorted(place.iterdir()):
        name = f"{above}{path.name}"
        if path.is_file():
            yield name, path
        elif path.is_dir() and not path.is_symlink() and depth < _DEPTH and not _OTHERS.fullmatch(path.name):
            yield from _files(folder, path, f"{name}/", depth + 1)
