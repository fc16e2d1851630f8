"""``persona readout``: ``persona readout NAME`` is ``cli/readout_NAME.py``."""

from __future__ import annotations

import click

from persona.cli.lazy import LazyGroup

SUBCOMMANDS = ("pairs", "score", "drift", "tune")


@click.group("readout", cls=LazyGroup, modules={name: f"persona.cli.readout_{name}" for name in SUBCOMMANDS})
def command() -> None:
    """Measure a model by what its residual stream says of concepts: a direction for each, by layer.

    \b
    persona readout pairs notes/ -o pairs.jsonl                        labelled texts from a memory graph
    persona readout score "I hear you." --readout mood/                what a text reads as
    persona readout drift HEAD~1 HEAD --texts t.jsonl --readout mood/  how a merge moved the mood
    persona readout tune --toward warmth --prompts p.txt --readout mood/ -o tune.json
    """
