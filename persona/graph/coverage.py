"""Which nodes have a vector, and which vectors are stale.

A vector is *stale* when the text that it implements is not the current text of its node. If its node is given as
``NODE#SECTION``, only that section counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from persona.errors import did_you_mean
from persona.graph.text import section, sections
from persona.ids import NodeId
from persona.recipe.model import Entry, Recipe
from persona.store.graphs import Graph, Node, split_reference
from persona.store.objects import ObjectStore


class State(StrEnum):
    """The state of a vector with a node, worst first."""

    MISSING = "node is gone"
    NO_SECTION = "section is gone"
    STALE = "stale"
    UNPINNED = "text not known"
    CURRENT = "up to date"


@dataclass(frozen=True)
class NodeLink:
    """A vector and its node, as ``persona.toml`` writes it.

    ``pin`` is the snapshot of the node that the vector implements, ``now`` the node in the graph; each may be null.
    """

    vector: str
    reference: str
    state: State
    pin: NodeId | None
    now: NodeId | None

    @property
    def node(self) -> str:
        """The node's name, without a section."""
        return split_reference(self.reference)[0]


@dataclass(frozen=True)
class Coverage:
    """A recipe compared with a graph. ``uncovered`` are nodes without a vector, ``loose`` vectors without a node."""

    links: tuple[NodeLink, ...]
    uncovered: tuple[str, ...]
    loose: tuple[str, ...]

    @property
    def stale(self) -> tuple[str, ...]:
        """The vectors that do not match the current text of their node, or whose node or section no longer exists."""
        wrong = (State.STALE, State.MISSING, State.NO_SECTION)
        return tuple(link.vector for link in self.links if link.state in wrong)


def coverage(recipe: Recipe, graph: Graph, objects: ObjectStore) -> Coverage:
    """Compare a recipe, with its pins, with a graph."""
    links = [_link(entry, graph, objects) for entry in recipe.vectors if entry.node]
    covered = {link.node for link in links}
    return Coverage(
        links=tuple(sorted(links, key=lambda link: list(State).index(link.state))),
        uncovered=tuple(name for name in sorted(graph.nodes) if name not in covered),
        loose=tuple(entry.name for entry in recipe.vectors if not entry.node),
    )


def _link(entry: Entry, graph: Graph, objects: ObjectStore) -> NodeLink:
    reference = entry.node or ""
    now = graph.find(reference)
    return NodeLink(
        entry.name, reference, _state(reference, entry.specification, now, objects), entry.specification, now
    )


def _state(reference: str, pin: NodeId | None, now: NodeId | None, objects: ObjectStore) -> State:
    if now is None:
        return State.MISSING
    name = split_reference(reference)[1]
    if name is not None and section(Node.get(objects, now).text, name) is None:
        return State.NO_SECTION
    if pin is None:
        return State.UNPINNED
    if pin == now or text_at(objects, pin, reference) == text_at(objects, now, reference):
        return State.CURRENT
    return State.STALE


def text_at(objects: ObjectStore, node: NodeId, reference: str) -> str | None:
    """Return the text of a snapshot at ``NODE`` or ``NODE#SECTION``, or None if it does not have the section."""
    text, (_, name) = Node.get(objects, node).text, split_reference(reference)
    return text if name is None else section(text, name)


def complaint(reference: str, graph: Graph, objects: ObjectStore) -> tuple[str, str] | None:
    """Return the error message and hint for a reference that is not in the graph, or None if it is."""
    name, wanted = split_reference(reference)
    node = graph.find(reference)
    if node is None:
        return f"no node '{name}' in the graph", did_you_mean(name, graph.nodes)
    text = Node.get(objects, node).text
    if wanted is not None and section(text, wanted) is None:
        hint = did_you_mean(wanted, sections(text)) or "The node has no headings."
        return f"node '{name}' has no section '{wanted}'", hint
    return None
