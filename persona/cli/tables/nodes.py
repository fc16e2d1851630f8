"""Nodes of the memory graph and their states, as several commands print them."""

from __future__ import annotations

MOST = 12
"""Number of nodes to list before the rest is only counted."""

GOOD = "up to date"
SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow"), "scored": ("·", "dim")}
WORDS = {"changed": "text changed", "scored": "new scores"}


def coloured(state: str) -> str:
    """Return a state as rich markup, green if it is up to date."""
    return f"[{'green' if state == GOOD else 'yellow'}]{state}[/]"
