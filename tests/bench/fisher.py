"""Fisher-weighted merging against the plain mean: how much of two behaviours a merge keeps.

python -m tests.bench.fisher [SEEDS] [lora|full]

The demo's small base learns two kinds of reply, each as a vector of its own (``persona train``), and each vector gets its
Fisher diagonal from what it was trained on (``persona fisher``). Merges are measured on held-out replies of both kinds, in
nats per token below the base: higher is better. How much each vector counts, and λ, move every mean a long way, and
normalising F is one more way to choose them. So each way is measured on the same grid of both, and stands there twice: with
even shares and λ = 1, and at the point of the grid that is best for it, seed by seed.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

import persona
from persona.demo.training import train_base
from persona.recipe.model import Recipe
from persona.training.examples import read_examples
from persona.training.problems import prepare
from persona.training.run import loss_of
from persona.training.settings import Settings
from persona.workspace.record import worktree_recipe
from persona.workspace.workbench import Workbench
from tests.bench.ewc import NEW, OLD, RATE, SIZES, T95, interval, write

KINDS = (NEW, OLD)
HELD_OUT = 150
SHARES = (0.35, 0.5, 0.65)
"""Of the first kind."""
SCALES = (1.0, 1.5)
WAYS: dict[str, dict[str, str]] = {
    "mean": {},
    **{f"fisher, {how}": {"normalize": how} for how in ("mean", "norm", "none")},
}
METHODS = ("lora", "full")

Gains = tuple[float, float]
"""Of both kinds, in nats per token."""


def merged(recipe: Recipe, names: list[str], parameters: dict[str, str], share: float, scale: float) -> Recipe:
    """Both vectors, with alphas that add up to 1."""
    alphas = dict(zip(names, (share, 1 - share), strict=True))
    vectors = tuple(replace(one, alpha=alphas[one.name]) for one in recipe.vectors if one.name in alphas)
    return Recipe(recipe.base, recipe.base_name, vectors, "fisher" if parameters else "linear", scale, parameters)


def runs(folder: Path, seeds: int, method: str) -> Iterator[tuple[str, int, float, float, Gains]]:
    """Way, seed, share, λ, gains."""
    train_base(folder / "base", SIZES)
    persona.init(folder / "work", folder / "base", author="Bench")
    repo = persona.open(folder / "work")
    held = [write(folder / f"{kind}-held.jsonl", kind, HELD_OUT, 0, held_out=True) for kind in KINDS]
    bench, base = Workbench(repo), Recipe(worktree_recipe(repo).base, "")
    tokenizer = bench.become(base, "base").tokenizer
    rows = [prepare(tokenizer, read_examples(path), Settings(), None).rows for path in held]

    def losses(recipe: Recipe) -> list[float]:
        model = bench.become(recipe, "merge").model
        return [loss_of(model, one, 64, tokenizer.pad_token_id) for one in rows]

    before = losses(base)

    def gains(recipe: Recipe) -> Gains:
        first, second = (was - now for was, now in zip(before, losses(recipe), strict=True))
        return first, second

    rate = RATE if method == "lora" else RATE / 10
    for seed in range(seeds):
        names = [f"{kind}{seed}" for kind in KINDS]
        for kind, name in zip(KINDS, names, strict=True):
            data = write(folder / f"{kind}-{seed}.jsonl", kind, 256, seed, held_out=False)
            changes = {
                "method": method,
                "learning_rate": rate,
                "final_learning_rate": rate / 10,
                "seed": seed,
                "rank": 8,
            }
            persona.train(repo, data, name=name, changes=changes)
            persona.fisher(repo, name, data, seed=seed)
        recipe = worktree_recipe(repo)
        for number, name in enumerate(names):
            alone = tuple(one for one in recipe.vectors if one.name == name)
            yield f"{KINDS[number]} alone", seed, 0.5, 1.0, gains(Recipe(recipe.base, "", alone))
        yield "sum", seed, 0.5, 1.0, gains(merged(recipe, names, {}, 0.5, 2.0))
        for way, parameters in WAYS.items():
            for share in SHARES:
                for scale in SCALES:
                    yield way, seed, share, scale, gains(merged(recipe, names, parameters, share, scale))


Found = dict[str, dict[int, dict[tuple[float, float], Gains]]]
"""By way, seed, and share and λ."""


def row(label: str, pairs: list[Gains], beside: list[Gains] | None = None) -> None:
    both = [statistics.mean(pair) for pair in pairs]
    cells = [interval([pair[0] for pair in pairs]), interval([pair[1] for pair in pairs]), interval(both)]
    if beside is not None:
        plain = [statistics.mean(pair) for pair in beside]
        cells.append(interval([one - other for one, other in zip(both, plain, strict=True)]))
    print(f"{label:24} " + "   ".join(f"{cell:>15}" for cell in cells), flush=True)


def table(found: Found) -> None:
    def even(way: str) -> list[Gains]:
        return [grid[0.5, 1.0] for grid in found[way].values()]

    def best(way: str) -> list[Gains]:
        return [max(grid.values(), key=statistics.mean) for grid in found[way].values()]

    print(f"{'way':24} {NEW:>15}   {OLD:>15}   {'mean of both':>15}   {'more than the mean':>15}")
    for way in found:
        row(way, even(way), even("mean") if way.startswith("fisher") else None)
    for way in WAYS:
        row(f"{way}, best of grid", best(way), best("mean") if way.startswith("fisher") else None)


def main() -> None:
    torch.set_num_threads(1)
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    assert seeds in T95, "from 2 to 10 seeds"
    for method in sys.argv[2:] or METHODS:
        found: Found = {}
        with tempfile.TemporaryDirectory() as folder:
            for way, seed, share, scale, gains in runs(Path(folder), seeds, method):
                found.setdefault(way, {}).setdefault(seed, {})[share, scale] = gains
                print(json.dumps([method, way, seed, share, scale, gains]), file=sys.stderr, flush=True)
        print(f"{method}, {seeds} seeds; means with 95 % intervals (t); nats per token below the base")
        table(found)


if __name__ == "__main__":
    main()
