"""``persona graph link``: say that a vector implements a node, as its text is now."""

from __future__ import annotations

from persona.errors import Refusal, UsageError
from persona.graph.coverage import complaint
from persona.graph.nodes import split_reference
from persona.recipe import edit
from persona.recipe.parse import parse
from persona.repository import Repository
from persona.workspace.graphs import needed_graph
from persona.workspace.record import RecordedCommit, clean_recipe, entry_of, record


def graph_link(
    repo: Repository,
    node: str,
    vector: str,
    *,
    message: str | None = None,
    author: str = "",
    command: str = "graph link",
) -> RecordedCommit:
    """Give ``vector`` the node ``NODE`` or ``NODE#SECTION``, pinned to its present text; and commit that.

    For a vector that has this node already it says that the vector still implements it, though the text has changed.
    """
    name, section = split_reference(node)
    reference = name if section is None else f"{name}#{section}"
    with clean_recipe(repo, command) as (change, text):
        head = repo.head()
        graph = needed_graph(repo, head)
        before = entry_of(repo.recipe(head), entry_of(parse(text), vector).name)
        if wrong := complaint(reference, graph, repo.objects):
            raise UsageError(*wrong)
        now = graph.nodes[name]
        if (before.node, before.specification) == (reference, now):
            raise Refusal(f"'{vector}' implements '{reference}' as it is now already", "See 'persona graph status'.")
        verb = "still implements" if before.node == reference and before.specification else "implements"
        text = edit.set_node(text, vector, reference)
        said = message or f"{vector} {verb} {reference}"
        return record(repo, change, text, said, author, pins={vector: now})
