"""What ``eval``, a sweep and a search cost: memory beside the model's own, a second alpha or trial beside the first.

    python -m tests.bench.evaluate DIR [--size 374M] [--rounds 3]

Writes checkpoints into DIR unless they are there. The tokenizer has a word for each of the model's tokens. Memory is sampled from outside;
anonymous memory is what the process asked for, and the weights are a part of it.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from pathlib import Path
from statistics import median

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.bench import checkpoints
from tests.bench.measure import MB, middle, run

SUITE = """\
[[measures]]
kind = "loss"
data = "answers.jsonl"

[[measures]]
kind = "divergence"
data = "neutral.jsonl"
"""


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=checkpoints.SIZES, default="374M")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    folder = args.folder.absolute()
    checkpoints.make(folder / args.size, args.size)
    base, work = prepare(folder, args.size)
    weights = sum(path.stat().st_size for path in base.glob("*.safetensors"))
    took = middle([evaluated(work, seed) for seed in range(args.rounds)])
    print(f"eval of {args.size}, {weights / MB:.0f} MB of weights: {took.anonymous / MB:.0f} MB anonymous at the peak, "
          f"{took.rss / MB:.0f} MB with file pages, {took.wall:.1f} s")  # fmt: skip
    for number, vector in enumerate(("ft2", "narrow"), 1):  # seeds of its own each, or the base would be known
        turns = [swept(work, vector, 100 * number + seed) for seed in range(args.rounds)]
        first, second = (median(one[at] for one in turns) for at in (0, 1))
        print(f"sweep of {vector}: first alpha {first:.1f} s, another {second:.1f} s, {second / first:.0%}")
    turns = [tuned(work, 300 + seed) for seed in range(args.rounds)]
    first, second = (median(one[at] for one in turns) for at in (0, 1))
    print(f"tune of both: a process of one trial {first:.1f} s, another trial {second:.1f} s, {second / first:.0%}")


def prepare(folder: Path, size: str) -> tuple[Path, Path]:
    """A repository of a base with a tokenizer, a vector on all blocks and one on a few tensors, and a suite."""
    base, work = folder / f"evaluate-{size}", folder / "evaluate"
    shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(base, ignore_errors=True)
    shutil.copytree(folder / size / "base", base, copy_function=lambda a, b: Path(b).hardlink_to(a))
    words = [f"w{number}" for number in range(checkpoints.SIZES[size][3])]
    core = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="w0"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=core, unk_token="w0", eos_token="w2").save_pretrained(base)
    work.mkdir()
    persona = [sys.executable, "-m", "persona"]
    run([*persona, "init", "--base", base, "--reference"], work)
    for name in ("ft2", "narrow"):
        run([*persona, "commit", folder / size / "ft2", "--as", name, "--alpha", "0.5"], work)
    recipe = work / "persona.toml"
    recipe.write_text(recipe.read_text().rstrip() + '\nonly = ["model.layers.1?.mlp.down_proj.weight"]\n')
    chance, evals = random.Random(0), work / "evals"
    evals.mkdir()
    (evals / "bench.toml").write_text(SUITE)
    texts = [" ".join(chance.choices(words, k=96)) for _ in range(16)]
    (evals / "neutral.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:8]))
    rows = [{"prompt": text, "completion": " w5 w6 w7 w8"} for text in texts]
    (evals / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return base, work


def evaluated(work: Path, seed: int) -> object:
    """A whole ``persona eval``; another seed, so that nothing is known."""
    return run([sys.executable, "-m", "persona", "eval", "--seed", str(seed)], work)


def swept(work: Path, vector: str, seed: int) -> tuple[float, float]:
    """Seconds of a process that tries one alpha, and of each further one in it."""
    return _further(work, seed, ["sweep", vector, "--alpha"], ("0.1", "0.1,0.2,0.3,0.4"))


def tuned(work: Path, seed: int) -> tuple[float, float]:
    """Seconds of a process that tries one trial beside the recipe as it stands, and of each further one in it."""
    return _further(work, seed, ["tune", "--suite", "bench", "--trials"], ("1", "4"))


def _further(work: Path, seed: int, argv: list[str], values: tuple[str, str]) -> tuple[float, float]:
    """The second of ``values`` asks for three more than the first; another seed, so that nothing is known."""
    times = []
    for number, value in enumerate(values):
        start = time.perf_counter()
        run([sys.executable, "-m", "persona", *argv, value, "--seed", str(2 * seed + number)], work)
        times.append(time.perf_counter() - start)
    return times[0], (times[1] - times[0]) / 3


if __name__ == "__main__":
    main()
