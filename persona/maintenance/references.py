"""Who refers to whom: what one object names.

Two answers, for two kinds of mistake. ``fsck`` must not call a thing missing that nothing needs, so ``edges`` reads
the fields that are references. ``gc`` must not forget a reference, so it also follows ``others``: any 64 hex digits
that stand anywhere else in an object, whatever the field and whatever its kind, and in a text every quoted beginning
of an id. A collector that forgets an edge loses data; one that follows too many keeps a little more.
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
class Edges:
    """The objects that an object needs, each with the kind it must have, and its tensors and blobs."""

    objects: Kinds = ()
    tensors: tuple[TensorId, ...] = ()
    blobs: tuple[BlobId, ...] = ()

    @property
    def ids(self) -> set[str]:
        """All of them."""
        return {*(name for name, _ in self.objects), *self.tensors, *self.blobs}


def edges(kind: str, fields: Mapping[str, Any]) -> Edges:
    """What an object of ``kind`` needs; ValueError if its fields do not say what they must."""
    read = _READERS.get(kind)
    if read is None:
        return Edges()
    try:
        return read(fields)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"it does not say what a {kind} must: {error!r}") from error


def is_known(kind: str) -> bool:
    """Whether this persona knows what objects of ``kind`` say."""
    return kind in _READERS


def ids_in(data: bytes) -> set[str]:
    """Every id that stands in ``data``, whatever it is the id of."""
    return {match.decode() for match in _ID.findall(data)}


def beginnings_in(text: str) -> set[str]:
    """Every beginning of an id that stands in quotes, as ids do in ``persona.toml``; a text may be broken TOML."""
    return set(_QUOTED.findall(text))


def _base(fields: Mapping[str, Any]) -> Edges:
    return Edges(tensors=_specs(fields["tensors"].values()), blobs=_blobs(fields))


def _vector(fields: Mapping[str, Any]) -> Edges:
    factors = [spec[side] for spec in fields["low_rank"].values() for side in ("left", "right")]
    tensors = _specs([*fields["tensors"].values(), *factors])
    parentage = [(ObjectId(fields["baked_from"]), "recipe")] if "baked_from" in fields else []
    terms = [(ObjectId(name), "vector") for _, name, _ in fields.get("terms", ())]
    return Edges(((ObjectId(fields["base"]), "base"), *parentage, *terms), tensors, _blobs(fields))


def _recipe(fields: Mapping[str, Any]) -> Edges:
    vectors = ((ObjectId(entry["id"]), "vector") for entry in fields["vectors"])
    pins = ((ObjectId(e["specification"]), "node") for e in fields["vectors"] if "specification" in e)
    readouts = ((ObjectId(entry["id"]), "readout") for entry in fields.get("readouts", ()))
    fishers = ((ObjectId(entry["fisher"]), "fisher") for entry in fields["vectors"] if "fisher" in entry)
    return Edges(((ObjectId(fields["base"]), "base"), *vectors, *pins, *fishers, *readouts))


def _readout(fields: Mapping[str, Any]) -> Edges:
    """Not the revision that it was captured on: that may be a commit of another repository."""
    return Edges(((ObjectId(fields["base"]), "base"),), _specs(fields["tensors"].values()))


def _commit(fields: Mapping[str, Any]) -> Edges:
    _ = fields["author"], fields["time"], fields["message"].strip(), dict(fields["run"])
    parents = ((ObjectId(name), "commit") for name in fields["parents"])
    graph = ((ObjectId(fields["graph"]), "graph"),) if "graph" in fields else ()
    recipe, text = (ObjectId(fields["recipe"]), "recipe"), (ObjectId(fields["text"]), "text")
    return Edges((recipe, text, *parents, *graph, *_fisher_of(fields["run"])))


def _fisher_of(run: Mapping[str, Any]) -> Kinds:
    """The diagonal that a run was trained under. What is kept of runs may be anything, so only an id is one."""
    told = run.get("ewc")
    name = told.get("fisher") if isinstance(told, Mapping) else None
    return ((ObjectId(name), "fisher"),) if isinstance(name, str) and _ID.fullmatch(name.encode()) else ()


def _fisher(fields: Mapping[str, Any]) -> Edges:
    _ = fields["examples"], fields["tokens"], fields["seed"]
    start = ((ObjectId(fields["recipe"]), "recipe"),) if "recipe" in fields else ()
    return Edges(((ObjectId(fields["base"]), "base"), *start), _specs(fields["tensors"].values()))


def _operation(fields: Mapping[str, Any]) -> Edges:
    """Only its parent: what an old operation restores may have been collected."""
    _ = fields["time"], fields["command"], dict(fields["refs"]), fields["recipe"]
    return Edges(((ObjectId(fields["parent"]), "operation"),) if fields["parent"] else ())


def _text(fields: Mapping[str, Any]) -> Edges:
    fields["text"].encode()
    return Edges()


def _graph(fields: Mapping[str, Any]) -> Edges:
    return Edges(tuple((ObjectId(name), "node") for name in fields["nodes"].values()))


def _node(fields: Mapping[str, Any]) -> Edges:
    _ = fields["name"].encode(), fields["text"].encode()
    return Edges()


def _evaluation(fields: Mapping[str, Any]) -> Edges:
    """Nothing: what was measured says what of by a digest, and outlives it."""
    _ = fields["build"].encode(), fields["suite"].encode(), fields["time"], list(fields["figures"])
    return Edges()


def _specs(values: Iterable[Any]) -> tuple[TensorId, ...]:
    return tuple(dict.fromkeys(TensorSpec.decode(value).id for value in values))


def _blobs(fields: Mapping[str, Any]) -> tuple[BlobId, ...]:
    return tuple(dict.fromkeys(checked_files(fields["files"]).values()))


_READERS: dict[str, Callable[[Mapping[str, Any]], Edges]] = {
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
