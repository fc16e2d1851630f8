"""How the cost of a build grows: with the number of vectors, and with the number of parameters.

    python -m tests.bench.growth DIR [--rounds 3] [--vectors 1 2 4 8 16] [--sizes 90M 374M 1.5G] [--plot FILE.svg]

Writes checkpoints into DIR unless they are there (for the defaults some 33 GB, and 4 GB more in repositories).
Prints two tables; a build in each method takes a row. Wall times are medians; memory is anonymous, at its peak.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench import checkpoints
from tests.bench.measure import MB, Took, middle, run

METHODS = ("linear", "ties")
ENTRIES = {"90M": 90e6, "374M": 374e6, "1.5G": 1.46e9}
Point = tuple[float, Took]


def main() -> None:
    """Both tables, and the picture."""
    args = _arguments()
    vectors: dict[str, list[Point]] = {m: [] for m in METHODS}
    sizes: dict[str, list[Point]] = {m: [] for m in METHODS}
    for method, points in _by_vectors(args):
        vectors[method] = points
    print(
        "\n**by vectors**, 374M parameters\n\n| vectors | method | wall | CPU | anonymous memory |\n|---|---|---|---|---|"
    )
    _rows(vectors)
    for method, points in _by_size(args):
        sizes[method] = points
    print(
        "\n**by parameters**, three vectors\n\n| parameters (M) | method | wall | CPU | anonymous memory |\n|---|---|---|---|---|"
    )
    _rows({method: [(x / 1e6, took) for x, took in points] for method, points in sizes.items()})
    if args.plot:
        _plot(args.plot, vectors, sizes)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vectors", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--sizes", nargs="*", choices=checkpoints.SIZES, default=["90M", "374M", "1.5G"])
    parser.add_argument("--plot", type=Path, help="where the picture goes (needs matplotlib)")
    args = parser.parse_args()
    args.folder = args.folder.absolute()
    return args


def _rows(points: dict[str, list[Point]]) -> None:
    for method, found in points.items():
        for x, took in found:
            print(f"| {x:.0f} | {method} | {took.wall:.2f} s | {took.cpu:.2f} s | {took.anonymous / MB:.0f} MB |")
    sys.stdout.flush()


def _by_vectors(args: argparse.Namespace) -> list[tuple[str, list[Point]]]:
    size = "374M" if "374M" in args.sizes else args.sizes[0]
    if not args.vectors:
        return []
    checkpoints.make(args.folder / size, size)
    checkpoints.more(args.folder / size, size, max(args.vectors))
    found: dict[str, list[Point]] = {method: [] for method in METHODS}
    for count in args.vectors:
        repo = _repository(args.folder, size, count)
        for method in METHODS:
            found[method].append((count, _built(repo, method, args.rounds)))
    return list(found.items())


def _by_size(args: argparse.Namespace) -> list[tuple[str, list[Point]]]:
    found: dict[str, list[Point]] = {method: [] for method in METHODS}
    for size in args.sizes:
        checkpoints.make(args.folder / size, size)
        repo = _repository(args.folder, size, 3)
        for method in METHODS:
            found[method].append((ENTRIES[size], _built(repo, method, args.rounds)))
        shutil.rmtree(repo)
    return list(found.items())


def _repository(folder: Path, size: str, count: int) -> Path:
    """A repository with the first ``count`` fine-tunes, each at 1/count."""
    repo = folder / f"growth-{size}"
    shutil.rmtree(repo, ignore_errors=True)
    repo.mkdir()
    run([*_persona(), "init", "--base", folder / size / "base"], repo)
    for number in range(count):
        name = f"ft{number}"
        run([*_persona(), "commit", folder / size / name, "--as", name, "--alpha", f"{1 / count:.4f}"], repo)
    return repo


def _persona() -> Sequence[str]:
    return sys.executable, "-m", "persona"


def _built(repo: Path, method: str, rounds: int) -> Took:
    """The median of ``rounds`` builds, after one that is not counted."""
    recipe = repo / "persona.toml"
    text = recipe.read_text().split("\n[merge]")[0]
    recipe.write_text(f'{text}\n[merge]\nmethod = "{method}"\n')
    took = []
    for _ in range(rounds + 1):
        shutil.rmtree(repo / "out", ignore_errors=True)
        took.append(run([*_persona(), "build", "-o", repo / "out"], repo))
    shutil.rmtree(repo / "out")
    recipe.write_text(text)
    return middle(took[1:])


def _plot(path: Path, vectors: dict[str, list[Point]], sizes: dict[str, list[Point]]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "persona"
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axes, points, label in (
        (left, vectors, "vectors (374 M parameters)"),
        (right, sizes, "parameters (3 vectors)"),
    ):
        for method, found in points.items():
            axes.plot([x for x, _ in found], [took.wall for _, took in found], marker="o", label=method)
        axes.set(xlabel=label, ylabel="wall time, s", ylim=(0, None), xlim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
