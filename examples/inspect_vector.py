"""Where a task vector lives: how far each layer moved, and how many of its entries did.

    python examples/inspect_vector.py listening

Run it in a repository. The norms are of τ as the run made it; the recipe's alpha is not applied.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections import defaultdict

import persona


def main() -> None:
    parser = argparse.ArgumentParser(description="Where a task vector lives.")
    parser.add_argument("name", help="what the recipe calls the vector")
    parser.add_argument("--repo", default=".", help="the repository; the one we are in otherwise")
    args = parser.parse_args()
    try:
        tau = persona.vector(persona.open(args.repo), args.name)
        squares, moved, entries = defaultdict(float), defaultdict(int), defaultdict(int)
        for name, delta in tau.items():  # one tensor at a time, in fp32
            part = part_of(name)
            squares[part] += float(delta.double().square().sum())
            moved[part] += int(delta.count_nonzero())
            entries[part] += delta.numel()
    except persona.PersonaError as error:
        sys.exit(f"{error.message}\n{error.hint}")

    total = sum(squares.values())
    print(f"{args.name}: {len(tau)} tensors, ‖τ‖ = {math.sqrt(total):.4f}")
    print(f"{'':34}{'‖τ‖':>10}{'of ‖τ‖²':>10}{'moved':>10}")
    for part in squares:
        share = squares[part] / total if total else 0.0
        print(f"{part:34}{math.sqrt(squares[part]):10.4f}{share:10.1%}{moved[part] / entries[part]:10.1%}")


def part_of(name: str) -> str:
    """The layer and block of a tensor: ``3 mlp``, ``3 self_attn``, or what stands outside the layers."""
    match = re.search(r"(?:layers|h|blocks?)\.(\d+)\.(\w+)", name)
    return f"layer {match[1]} {match[2]}" if match else name.removesuffix(".weight")


if __name__ == "__main__":
    main()
