"""``persona.json``: the receipt of a build, and the check that a folder still matches it.

    {schema, commit, edited, recipe, persona, made, device, dtype,
     tensors: {name: tensor id}, shards: {file: {size, header}}, files: {file: blob id}, id}

``header`` is the blob id of the bytes before a shard's data; together with the tensor ids it covers every byte. ``id``
is the BLAKE3 hash of the other fields in canonical form, as for an object. ``made`` has versions. A receipt is not a
signature.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from persona.building.publish import Shard
from persona.checkpoints.sidefiles import RECEIPT, leads_out, read_json
from persona.checkpoints.tensorfile import TensorFile, TensorInfo
from persona.errors import CheckpointError, NotVerified
from persona.files import opened, read_bytes, translated
from persona.ids import TensorId, blob_id, is_id, object_digest, tensor_id
from persona.progress import SILENT, Progress, Task
from persona.recipe.model import Recipe
from persona.store.objects import canonical
from persona.threads import run_all

SCHEMA = 1
MISSING = "missing"
LONGEST_NAME = 255
"""Most bytes of a file's name on Linux's file systems."""

READOUTS = "readouts"
"""Folder of a build's readouts: ``readouts/NAME`` has the two files of each. They are not beside the weights because
vLLM loads every ``*.safetensors`` there as weights."""


@dataclass(frozen=True)
class ReceiptDifference:
    """A difference between a folder and its receipt: ``what`` is a file or tensor, ``how`` says what is wrong."""

    what: str
    how: str


def make_receipt(
    about: Mapping[str, Any],
    tensors: Mapping[str, TensorId],
    shards: list[Shard],
    side_files: Mapping[str, bytes],
) -> bytes:
    """Make the bytes of ``persona.json``.

    Args:
        about: The fields ``commit``, ``edited``, ``recipe``, ``made``, ``device`` and ``dtype``.
        tensors: Ids by tensor name.
        shards: The weight files.
        side_files: The small files by name.
    """
    fields = {
        "schema": SCHEMA,
        **about,
        "tensors": dict(tensors),
        "shards": {shard.name: {"size": shard.size, "header": blob_id(shard.head)} for shard in shards},
        "files": {name: blob_id(data) for name, data in sorted(side_files.items())},
    }
    fields["id"] = object_digest(canonical(fields))
    return (json.dumps(fields, indent=1, ensure_ascii=False) + "\n").encode()


def read_receipt(folder: Path) -> dict[str, Any]:
    """Read the receipt of a built folder and check it against its own id.

    Raises:
        CheckpointError: there is no readable receipt.
        NotVerified: the receipt was changed after the build.
    """
    with translated(folder):
        if not folder.is_dir():
            raise CheckpointError(f"{folder} is not a folder", "Give a folder that 'persona build' wrote.")
    path = folder / RECEIPT
    fields = read_json(path)
    if not fields:
        raise CheckpointError(f"{folder} has no {RECEIPT}", "Give a folder that 'persona build' wrote.")
    schema = fields.get("schema")
    if not isinstance(schema, int) or not isinstance(fields.get("id"), str):
        raise _no_receipt(path)
    if schema > SCHEMA:
        raise CheckpointError(f"{path} was written by a newer persona", "Upgrade persona.")
    if _digest(path, fields) != fields["id"]:
        raise NotVerified(f"{path} was changed after the build", "Build again: this folder cannot be verified.")
    if not is_receipt(fields):
        raise _no_receipt(path)
    return fields


def is_receipt(fields: Mapping[str, Any]) -> bool:
    """Whether a JSON object has the fields of a receipt. Its id is not checked."""
    shards, recipe = fields.get("shards"), fields.get("recipe")
    plain = all(isinstance(fields.get(key), kind) for key, kind in _KINDS.items())
    if not plain or isinstance(fields["schema"], bool) or not isinstance(shards, dict) or not isinstance(recipe, dict):
        return False
    names = [*shards, *fields["files"]]
    ids = [*fields["tensors"].values(), *fields["files"].values()]
    try:
        Recipe.decode(recipe)
        listed = [(shard["size"], shard["header"]) for shard in shards.values()]
    except (KeyError, TypeError, ValueError):
        return False
    return (
        all(isinstance(size, int) and isinstance(header, str) for size, header in listed)
        and all(map(is_id, [fields["commit"], *ids]))
        and all("/" not in name for name in shards)
        and not any(leads_out(name) or _too_long(name) for name in names)
    )


def _too_long(name: str) -> bool:
    """Whether no file can have this name."""
    return any(len(part.encode(errors="surrogatepass")) > LONGEST_NAME for part in name.split("/"))


_KINDS = {
    "schema": int, "id": str, "commit": str, "edited": bool, "recipe": dict, "tensors": dict, "shards": dict,
    "files": dict,
}  # fmt: skip
"""Required fields of a receipt and their JSON types."""


def _no_receipt(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} is not a build's receipt", "Give a folder that 'persona build' wrote.")


def _digest(path: Path, fields: Mapping[str, Any]) -> str:
    try:
        return object_digest(canonical({key: value for key, value in fields.items() if key != "id"}))
    except (ValueError, RecursionError):  # NaN or an unpaired surrogate, which a build never writes
        raise _no_receipt(path) from None


def quick_differences(folder: Path, receipt: Mapping[str, Any]) -> list[ReceiptDifference]:
    """Compare a folder with its receipt without reading tensors: small files, and sizes and headers of shards."""
    return _quick(folder, receipt)[0]


def _quick(folder: Path, receipt: Mapping[str, Any]) -> tuple[list[ReceiptDifference], dict[str, TensorFile]]:
    """The differences, and the shards that can be read."""
    different = list(_file_differences(folder, receipt))
    shards = {}
    for name, listed in receipt["shards"].items():
        path = folder / name
        if not _is_file(path):
            different.append(ReceiptDifference(name, MISSING))
            continue
        try:
            shards[name] = TensorFile(path)
            different += _header_differences(shards[name], listed)
        except CheckpointError as error:
            different.append(ReceiptDifference(name, error.message))
    return different, shards


def differences(folder: Path, receipt: Mapping[str, Any], progress: Progress = SILENT) -> list[ReceiptDifference]:
    """Compare every byte of a folder with its receipt; returns all differences."""
    different, shards = _quick(folder, receipt)
    here = {info.name: (file, info) for file in shards.values() for info in file.tensors.values()}
    different += [
        ReceiptDifference(name, MISSING)
        for name in receipt["tensors"]
        if name not in here and len(shards) == len(receipt["shards"])
    ]
    different += [ReceiptDifference(name, "not in the receipt") for name in here if name not in receipt["tensors"]]
    total = sum(info.nbytes for _, info in here.values())
    with progress.task("verifying", total) as task:
        ids = run_all({name: partial(_tensor_id, *pair, task) for name, pair in here.items()})
    known = receipt["tensors"]
    return different + [ReceiptDifference(n, "its bytes changed") for n, id in ids.items() if known.get(n, id) != id]


def _tensor_id(file: TensorFile, info: TensorInfo, task: Task) -> TensorId:
    name = tensor_id(info.dtype, info.shape, file.chunks(info))
    task.advance(info.nbytes)
    return name


def _header_differences(file: TensorFile, listed: Mapping[str, Any]) -> Iterator[ReceiptDifference]:
    if file.size != listed["size"]:
        yield ReceiptDifference(file.path.name, f"has {file.size} bytes instead of {listed['size']}")
    with translated(file.path), opened(file.path) as shard:
        if blob_id(shard.read(8 + file.header_size)) != listed["header"]:
            yield ReceiptDifference(file.path.name, "its header changed")


def _file_differences(folder: Path, receipt: Mapping[str, Any]) -> Iterator[ReceiptDifference]:
    expected = {**receipt["files"], RECEIPT: None, **dict.fromkeys(receipt["shards"])}
    for name, blob in receipt["files"].items():
        path = folder / name
        if not _is_file(path):
            yield ReceiptDifference(name, MISSING)
        elif _bytes_of(path) != blob:
            yield ReceiptDifference(name, "its bytes changed")
    with translated(folder):
        here = [name for name, _ in entries_of(folder, expected)]
    yield from (ReceiptDifference(name, "was added") for name in here if name not in expected)


def entries_of(folder: Path, own: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """List the entries of a built folder by relative name, descending only into folders that contain files of ``own``."""
    folders = {str(above) for name in own for above in PurePosixPath(name).parents}
    stack = [("", folder)]
    while stack:
        above, place = stack.pop()
        for path in sorted(place.iterdir()):
            name = f"{above}{path.name}"
            if name in folders and path.is_dir() and not path.is_symlink():
                stack.append((f"{name}/", path))
            else:
                yield name, path


def _is_file(path: Path) -> bool:
    with translated(path):
        return path.is_file()


def _bytes_of(path: Path) -> str:
    with translated(path):
        return blob_id(read_bytes(path))
