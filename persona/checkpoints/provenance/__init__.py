"""Facts about a training run from the files next to its weights. One module per file.

    state       ``trainer_state.json``: progress, best metric, loss curves
    adapter     ``adapter_config.json``: PEFT settings
    arguments   ``training_args.bin``: hyperparameters, read from the pickle without running it
    card        ``README.md``: front matter and the versions that it lists
    config      ``config.json``: the version of transformers

The files are untrusted, so everything read is bounded, and an invalid file is skipped with a note: missing facts must
never keep a run's weights from being recorded.
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
    """The facts about a run by topic, and notes about files that could not be read.

    Args:
        run: The run's output folder, searched for files that are not in ``checkpoint``.
        checkpoint: The folder with the weights: ``run`` itself, or a ``checkpoint-N`` in it.
    """
    facts: dict[str, Any] = {}
    notes = []
    for name, read in SOURCES:
        try:
            data = next((data for place in _places(run, checkpoint, name) if (data := small_file(place, name))), None)
            topics = read(data) if data is not None else {}
        except Unreadable as why:
            notes.append(f"{name} {why}; ignored")
            continue
        for topic, value in topics.items():
            facts[topic] = {**value, **facts.get(topic, {})}
    return facts, notes


def _places(run: Path, checkpoint: Path, name: str) -> list[Path]:
    places = [checkpoint] if checkpoint == run else [checkpoint, run]
    if name == state.FILE and checkpoint == run:  # a Trainer writes its state only into the checkpoints
        places += numbered_folders(run)[-1:]
    return places
