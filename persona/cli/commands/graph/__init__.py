"""``persona graph``: ``persona graph NAME`` is ``cli/commands/graph/NAME.py``."""

from __future__ import annotations

import click

from persona.cli.lazy import LazyGroup, modules_of


@click.group("graph", cls=LazyGroup, modules=modules_of(__name__, "import", "link", "unlink", "status", "diff", "show"))
def command() -> None:
    """Link vectors to the nodes of a memory graph

    Nodes specify behaviours, and vectors implement them. When the text of a node changes, its vectors become stale.

    \b
    persona graph import notes/                     import the current nodes
    persona graph status                            show which nodes have a vector, and what is stale
    persona graph link rushing-pattern suggesting   record that a vector implements a node
    """
