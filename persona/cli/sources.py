"""Options and paths of commands that read a memory graph."""

from __future__ import annotations

import re
from pathlib import Path

import click

from persona.cli.app import App, F


def server_options(function: F) -> F:
    """Add ``--tool`` and ``--timeout``, which only servers need."""
    for option in reversed(
        [
            click.option(
                "--tool", "tools", metavar="NAME", multiple=True,
                help="Server tool that lists the nodes; give a second one for the tool that reads a node.",
            ),
            click.option(
                "--timeout", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True, metavar="S",
                help="Seconds to wait for each answer of a server.",
            ),
        ]
    ):  # fmt: skip
        function = option(function)
    return function


def place_of(app: App, text: str) -> Path | str:
    """Return a URL unchanged, and anything else as a path relative to the working directory."""
    if not text:
        raise click.BadParameter("the path is empty")
    return text if re.match(r"https?://", text) else app.path(text)
