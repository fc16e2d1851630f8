"""``persona graph``: ``persona graph NAME`` is ``cli/commands/graph/NAME.py``."""

from __future__ import annotations

import click

from persona.cli.lazy import LazyGroup, modules_of


@click.group("graph", cls=LazyGroup, modules=modules_of(__name__, "import", "link", "unlink", "status", "diff", "show"))
def command() -> None:
    """Keep the memory graph, whose nodes specify behaviours, beside the vectors that implement them.

    \b
    persona graph import notes/                     take in the nodes as they are now
    persona graph status                            what has a vector, and what is stale
    persona graph link rushing-pattern suggesting   this vector implements that node
    """
