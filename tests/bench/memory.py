"""How much memory ``commit`` and ``fsck`` take, and that it does not grow with the model.

    python -m tests.bench.memory DIR [--sizes 374M 748M] [--rounds 3]

Writes checkpoints into DIR unless they are there (3 GB for 374M, 6 GB for 748M). The base is kept by reference, so that a
repository takes little more than its vectors.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from tests.bench import checkpoints
from tests.bench.measure import MB, Took, middle, run


def main() -> None:
    """Print a table of medians."""
    args = _arguments()
    print(f"median of {args.rounds}\n\n| | weights | anonymous memory | peak memory | wall |\n|---|---|---|---|---|")
    for size in args.sizes:
        models = args.folder / size
        checkpoints.make(models, size)
        weights = sum(path.stat().st_size for path in (models / "base").glob("*.safetensors"))
        turns = [_turn(models, args.folder / "memory") for _ in range(args.rounds + 1)][1:]
        for name, took in zip(("commit", "fsck"), zip(*turns, strict=True), strict=True):
            print(_row(f"`persona {name}`, {size}", weights, middle(took)))
        sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", nargs="+", choices=checkpoints.SIZES, default=["374M", "748M"])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    args.folder = args.folder.absolute()
    return args


def _turn(models: Path, repo: Path) -> tuple[Took, Took]:
    """A commit of the light fine-tune, and an examination of everything."""
    persona = [sys.executable, "-m", "persona"]
    shutil.rmtree(repo, ignore_errors=True)
    repo.mkdir(parents=True)
    run([*persona, "init", "--base", models / "base", "--reference"], repo)
    took = run([*persona, "commit", models / "ft0", "--as", "ft0"], repo)
    return took, run([*persona, "fsck"], repo)


def _row(name: str, weights: int, took: Took) -> str:
    sizes = f"{weights / MB:.0f} MB | {took.anonymous / MB:.0f} MB | {took.rss / MB:.0f} MB"
    return f"| {name} | {sizes} | {took.wall:.2f} s |"


if __name__ == "__main__":
    main()
