"""Options that the commands share that run a model along a readout."""

from __future__ import annotations

from typing import Any

import click

from persona.cli.app import App, F
from persona.cli.output import note, utf8
from persona.cli.running import batch_option, blocks_option, device_option, dtype_option
from persona.errors import NoRepository
from persona.repository import Repository


def running_options(function: F) -> F:
    """``--readout``, and how the model is run."""
    for option in reversed(
        [
            click.option(
                "--readout", type=click.Path(readable=False), metavar="FOLDER",
                help="The readout: the folder that 'persona readout train' wrote.",
            ),
            dtype_option,
            device_option,
            blocks_option,
            batch_option,
        ]
    ):  # fmt: skip
        function = option(function)
    return function


def repository_if_any(app: App) -> Repository | None:
    """Folders can be run anywhere."""
    try:
        return app.repository()
    except NoRepository:
        return None


def say_notes(app: App, result: Any) -> None:
    """What should be known beside the result; JSON has it already."""
    if not app.json:
        for text in result.notes:
            note(f"note: {utf8(text)}")
