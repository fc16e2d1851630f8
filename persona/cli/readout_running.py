"""Options shared by the commands that run a model with a readout."""

from __future__ import annotations

from typing import Any

import click

from persona.cli.app import App, F
from persona.cli.output import note, utf8
from persona.cli.running import batch_option, blocks_option, device_option, dtype_option
from persona.errors import NoRepository
from persona.repository import Repository

_readout_option = click.option(
    "--readout", type=click.Path(readable=False), metavar="NAME|FOLDER",
    help="Readout: a name, NAME@REV or folder. [default: the recipe's only readout]",
)  # fmt: skip


def model_options(function: F) -> F:
    """Add --dtype, --device, --blocks and --batch-size, which the readout verbs take under the same names."""
    return dtype_option(device_option(blocks_option(batch_option(function))))


def running_options(function: F) -> F:
    """Add --readout and the model options."""
    return _readout_option(model_options(function))


def repository_if_any(app: App) -> Repository | None:
    """The current repository, or None outside one."""
    try:
        return app.repository()
    except NoRepository:
        return None


def say_notes(app: App, result: Any) -> None:
    """Print the notes of a result to stderr, unless they are in the JSON output."""
    if not app.json:
        for text in result.notes:
            note(f"note: {utf8(text)}")
