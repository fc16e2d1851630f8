"""How many texts have a concept, and how many have it not, by the score that counts as having it.

    python examples/compare_thresholds.py examples/journal warmth 6 7 8 9

The first argument is a folder of nodes, a JSONL file, or the URL of an MCP server. Nothing is written. Below each line
stand the texts that are there only because the line before asked for a higher score: read them, and decide.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import persona


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare scores that count as having a concept.")
    parser.add_argument("source", help="a folder of Markdown nodes, a JSONL file, or the URL of an MCP server")
    parser.add_argument("concept")
    parser.add_argument("scores", nargs="+", type=float, help="such as 7 8 9")
    args = parser.parse_args()
    known: set[str] = set()
    for score in sorted(args.scores, reverse=True):
        try:
            examples = labelled(args.source, args.concept, score)
        except persona.PersonaError as error:
            sys.exit(f"{error.message}\n{error.hint}")
        positive = {one.text for one in examples if one.positive}
        print(f"{args.concept} ≥ {score:g}: {len(positive)} positive, {len(examples) - len(positive)} negative")
        for text in sorted(positive - known) if known else ():
            print(f"  {' '.join(text.split())[:76]}")
        known |= positive


def labelled(source: str, concept: str, score: float) -> tuple[persona.readout.Example, ...]:
    """The examples of one concept."""
    rules = persona.readout.Rules(min_positive_score=score, min_examples=1)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "pairs.jsonl"
        persona.readout_pairs(source, out, concepts=[concept], rules=rules)
        return persona.readout.read_pairs(out)


if __name__ == "__main__":
    main()
