"""Forged files of tensors and blobs: indexes, lists and headers that say what no writer says, under right digests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from blake3 import blake3

from persona.ids import file_digest
from persona.store import compression
from tests.hostile.forge import GONE, STORE, WRONG, Forgery, Path, Store, Tree, changed, encoded, places

PACKS = f"{STORE}packs/"
END = b"pack end"


def weights(store: Store) -> Iterator[Forgery]:
    """Packs with other indexes, safetensors files with other headers, and lists of files elsewhere."""
    pack = next(path for path in sorted(store.files) if path.startswith(PACKS) and path.endswith(".pack"))
    whole = next(path for path in sorted(store.files) if path.startswith(PACKS) and path.endswith(".safetensors"))
    yield from _indexes(store, pack)
    yield from _headers(store, whole)
    yield from _lists(store, whole)
    yield from _bytes(store, pack)
    yield from _bytes(store, whole)


def _values(value: Any) -> Iterator[tuple[Path, str, Any]]:
    seen = set[tuple[str, ...]]()
    for path, old in places(value):
        shape = tuple("#" if isinstance(part, int) else "*" if "." in part else part for part in path)
        if shape in seen:
            continue
        seen.add(shape)
        for what, new in WRONG.items():
            if new is not GONE or isinstance(path[-1], str):
                yield path, f"{' '.join(shape)[:60]}: {what}", new
        if isinstance(old, int):
            yield from ((path, f"{' '.join(shape)[:60]}: {other}", other) for other in (old + 1, 2**31, 2**40, 2**62))
        if isinstance(old, list) and old:
            yield from (
                (path, f"{' '.join(shape)[:60]}: {w}", other)
                for w, other in (("twice", old + old), ("many", old[:1] * 100_000))
            )


def _indexes(store: Store, path: str) -> Iterator[Forgery]:
    data = store.files[path]
    at, stored, plain = (int.from_bytes(data[-64:][k : k + 8], "little") for k in (0, 8, 16))
    raw = data[at : at + stored]
    index = json.loads(raw if stored == plain else compression.expand(raw, plain))
    frames = data[:at]
    for where, what, new in _values(index):
        yield Forgery(
            f"pack: {what}",
            lambda where=where, new=new: _repacked(store, path, frames, encoded(changed(index, where, new))),  # type: ignore[misc]
        )
    for what, text in {"no JSON": b"\xff", "deep": b"[" * 50_000, "a list": b"[]", "a number": b"9" * 5000}.items():
        yield Forgery(f"pack: index is {what}", lambda text=text: _repacked(store, path, frames, text))  # type: ignore[misc]


def _repacked(store: Store, path: str, frames: bytes, index: bytes) -> Tree:
    sizes = b"".join(number.to_bytes(8, "little") for number in (len(frames), len(index), len(index)))
    return _instead(store, path, frames + index + sizes + blake3(index).digest() + END)


def _instead(store: Store, path: str, data: bytes) -> Tree:
    """A file of weights with other bytes, under the name that it then has."""
    tree: Tree = dict(store.files)
    del tree[path]
    end = path.rpartition(".")[2]
    name = file_digest([data])
    tree[f"{PACKS}{name}.{end}"] = data
    old = f"{path.removesuffix(end)}json"
    if old in tree:
        tree[f"{PACKS}{name}.json"] = tree.pop(old)
    return tree


def _headers(store: Store, path: str) -> Iterator[Forgery]:
    data = store.files[path]
    size = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + size]), data[8 + size :]
    for where, what, new in _values(header):
        text = lambda where=where, new=new: encoded(changed(header, where, new))  # noqa: E731
        yield Forgery(
            f"safetensors: {what}",
            lambda text=text: _instead(store, path, len(text()).to_bytes(8, "little") + text() + rest),  # type: ignore[misc]
        )


def _lists(store: Store, path: str) -> Iterator[Forgery]:
    """Lists of tensors, of files in the folder and of files elsewhere."""
    place = f"{path.removesuffix('.safetensors')}.json"
    own = json.loads(store.files[place])
    for where, what, new in _values(own):
        data = encoded(changed(own, where, new))
        yield Forgery(f"list: {what}", lambda data=data: {**store.files, place: data})  # type: ignore[misc]
    for what, data in {
        "no JSON": b"\xff",
        "deep": b"[" * 50_000,
        "a list": b"[]",
        "null": b"null",
        "empty": b"",
    }.items():
        yield Forgery(f"list is {what}", lambda data=data: {**store.files, place: data})  # type: ignore[misc]
    size = len(store.files[path])
    away = {**own, "version": 2, "path": "/etc/passwd", "size": size}
    for outside in (
        "/etc/passwd",
        "/dev/zero",
        "/dev/stdin",
        "/proc/self/mem",
        "../../neighbour.txt",
        "relative",
        "",
        "/",
        "/a\0b",
    ):
        for length in (size, 0, -1, 2**62):
            data = encoded({**away, "path": outside, "size": length})
            yield Forgery(
                f"list of a file elsewhere: {outside!r}, {length} bytes", lambda data=data: _away(store, path, data)
            )  # type: ignore[misc]
    for where, what, new in _values(away):
        data = encoded(changed(away, where, new))
        yield Forgery(f"list of a file elsewhere: {what}", lambda data=data: _away(store, path, data))  # type: ignore[misc]


def _away(store: Store, path: str, data: bytes) -> Tree:
    tree: Tree = {name: text for name, text in store.files.items() if name != path}
    return {**tree, f"{path.removesuffix('.safetensors')}.json": data}


def _bytes(store: Store, path: str) -> Iterator[Forgery]:
    """The right name, and other bytes; and other bytes under the name that they have."""
    data = store.files[path]
    cuts: Mapping[str, bytes] = {
        "empty": b"", "half": data[: len(data) // 2], "zeros": bytes(len(data)), "one more byte": data + b"\0",
        "a huge header": (2**62).to_bytes(8, "little") + data[8:], "all ones": b"\xff" * len(data),
    }  # fmt: skip
    end = path.rpartition(".")[2]
    for what, text in cuts.items():
        yield Forgery(f"{end} file: {what}, under its old name", lambda text=text: {**store.files, path: text})  # type: ignore[misc]
        yield Forgery(f"{end} file: {what}, under its new name", lambda text=text: _instead(store, path, text))  # type: ignore[misc]
