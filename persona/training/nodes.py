"""Assign examples to memory-graph nodes, which they name with `"node": "id"`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from persona.ids import object_digest
from persona.store.objects import canonical
from persona.training.examples import TrainingExample

NAMED = 5
"""Maximum number of nodes or lines in a message."""


def own(examples: Sequence[TrainingExample], node: str, *, several: bool) -> list[TrainingExample]:
    """The examples of a node, and unless `several` nodes are trained, those that name no node."""
    return [example for example in examples if example.node == node or (example.node is None and not several)]


def left_out(path: Path, examples: Sequence[TrainingExample], nodes: Sequence[str]) -> str | None:
    """Describe the examples of a file that belong to none of `nodes`; None if there are none."""
    others = [example for example in examples if example.node is not None and example.node not in nodes]
    unnamed = [example for example in examples if example.node is None] if len(nodes) > 1 else []
    if not others and not unnamed:
        return None
    counts = Counter(example.node for example in others).most_common()
    named = ", ".join(f"{node}: {count}" for node, count in counts[:NAMED]) + (", …" if len(counts) > NAMED else "")
    parts = [f"{_count(len(others))} of other nodes ({named})"] if others else []
    parts += [f"{_count(len(unnamed))} without a node (line {_lines(unnamed)})"] if unnamed else []
    return f"{path.name}: {' and '.join(parts)} left out"


def _count(number: int) -> str:
    return "1 example" if number == 1 else f"{number} examples"


def _lines(examples: Sequence[TrainingExample]) -> str:
    places = list(dict.fromkeys(example.where.rpartition(":")[2] for example in examples))
    return ", ".join(places[:NAMED]) + (", …" if len(places) > NAMED else "")


def digest(examples: Sequence[TrainingExample]) -> str:
    """Digest of some examples, independent of the other examples in their file."""
    contents = [
        [
            [[m.role, m.content, m.learnt, *_more(m.more)] for m in example.messages],
            list(map(list, example.pieces)),
            example.ends,
            *_more(example.tools),
        ]
        for example in examples
    ]
    return object_digest(b"persona examples\n" + canonical(contents))


def _more(value: object) -> list[str]:
    """What not every example has, as JSON."""
    return [json.dumps(value, sort_keys=True)] if value else []
