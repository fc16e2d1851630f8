"""``persona readout``: ``persona readout NAME`` is ``cli/commands/readout/NAME.py``."""

from __future__ import annotations

import click

from persona.cli.lazy import LazyGroup, modules_of


@click.group(
    "readout", cls=LazyGroup, modules=modules_of(__name__, "pairs", "train", "score", "drift", "tune", "export")
)
def command() -> None:
    """Measure a model by what its residual stream says of concepts: a direction for each, by layer.

    \b
    persona readout pairs notes/ -o pairs.jsonl             labelled texts from a memory graph
    persona readout train --pairs pairs.jsonl -o mood       a direction for each concept, and what it is worth
    persona commit --readout mood --as mood                 kept with the recipe from here on
    persona readout score "I hear you." --readout mood      what a text reads as
    persona readout drift HEAD~1 --texts t.jsonl --readout mood      how a change moved the mood
    """
