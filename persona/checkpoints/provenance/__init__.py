"""What a training run says of itself, beside its weights. One module for each place where it is said.

    state       ``trainer_state.json``: where the run stands, its best metric, and how its losses went
    adapter     ``adapter_config.json``: the settings of PEFT
    arguments   ``training_args.bin``: hyperparameters, read from the pickle without running it
    card        the front matter of ``README.md``, and the versions that it lists
    config      ``config.json``: the version of transformers

Everything here is read from files of anyone's making, so each is bounded, and a file that is not as it should be is
left out with a note: what is known of a run must never keep its weights from being recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from persona.checkpoints.folder import numbered_folders
from persona.checkpoints.provenance import adapter, arguments, card, config, state
from persona.checkpoints.provenance.reading import Unreadable, small_file

__all__ = ["run_facts"]

Reader = Callable[[bytes], dict[str, Any]]
SOURCES: tuple[tuple[str, Reader], ...] = (
    (state.FILE, state.read),
    (adapter.FILE, adapter.read),
    (arguments.FILE, arguments.read),
    (card.FILE, card.read),
    (config.FILE, config.read),
)


def run_facts(run: Path, checkpoint: Path) -> tuple[dict[str, Any], list[str]]:
    """The facts of a run by topic, and notes about files that could not be read.

    ``checkpoint`` is the folder with the weights: ``run`` itself, or a ``checkpoint-N`` in it. What it has not is
    looked for in ``run``; the state of a finished run, whose Trainer keeps that with the checkpoints, in the newest.
    """
    found: dict[str, Any] = {}
    notes = []
    for name, read in SOURCES:
        try:
            data = next((data for place in _places(run, checkpoint, name) if (data := small_file(place, name))), None)
            facts = read(data) if data is not None else {}
        except Unreadable as why:
            notes.append(f"{name} {why}; its facts were left out")
            continue
        for topic, value in facts.items():
            found[topic] = {**value, **found.get(topic, {})}
    return found, notes


def _places(run: Path, checkpoint: Path, name: str) -> list[Path]:
    places = [checkpoint] if checkpoint == run else [checkpoint, run]
    if name == state.FILE and checkpoint == run:
        places += numbered_folders(run)[-1:]
    return places
