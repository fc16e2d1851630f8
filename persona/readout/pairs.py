"""Read and write labelled texts, which readouts are trained on: one JSON object per line.

    {"concept": "warmth", "polarity": "positive", "text": "…", "node": "on-listening", "pair": 3}

`node` is the source of the text; `pair` links a positive to the negative that differs only in the concept. Both are
optional.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona import files
from persona.errors import UsageError
from persona.jsonlines import objects_in, read_text, refuse_tables

POLARITIES = ("positive", "negative")


@dataclass(frozen=True)
class LabelledText:
    """A text that has a concept (`positive`) or does not."""

    concept: str
    positive: bool
    text: str
    node: str | None = None
    pair: int | None = None

    def encode(self) -> str:
        """Encode as a line of JSON, without the newline."""
        fields: dict[str, Any] = {"concept": self.concept, "polarity": POLARITIES[not self.positive], "text": self.text}
        if self.node is not None:
            fields["node"] = self.node
        if self.pair is not None:
            fields["pair"] = self.pair
        return json.dumps(fields, ensure_ascii=False)


def encode(examples: Iterable[LabelledText]) -> bytes:
    """Encode a file of pairs; the same examples always give the same bytes."""
    return "".join(f"{example.encode()}\n" for example in examples).encode()


def write_pairs(path: Path | str, examples: Iterable[LabelledText]) -> None:
    """Write a file of pairs, atomically."""
    files.write_file(Path(path), encode(examples))


def read_pairs(path: Path | str) -> tuple[LabelledText, ...]:
    """Read a file of pairs.

    Raises:
        UsageError: a line is malformed; the message names it.
    """
    path = Path(path)
    refuse_tables(path)
    form = 'Write {"concept": …, "polarity": "positive", "text": …}.'
    return tuple(_example(where, fields) for where, fields in objects_in(path, read_text(path), form))


def _example(where: str, fields: dict[str, Any]) -> LabelledText:
    concept, polarity, text = (fields.get(key) for key in ("concept", "polarity", "text"))
    if not isinstance(concept, str) or not concept.strip() or not isinstance(text, str):
        raise UsageError(
            f"{where}: 'concept' and 'text' must be strings", "Make the file with 'persona readout pairs'."
        )
    if polarity not in POLARITIES:
        raise UsageError(f"{where}: 'polarity' is {polarity!r}", "Use 'positive' or 'negative'.")
    node, pair = fields.get("node"), fields.get("pair")
    if not (node is None or isinstance(node, str)) or not (pair is None or type(pair) is int):
        raise UsageError(f"{where}: 'node' must be a string and 'pair' an integer", "Fix them, or leave them out.")
    return LabelledText(concept.strip(), polarity == "positive", text, node, pair)
