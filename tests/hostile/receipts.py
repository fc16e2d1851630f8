"""Forged builds: receipts that say something else, with right ids, and what stands beside them, in a folder of the repository."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from persona.ids import object_digest
from tests.hostile.commands import RELEASE
from tests.hostile.forge import KEYS, SPECIAL, Forgery, Path, Store, Thing, Tree, changed, encoded, instead, places

FOLDER, RECEIPT = "release", "persona.json"
FREE = ("tensors", "shards", "files")
"""Tables whose entries have names of their own: one entry stands for all."""


def receipts(store: Store, built: Mapping[str, bytes]) -> Iterator[Forgery]:
    """Every place of the receipt of ``built`` with every wrong value, with a right id and with none; and no files for files."""
    fields: dict[str, Any] = json.loads(built[RECEIPT])
    firsts = {kind: store.of_kind(kind)[0] for kind in sorted({store.kind(name) for name in store.order})}
    seen = set[tuple[str, ...]]()
    for path, value in places(fields):
        words = ["#" if isinstance(part, int) else part for part in path]
        if len(words) > 1 and words[0] in FREE:
            words[1] = "*"
        if tuple(words) in seen:
            continue
        seen.add(tuple(words))
        for what, new in instead(value, firsts):
            if what == "gone" and not isinstance(path[-1], str):
                continue
            yield _receipt(store, built, f"receipt {' '.join(words)}: {what}", fields, path, new)
        if isinstance(value, dict) and value:
            first, *rest = sorted(value)
            for key in KEYS:
                renamed = {key: value[first]} | {other: value[other] for other in rest}
                yield _receipt(store, built, f"receipt {' '.join(words)}: key {key[:20]!r}", fields, path, renamed)
    for name in built:
        for what, thing in SPECIAL.items():
            yield _forgery(store, built, f"release/{name}: {what}", {name: thing})
        yield _forgery(store, built, f"release/{name}: cut", {name: built[name][: len(built[name]) // 2]})
    for what, data in (("empty", b""), ("no JSON", b"\xff{"), ("a list", b"[]"), ("deep", b"[" * 100_000)):
        yield _forgery(store, built, f"receipt: {what}", {RECEIPT: data})


def _receipt(
    store: Store, built: Mapping[str, bytes], name: str, fields: Mapping[str, Any], path: Path, new: Any
) -> Forgery:
    forged = changed(dict(fields), path, new)
    if path != ("id",):
        rest = encoded({key: value for key, value in forged.items() if key != "id"})
        forged["id"] = object_digest(rest)
    return _forgery(store, built, name, {RECEIPT: encoded(forged)})


def _forgery(store: Store, built: Mapping[str, bytes], name: str, things: Mapping[str, Thing]) -> Forgery:
    def make() -> Tree:
        return {**store.files, **{f"{FOLDER}/{file}": data for file, data in {**built, **things}.items()}}

    return Forgery(name, make, RELEASE)
