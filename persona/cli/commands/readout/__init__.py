"""`persona readout`: each subcommand NAME is in `cli/commands/readout/NAME.py`."""

from __future__ import annotations

import click

from persona.cli.lazy import LazyGroup, modules_of


@click.group(
    "readout", cls=LazyGroup, modules=modules_of(__name__, "pairs", "train", "score", "drift", "tune", "export")
)
def command() -> None:
    """Train, read and steer with readout vectors

    A readout has one direction per concept and layer in the model's residual stream. The projection of an activation
    on a direction measures the concept; adding the direction steers the model.

    \b
    persona readout pairs notes/ -o pairs.jsonl                  make labelled texts from a memory graph
    persona readout train --pairs pairs.jsonl -o mood            train a direction for each concept
    persona commit --readout mood --as mood                      record the readout in the recipe
    persona readout score "I hear you." --readout mood           score a text
    persona readout drift HEAD~1 --texts t.jsonl --readout mood  compare two models
    """
