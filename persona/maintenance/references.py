"""The references of one object.

There are two answers, to avoid two kinds of mistake. ``fsck`` must not report something as missing that nothing needs,
so ``references_of`` reads the fields that are references. ``gc`` must not overlook a reference, so it also follows
``others``: any 64 hex digits elsewhere in an object, whatever the field and kind, and in a text every quoted prefix of
an id. A collector that misses a reference loses data; one that follows too many keeps a little more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from persona.ids import BlobId, ObjectId, TensorId
from persona.store.nouns import TensorSpec, checked_files

Kinds = tuple[tuple[ObjectId, str], ...]

_ID = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_QUOTED = re.compile(r"""["']([0-9a-f]{4,64})["']""")


@dataclass(frozen=True)
class References:
    """What an object needs: other objects, each with the kind that it must have, tensors and blobs."""

    objects: Kinds = ()
    tensors: tuple[TensorId, ...] = ()
    blobs: tuple[BlobId, ...] = ()

    @property
    def ids(self) -> set[str]:
        """All ids, of objects, tensors and blobs."""
        return {*(name for name, _ in self.objects), *self.tensors, *self.blobs}


def references_of(kind: str, fields: Mapping[str, Any]) -> References:
    """Return what an object needs; raise ValueError if its fields are not those of a ``kind``."""
    read = _READERS.get(kind)
    if read is None:
        return References()
    try:
        return read(fields)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"it is not a valid {kind}: {error!r}") from error


def is_known(kind: str) -> bool:
    """Return whether this version of persona can read objects of ``kind``."""
    return kind in _READERS


def ids_in(data: bytes) -> set[str]:
    """Return every id that occurs in ``data``, whatever it is the id of."""
    return {match.decode() for match in _ID.findall(data)}


def prefixes_in(text: str) -> set[str]:
    """Return every prefix of an id in quotes, as in ``persona.toml``; ``text`` need not be valid TOML."""
    return set(_QUOTED.findall(text))


def _base(fields: Mapping[str, Any]) -> References:
    return References(tensors=_specs(fields["tensors"].values()), blobs=_blobs(fields))


def _vector(fields: Mapping[str, Any]) -> References:
    factors = [spec[side] for spec in fields["low_rank"].values() for side in ("left", "right")]
    tensors = _specs([*fields["tensors"].values(), *factors])
    origin = [(ObjectId(fields["baked_from"]), "recipe")] if "baked_from" in fields else []
    terms = [(ObjectId(name), "vector") for _, name, _ in fields.get("terms", ())]
    return References(((ObjectId(fields["base"]), "base"), *origin, *terms), tensors, _blobs(fields))


def _recipe(fields: Mapping[str, Any]) -> References:
    vectors = ((ObjectId(entry["id"]), "vector") for entry in fields["vectors"])
    pins = ((ObjectId(e["specification"]), "node") for e in fields["vectors"] if "specification" in e)
    readouts = ((ObjectId(entry["id"]), "readout") for entry in fields.get("readouts", ()))
    fishers = ((ObjectId(entry["fisher"]), "fisher") for entry in fields["vectors"] if "fisher" in entry)
    return References(((ObjectId(fields["base"]), "base"), *vectors, *pins, *fishers, *readouts))


def _readout(fields: Mapping[str, Any]) -> References:
    """Leave out the revision that it was captured on: that may be a commit of another repository."""
    return References(((ObjectId(fields["base"]), "base"),), _specs(fields["tensors"].values()))


def _commit(fields: Mapping[str, Any]) -> References:
    _ = fields["author"], fields["time"], fields["message"].strip(), dict(fields["run"])
    parents = ((ObjectId(name), "commit") for name in fields["parents"])
    graph = ((ObjectId(fields["graph"]), "graph"),) if "graph" in fields else ()
    recipe, text = (ObjectId(fields["recipe"]), "recipe"), (ObjectId(fields["text"]), "text")
    return References((recipe, text, *parents, *graph, *_fisher_of(fields["run"])))


def _fisher_of(run: Mapping[str, Any]) -> Kinds:
    """Return the diagonal that a run was trained with. Facts about runs are free-form, so anything but an id is ignored."""
    ewc = run.get("ewc")
    name = ewc.get("fisher") if isinstance(ewc, Mapping) else None
    return ((ObjectId(name), "fisher"),) if isinstance(name, str) and _ID.fullmatch(name.encode()) else ()


def _fisher(fields: Mapping[str, Any]) -> References:
    _ = fields["examples"], fields["tokens"], fields["seed"]
    start = ((ObjectId(fields["recipe"]), "recipe"),) if "recipe" in fields else ()
    return References(((ObjectId(fields["base"]), "base"), *start), _specs(fields["tensors"].values()))


def _operation(fields: Mapping[str, Any]) -> References:
    """Return only its parent: what an old operation would restore may have been collected."""
    _ = fields["time"], fields["command"], dict(fields["refs"]), fields["recipe"]
    return References(((ObjectId(fields["parent"]), "operation"),) if fields["parent"] else ())


def _text(fields: Mapping[str, Any]) -> References:
    fields["text"].encode()
    return References()


def _graph(fields: Mapping[str, Any]) -> References:
    return References(tuple((ObjectId(name), "node") for name in fields["nodes"].values()))


def _node(fields: Mapping[str, Any]) -> References:
    _ = fields["name"].encode(), fields["text"].encode()
    return References()


def _evaluation(fields: Mapping[str, Any]) -> References:
    """Return the replies that it judged. It names its build by a digest, and may outlive it."""
    _ = fields["build"].encode(), fields["suite"].encode(), fields["time"], list(fields["figures"])
    return References(((ObjectId(fields["replies"]), "text"),) if "replies" in fields else ())


def _specs(values: Iterable[Any]) -> tuple[TensorId, ...]:
    return tuple(dict.fromkeys(TensorSpec.decode(value).id for value in values))


def _blobs(fields: Mapping[str, Any]) -> tuple[BlobId, ...]:
    return tuple(dict.fromkeys(checked_files(fields["files"]).values()))


_READERS: dict[str, Callable[[Mapping[str, Any]], References]] = {
    "base": _base,
    "vector": _vector,
    "readout": _readout,
    "recipe": _recipe,
    "commit": _commit,
    "operation": _operation,
    "text": _text,
    "graph": _graph,
    "node": _node,
    "fisher": _fisher,
    "evaluation": _evaluation,
}
