"""All that is known of a readout: what it measures where, how well, and what has changed since it was captured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from persona.ids import BaseId, CommitId, ReadoutId
from persona.readout.select import TABLES, is_table
from persona.repository import Repository
from persona.store.readouts import StoredReadout
from persona.verbs.origin import first_commit
from persona.verbs.readouts import NamedReadout, changed_since


@dataclass(frozen=True)
class ShownReadout:
    """A readout, where it was committed first, and what its manifest says.

    ``tables`` are numbers by concept and layer: ``norms``, ``centers``, ``spreads``, ``auc`` and ``control``, those of
    them that are there. ``revision`` is the commit that it was captured on, ``since`` are the vectors and settings that
    the recipe has otherwise than that one, null where there is no such commit here. ``of`` is the commit whose recipe has
    it, None for ``persona.toml``.
    """

    name: str
    id: ReadoutId
    base: BaseId
    base_name: str
    concepts: tuple[str, ...]
    layers: tuple[int, ...]
    hidden: int
    tables: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    revision: CommitId | None = None
    since: tuple[str, ...] | None = None
    commit: CommitId | None = None
    time: str | None = None
    of: CommitId | None = None


def shown_readout(repo: Repository, named: NamedReadout) -> ShownReadout:
    """The readout that a text means."""
    stored = StoredReadout.get(repo.objects, named.id)
    first = first_commit(repo, named.id, named.commit)
    shape = (len(stored.concepts), len(stored.layers))
    tables = {key: stored.about[key] for key in TABLES if is_table(stored.about.get(key), shape)}
    counts = stored.about.get("counts")
    known = {*tables, *(("counts",) if isinstance(counts, Mapping) else ())}
    return ShownReadout(
        name=named.name,
        id=named.id,
        base=stored.base,
        base_name=named.recipe.base_name,
        concepts=stored.concepts,
        layers=stored.layers,
        hidden=stored.tensors[stored.layers[0]].shape[1],
        tables=tables,
        counts=counts if isinstance(counts, Mapping) else {},
        about={key: value for key, value in stored.about.items() if key not in known},
        revision=stored.revision,
        since=changed_since(repo, stored, named.recipe),
        commit=first,
        time=repo.commit(first).time if first else None,
        of=named.commit,
    )
