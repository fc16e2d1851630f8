"""Labelled texts: what a readout is trained on, one JSON object a line.

    {"concept": "warmth", "polarity": "positive", "text": "…", "node": "on-listening", "pair": 3}

``node`` says where the text came from, ``pair`` ties a positive to the negative that differs from it only in the
concept; both may be missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona import files
from persona.errors import UsageError
from persona.jsonlines import lines_of, object_in, read_text

POLARITIES = ("positive", "negative")


@dataclass(frozen=True)
class LabelledText:
    """One text that has a concept (``positive``) or has it not."""

    concept: str
    positive: bool
    text: str
    node: str | None = None
    pair: int | None = None

    def encode(self) -> str:
        """As a line of JSON, without its end."""
        fields: dict[str, Any] = {"concept": self.concept, "polarity": POLARITIES[not self.positive], "text": self.text}
        if self.node is not None:
            fields["node"] = self.node
        if self.pair is not None:
            fields["pair"] = self.pair
        return json.dumps(fields, ensure_ascii=False)


def encode(examples: Iterable[LabelledText]) -> bytes:
    """A file of pairs, byte for byte the same for the same examples."""
    return "".join(f"{one.encode()}\n" for one in examples).encode()


def write_pairs(path: Path | str, examples: Iterable[LabelledText]) -> None:
    """Write the file whole or not at all."""
    files.write_file(Path(path), encode(examples))


def is_text(value: str) -> bool:
    """Whether it can be written: JSON can say halves of characters (lone surrogates), which UTF-8 cannot."""
    return not any("\ud800" <= sign <= "\udfff" for sign in value)


def read_pairs(path: Path | str) -> tuple[LabelledText, ...]:
    """Read a file of pairs; an error names the line."""
    path = Path(path)
    return tuple(_example(where, line) for where, line in lines_of(path, read_text(path)))


def _example(where: str, line: str) -> LabelledText:
    fields = object_in(where, line, 'Write {"concept": …, "polarity": "positive", "text": …}.')
    concept, polarity, text = (fields.get(key) for key in ("concept", "polarity", "text"))
    if not isinstance(concept, str) or not concept.strip() or not isinstance(text, str):
        raise UsageError(f"{where}: 'concept' and 'text' must be texts", "Make the file with 'persona readout pairs'.")
    if not is_text(concept + text):
        raise UsageError(f"{where}: a text has half of a character", "Make the file with 'persona readout pairs'.")
    if polarity not in POLARITIES:
        raise UsageError(f"{where}: 'polarity' is {polarity!r}", "It is 'positive' or 'negative'.")
    node, pair = fields.get("node"), fields.get("pair")
    if not (node is None or isinstance(node, str)) or not (pair is None or type(pair) is int):
        raise UsageError(f"{where}: 'node' is a name and 'pair' a number, where they are there", "Leave them out.")
    return LabelledText(concept.strip(), polarity == "positive", text, node, pair)
