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

from persona.history.commits import Commit, decode_text
from persona.history.evaluations import Evaluation
from persona.history.operations import Operation
from persona.ids import BlobId, ObjectId, TensorId
from persona.recipe.model import Recipe
from persona.store.fishers import Fisher
from persona.store.graphs import Graph, Node
from persona.store.nouns import Base, TensorSpec, Vector
from persona.store.objects import Fields
from persona.store.readouts import StoredReadout

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


def references_of(kind: str, fields: Fields) -> References:
    """Return what an object needs; raise ValueError if its fields are not those of a ``kind``."""
    known = _READERS.get(kind)
    if known is None:
        return References()
    decode, needs = known
    try:
        return needs(decode(fields))
    except KeyError as error:
        raise ValueError(f"it is not a valid {kind}: it lacks {error}") from error
    except ValueError as error:
        raise ValueError(f"it is not a valid {kind}: {error}") from error


def is_known(kind: str) -> bool:
    """Return whether this version of persona can read objects of ``kind``."""
    return kind in _READERS


def ids_in(data: bytes) -> set[str]:
    """Return every id that occurs in ``data``, whatever it is the id of."""
    return {match.decode() for match in _ID.findall(data)}


def prefixes_in(text: str) -> set[str]:
    """Return every prefix of an id in quotes, as in ``persona.toml``; ``text`` need not be valid TOML."""
    return set(_QUOTED.findall(text))


def _base(base: Base) -> References:
    return References(tensors=_ids(base.tensors.values()), blobs=_blobs(base.files))


def _vector(vector: Vector) -> References:
    factors = [spec for pair in vector.low_rank.values() for spec in (pair.left, pair.right)]
    origin = [(vector.baked_from, "recipe")] if vector.baked_from else []
    terms = [(term.id, "vector") for term in vector.terms]
    return References(
        ((vector.base, "base"), *origin, *terms), _ids([*vector.tensors.values(), *factors]), _blobs(vector.files)
    )


def _recipe(recipe: Recipe) -> References:
    vectors = [(ObjectId(entry.id), "vector") for entry in recipe.vectors]
    pins = [(entry.specification, "node") for entry in recipe.vectors if entry.specification]
    readouts = [(ObjectId(entry.id), "readout") for entry in recipe.readouts]
    fishers = [(ObjectId(entry.fisher), "fisher") for entry in recipe.vectors if entry.fisher]
    return References(((recipe.base_id, "base"), *vectors, *pins, *fishers, *readouts))


def _readout(readout: StoredReadout) -> References:
    """Leave out the revision that it was captured on: that may be a commit of another repository."""
    return References(((readout.base, "base"),), _ids(readout.tensors.values()))


def _commit(commit: Commit) -> References:
    parents = ((name, "commit") for name in commit.parents)
    graph = ((commit.graph, "graph"),) if commit.graph else ()
    return References(((commit.recipe, "recipe"), (commit.text, "text"), *parents, *graph, *_fisher_of(commit.run)))


def _fisher_of(run: Mapping[str, Any]) -> Kinds:
    """Return the diagonal that a run was trained with. Facts about runs are free-form, so anything but an id is ignored."""
    ewc = run.get("ewc")
    name = ewc.get("fisher") if isinstance(ewc, Mapping) else None
    return ((ObjectId(name), "fisher"),) if isinstance(name, str) and _ID.fullmatch(name.encode()) else ()


def _fisher(diagonal: Fisher) -> References:
    start = ((diagonal.recipe, "recipe"),) if diagonal.recipe else ()
    return References(((diagonal.base, "base"), *start), _ids(diagonal.tensors.values()))


def _operation(operation: Operation) -> References:
    """Return only its parent: what an old operation would restore may have been collected."""
    return References(((operation.parent, "operation"),) if operation.parent else ())


def _graph(graph: Graph) -> References:
    return References(tuple((name, "node") for name in graph.nodes.values()))


def _nothing(_: object) -> References:
    """Return nothing."""
    return References()


def _ids(specs: Iterable[TensorSpec]) -> tuple[TensorId, ...]:
    return tuple(dict.fromkeys(spec.id for spec in specs))


def _blobs(files: Mapping[str, BlobId]) -> tuple[BlobId, ...]:
    return tuple(dict.fromkeys(files.values()))


def _evaluation(evaluation: Evaluation) -> References:
    """Return the replies that it judged. It names its build by a digest, and may outlive it."""
    return References(() if evaluation.replies is None else ((evaluation.replies, "text"),))


_READERS: dict[str, tuple[Callable[[Fields], Any], Callable[[Any], References]]] = {
    "base": (Base.decode, _base),
    "vector": (Vector.decode, _vector),
    "readout": (StoredReadout.decode, _readout),
    "recipe": (Recipe.decode, _recipe),
    "commit": (Commit.decode, _commit),
    "operation": (Operation.decode, _operation),
    "text": (decode_text, _nothing),
    "graph": (Graph.decode, _graph),
    "node": (Node.decode, _nothing),
    "fisher": (Fisher.decode, _fisher),
    "evaluation": (Evaluation.decode, _evaluation),
}
"""How each kind of object is decoded, as by every command that reads it, and what it then needs."""
