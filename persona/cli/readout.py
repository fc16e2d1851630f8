"""``persona readout``: ``persona readout NAME`` is ``cli/readout_NAME.py``."""

from __future__ import annotations

import click

from persona.cli.lazy import LazyGroup

SUBCOMMANDS = ("pairs", "train", "score", "drift", "tune", "export")


@click.group("readout", cls=LazyGroup, modules={name: f"persona.cli.readout_{name}" for name in SUBCOMMANDS})
def command() -> None:
    """Measure a model by what its residual stream says of concepts: a direction for each, by layer.

    \b
    persona readout pairs notes/ -o pairs.jsonl             labelled texts from a memory graph
    persona readout train --pairs pairs.jsonl -o mood       a direction for each concept, and what it is worth
    persona commit --readout mood --as mood                 kept with the recipe from here on
    persona readout score "I hear you." --readout mood      what a text reads as
    persona readout drift HEAD~1 --texts t.jsonl --readout mood      how a change moved the mood
    """
