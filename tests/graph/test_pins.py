"""Pins: the version of its node that a vector implements."""

from __future__ import annotations

import persona
from persona.graph.pins import pinned
from persona.ids import NodeId
from persona.recipe.model import Entry, Recipe
from persona.store.graphs import Graph, GraphOrigin
from tests.models import TinyModels


def test_pins_of_a_recipe_with_several_parents() -> None:
    """What a merge needs: the pin of whichever parent has the vector with that node, and the graph's own if one has it."""
    old, new = NodeId("0" * 64), NodeId("1" * 64)

    def recipe(**pins: NodeId | None) -> Recipe:
        return Recipe("b", "", tuple(Entry(n, n, node="x", specification=pin) for n, pin in pins.items()))

    graph = Graph({"x": new}, GraphOrigin("folder", "x"))
    bare = recipe(a=None, b=None, c=None)

    def pins(known: tuple[Recipe, ...], among: Graph | None = graph) -> list[NodeId | None]:
        return [entry.specification for entry in pinned(bare, known, among).vectors]

    assert pins(()) == [new, new, new]
    assert pins((), None) == [None, None, None]
    assert pins((recipe(a=old), recipe(b=old))) == [old, old, new]
    assert pins((recipe(a=old), recipe(a=new))) == pins((recipe(a=new), recipe(a=old))) == [new, new, new]
    assert pins((recipe(a=None), recipe(a=old)))[0] == old
    assert pins((recipe(a=None),))[0] is None, "nobody knows what it was trained for"
    assert pinned(bare, (recipe(a=old),), graph, {"a": new}).vectors[0].specification == new


def test_repositories_without_a_graph_keep_their_ids(models: TinyModels, repo: persona.Repository) -> None:
    persona.commit(repo, models.run(1), name="a", node="x")
    fields = repo.objects.get(repo.head(), "commit")
    assert "graph" not in fields
    assert "specification" not in repo.objects.get(fields["recipe"], "recipe")["vectors"][0]
