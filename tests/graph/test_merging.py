"""Two histories of a graph become one, node by node."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona.graph.merging import three_way
from persona.ids import NodeId
from persona.store.graphs import Graph, GraphOrigin

HERE, THERE = GraphOrigin("folder", "here"), GraphOrigin("folder", "there")


def graph(source: GraphOrigin = HERE, links: dict[str, tuple[str, ...]] | None = None, **nodes: int) -> Graph:
    return Graph({name: NodeId(str(text) * 64) for name, text in nodes.items()}, source, links or {})


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "wanted", "conflicts"),
    [
        ({"a": 1}, {"a": 1}, {"a": 2}, {"a": 2}, ()),
        ({"a": 1}, {"a": 2}, {"a": 1}, {"a": 2}, ()),
        ({"a": 1}, {"a": 2}, {"a": 2}, {"a": 2}, ()),
        ({"a": 1}, {"a": 2}, {"a": 3}, {"a": 2}, ("a",)),
        ({}, {"a": 1}, {"b": 1}, {"a": 1, "b": 1}, ()),
        ({}, {"a": 1}, {"a": 2}, {"a": 1}, ("a",)),
        ({"a": 1}, {}, {"a": 1}, {}, ()),
        ({"a": 1}, {"a": 1}, {}, {}, ()),
        ({"a": 1}, {}, {}, {}, ()),
        ({"a": 1}, {"a": 2}, {}, {"a": 2}, ("a",)),
        ({"a": 1}, {}, {"a": 2}, {"a": 2}, ("a",)),
    ],
)
def test_a_row_of_the_table(
    base: dict[str, int], ours: dict[str, int], theirs: dict[str, int], wanted: dict[str, int], conflicts: tuple[str]
) -> None:
    merged = three_way(graph(**base), graph(**ours), graph(THERE, **theirs))
    assert (merged.graph, merged.conflicts) == (graph(**wanted), conflicts)


def test_links_follow_their_nodes() -> None:
    before = graph(a=1, b=1, links={"a": ("b",), "b": ("a",)})
    merged = three_way(before, graph(a=1, links={"a": ("b",)}), graph(a=1, b=1, links={"a": ("c",), "b": ("a",)}))
    assert merged.graph == graph(a=1, links={"a": ("c",)})
    assert three_way(None, graph(a=1), graph(b=1)).graph == graph(a=1, b=1)


GRAPHS = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3)).map(lambda nodes: graph(**nodes))


@given(GRAPHS, GRAPHS, GRAPHS)
def test_laws(base: Graph, ours: Graph, theirs: Graph) -> None:
    merged, turned = three_way(base, ours, theirs), three_way(base, theirs, ours)
    assert merged.conflicts == turned.conflicts
    for name in {*base.nodes, *ours.nodes, *theirs.nodes} - {*merged.conflicts}:
        assert merged.graph.nodes.get(name) == turned.graph.nodes.get(name)
    assert three_way(base, ours, base).graph == ours
    assert three_way(base, base, theirs).graph == theirs
    assert three_way(base, ours, ours).conflicts == ()
