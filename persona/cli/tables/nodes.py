"""Nodes of the memory graph and their states, as several commands print them."""

from __future__ import annotations

MOST = 12
"""Nodes to list before the rest are only counted."""

GOOD = "up to date"
SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow"), "scored": ("·", "dim")}
WORDS = {"changed": "text changed", "scored": "new scores"}


def coloured(state: str) -> str:
    """The state of a vector's node as rich markup: green when it is up to date."""
    return f"[{'green' if state == GOOD else 'yellow'}]{state}[/]"
