"""What commands share that read a memory graph from somewhere: the options of a server, and paths beside URLs."""

from __future__ import annotations

import re
from pathlib import Path

import click

from persona.cli.app import App, F


def server_options(function: F) -> F:
    """``--tool`` and ``--timeout``, which only a server needs."""
    for option in reversed(
        [
            click.option(
                "--tool", "tools", metavar="NAME", multiple=True,
                help="The server's tool that lists nodes; given again, the one that reads a node.",
            ),
            click.option(
                "--timeout", type=click.FloatRange(min=0, min_open=True), default=30.0, metavar="S",
                help="Seconds that a server may take to answer; 30 otherwise.",
            ),
        ]
    ):  # fmt: skip
        function = option(function)
    return function


def place_of(app: App, said: str) -> Path | str:
    """A URL as it is; anything else is a path from the folder that we are in."""
    if not said:
        raise click.BadParameter("the path is empty")
    return said if re.match(r"https?://", said) else app.path(said)
