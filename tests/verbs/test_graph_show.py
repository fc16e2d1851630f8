"""``graph show``: the graph, or one of its nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

import persona
from persona.errors import UsageError
from persona.verbs.graph.show import ShownGraph, ShownNode


def test_show(whole: persona.Repository, notes: Path) -> None:
    graph = persona.graph_show(whole)
    assert isinstance(graph, ShownGraph)
    assert (graph.nodes[0].name, graph.nodes[0].vectors) == ("core-personality", ("voice", "boundaries"))
    node = persona.graph_show(whole, "core-personality#boundaries")
    assert isinstance(node, ShownNode)
    assert node.text.startswith("## Boundaries\n\nNo is")
    assert "Voice" not in node.text
    assert dict(node.tags) == {"core": None, "warmth": 8, "clarity": 9}
    assert node.linked_from == ("pattern-listening-as-avoidance",)
    with pytest.raises(UsageError, match="has no memory graph"):
        persona.graph_show(whole, rev="HEAD~6")
