"""Whose an example is: rows of a file that teaches several nodes carry ``"node": "id"``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from persona.ids import object_digest
from persona.store.objects import canonical
from persona.training.examples import TrainingExample

NAMED = 5
"""Nodes, and places, that a sentence names."""


def own(examples: Sequence[TrainingExample], node: str, *, several: bool) -> list[TrainingExample]:
    """Those of a node. One that says no node is this one's, unless there are ``several`` whose it could be."""
    return [one for one in examples if one.node == node or (one.node is None and not several)]


def left_out(path: Path, examples: Sequence[TrainingExample], nodes: Sequence[str]) -> str | None:
    """What of a file is none of these nodes', in a sentence; None where all of it is somebody's."""
    others = [one for one in examples if one.node is not None and one.node not in nodes]
    nobodys = [one for one in examples if one.node is None] if len(nodes) > 1 else []
    if not others and not nobodys:
        return None
    counts = Counter(one.node for one in others).most_common()
    named = ", ".join(f"{node}: {count}" for node, count in counts[:NAMED]) + (", …" if len(counts) > NAMED else "")
    parts = [f"{_count(len(others))} of other nodes ({named})"] if others else []
    parts += [f"{_count(len(nobodys))} without a node (line {_lines(nobodys)})"] if nobodys else []
    return f"{path.name}: {' and '.join(parts)} left out"


def _count(number: int) -> str:
    return "1 example" if number == 1 else f"{number} examples"


def _lines(examples: Sequence[TrainingExample]) -> str:
    places = list(dict.fromkeys(one.where.rpartition(":")[2] for one in examples))
    return ", ".join(places[:NAMED]) + (", …" if len(places) > NAMED else "")


def digest(examples: Sequence[TrainingExample]) -> str:
    """Of what is learnt, wherever it stands: another node's rows do not make another run of it."""
    said = [
        [[[m.role, m.content, m.learnt] for m in one.messages], [list(piece) for piece in one.pieces], one.ends]
        for one in examples
    ]
    return object_digest(b"persona examples\n" + canonical(said))
