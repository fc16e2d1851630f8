"""Elastic weight consolidation against plain fine-tuning: what is gained, and what is forgotten.

python -m tests.bench.ewc [SEEDS]

The demo's small base speaks four kinds of reply. It learns one (``listening``) by ``persona train``, and is measured on
held-out replies of that kind and of one that it knew (``suggesting``), in nats per token. Less learning forgets less
whatever is done, so plain runs at lower rates stand beside those with a penalty: what counts is forgetting at like gain.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

import persona
from persona.demo.dialogues import dialogues
from persona.demo.training import QUICK, train_base
from persona.training.examples import read_examples
from persona.training.problems import prepare
from persona.training.run import loss_of
from persona.training.settings import Settings
from persona.workspace.loading import load_model

NEW, OLD = "listening", "suggesting"
RATE = 5e-3
SIZES = QUICK.but(base_steps=200)
WAYS = (
    ("plain", 1.0, 0.0), ("plain", 0.5, 0.0), ("plain", 0.25, 0.0), ("plain", 0.1, 0.0),
    ("ewc", 1.0, 1.0), ("ewc", 1.0, 10.0), ("ewc", 1.0, 100.0), ("ewc", 1.0, 1000.0),
)  # fmt: skip
"""Name, share of the learning rate, λ."""
T95 = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Two-sided 95 % points of Student's t, by the number of seeds."""


def write(path: Path, kind: str, count: int, seed: int, *, held_out: bool) -> Path:
    rows = (
        {"messages": [{"role": "user", "content": one.prompt}, {"role": "assistant", "content": one.reply}]}
        for one in dialogues(kind, count, seed, held_out)
    )
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def measured(repo: persona.Repository, what: str, path: Path) -> float:
    live = load_model(repo, what, repo.root)
    rows = prepare(live.tokenizer, read_examples(path), Settings(), None).rows
    return loss_of(live.model, rows, 64, live.tokenizer.pad_token_id)


def runs(folder: Path, seeds: int) -> Iterator[tuple[tuple[str, float, float], int, float, float]]:
    """Way, seed, gain on the new task, forgetting of the old."""
    train_base(folder / "base", SIZES)
    persona.init(folder / "work", folder / "base", author="Bench")
    repo = persona.open(folder / "work")
    new, old = (write(folder / f"{kind}-held.jsonl", kind, 300, 0, held_out=True) for kind in (NEW, OLD))
    before = measured(repo, "HEAD", new), measured(repo, "HEAD", old)
    print(f"base: {NEW} {before[0]:.3f}, {OLD} {before[1]:.3f}")
    for seed in range(seeds):
        data = write(folder / f"{NEW}-{seed}.jsonl", NEW, 256, seed, held_out=False)
        known = write(folder / f"{OLD}-{seed}.jsonl", OLD, 256, seed, held_out=False)
        for number, (_, share, strength) in enumerate(WAYS):
            rate = share * RATE
            changes = {
                "learning_rate": rate,
                "final_learning_rate": rate / 10,
                "seed": seed,
                "rank": 8,
                "ewc": strength,
            }
            name = f"v{seed}-{number}"
            persona.train(repo, data, name=name, changes=changes, ewc_data=known if strength else None)
            yield WAYS[number], seed, before[0] - measured(repo, name, new), measured(repo, name, old) - before[1]


def interval(values: list[float]) -> str:
    half = T95[len(values)] * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):6.3f} ± {half:.3f}"


def main() -> None:
    torch.set_num_threads(1)
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    found: dict[tuple[str, float, float], list[tuple[float, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for way, _, gain, forgetting in runs(Path(folder), seeds):
            found[way].append((gain, forgetting))
    print(f"{seeds} seeds; means with 95 % intervals (t); nats per token")
    print(f"{'way':6} {'rate':>8} {'λ':>6}   {'gain, new':>15}   {'forgetting, old':>15}   {'forgetting / gain':>17}")
    for (name, share, strength), pairs in found.items():
        gains, losses = [gain for gain, _ in pairs], [lost for _, lost in pairs]
        ratio = interval([lost / gain for gain, lost in pairs])
        print(
            f"{name:6} {share * RATE:8.2g} {strength:6g}   {interval(gains):>15}   {interval(losses):>15}   {ratio:>17}"
        )


if __name__ == "__main__":
    main()
