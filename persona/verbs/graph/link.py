"""``persona graph link``: record that a vector implements the current text of a node."""

from __future__ import annotations

from persona.errors import Refusal, UsageError
from persona.graph.coverage import complaint
from persona.recipe import edit
from persona.recipe.parse import parse
from persona.repository import Repository
from persona.store.graphs import split_reference
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
    """Link a vector to a node, pinned to the node's current text, and commit that.

    If the vector has this node already, this records that it still implements it although the text has changed.

    Args:
        node: ``NODE`` or ``NODE#SECTION``.

    Raises:
        UsageError: There is no such node, section or vector.
        Refusal: The vector already implements the current text, or ``persona.toml`` has edits.
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
            raise Refusal(
                f"'{vector}' already implements the current text of '{reference}'", "See 'persona graph status'."
            )
        verb = "still implements" if before.node == reference and before.specification else "implements"
        text = edit.set_node(text, vector, reference)
        subject = message or f"{vector} {verb} {reference}"
        return record(repo, change, text, subject, author, pins={vector: now})
