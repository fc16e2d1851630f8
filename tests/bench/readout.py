"""What capturing activations costs beside the bare forward pass, and how much memory training a readout takes.

    python -m tests.bench.readout DIR [--size 90M] [--rounds 5] [--texts 100 1000 10000] [--threads N]

Writes checkpoints into DIR unless they are there, a tokenizer of whole words, and texts. *Time*: the same batches in turns
A B C A B C …: the bare forward pass, with no hook, and batches made beforehand; the capture with the pass run to its end; the
capture as it is, which stops after the last layer. With --threads 1, processor time says what the work is where other
programs run beside it. *Memory*: ``persona readout train`` as a process of its own, sampled from
outside each 5 ms. The model runs in fp32.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from persona.inference.batches import batches
from persona.inference.blocks import Blocks, find_blocks
from persona.inference.load import LoadedModel, from_folder
from persona.readout.capture import activations, run
from persona.readout.layers import DEFAULT, parse_layers
from persona.readout.pairs import LabelledText, write_pairs
from tests.bench import checkpoints, measure

WORDS = 4000
BATCH = 8


def main() -> None:
    """Print two tables."""
    args = _arguments()
    folder = _model(args.folder, args.size)
    if args.rounds:
        _times(from_folder(folder, args.size, "fp32"), args.rounds)
    if args.texts:
        _memory(folder, args.folder / "readout", args.texts, args.size, args.layers)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=checkpoints.SIZES, default="90M")
    parser.add_argument("--rounds", type=int, default=5, help="0 leaves the time out")
    parser.add_argument("--texts", type=int, nargs="*", default=[100, 1000, 10_000], help="none leaves the memory out")
    parser.add_argument("--layers", default=DEFAULT, help="that readouts are trained at, for the memory")
    parser.add_argument("--threads", type=int, default=0, help="of torch, for the time; as many as cores otherwise")
    args = parser.parse_args()
    args.folder = args.folder.absolute()
    if args.threads:
        torch.set_num_threads(args.threads)
    return args


def _model(folder: Path, size: str) -> Path:
    """The base, with a tokenizer beside it."""
    checkpoints.make(folder / size, size)
    base = folder / "readout" / f"{size}-base"
    if not (base / "tokenizer.json").exists():
        shutil.rmtree(base, ignore_errors=True)
        shutil.copytree(folder / size / "base", base, symlinks=True)
        known = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{number}" for number in range(WORDS - 4))]
        core = Tokenizer(models.WordLevel({word: at for at, word in enumerate(known)}, unk_token="<unk>"))
        core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", unk_token="<unk>").save_pretrained(base)
    return base


def _times(live: LoadedModel, rounds: int) -> None:
    blocks, chance = find_blocks(live.model), random.Random(0)
    tokens = [[chance.randrange(4, WORDS) for _ in range(chance.randint(16, 96))] for _ in range(24)]
    usual, every = parse_layers(DEFAULT, len(blocks)), tuple(range(len(blocks)))
    ways = {
        "bare forward pass": _bare(live, tokens),
        f"capture of {len(usual)} layers ({DEFAULT}), to the end": _capture(live, blocks, usual, tokens, whole=True),
        f"capture of all {len(every)} layers, to the end": _capture(live, blocks, every, tokens, whole=True),
        f"capture of {len(usual)} layers, as it is": _capture(live, blocks, usual, tokens, whole=False),
    }
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, work in ways.items():
            start = time.perf_counter(), time.process_time()
            work()
            took[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    count, threads = sum(map(len, tokens)), torch.get_num_threads()
    print(f"{count:,} tokens of {len(tokens)} texts, batches of {BATCH}, threads: {threads}, median of {rounds}\n")
    print("| | wall | CPU | CPU of the bare pass |\n|---|---|---|---|")
    for name, turns in took.items():
        wall, cpu = (median(turn[which] for turn in turns[1:]) for which in (0, 1))
        ratios = [mine[1] / theirs[1] for mine, theirs in zip(turns[1:], took["bare forward pass"][1:], strict=True)]
        spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if name != "bare forward pass" else ""
        print(f"| {name} | {wall:.2f} s | {cpu:.2f} s | {median(ratios):.2f}{spread} |")
    sys.stdout.flush()


def _bare(live: LoadedModel, tokens: Sequence[Sequence[int]]) -> Callable[[], None]:
    made = list(batches(tokens, BATCH))

    def work() -> None:
        with torch.inference_mode():
            for batch in made:
                run(live.model, batch.tokens, batch.mask)

    return work


def _capture(
    live: LoadedModel, blocks: Blocks, layers: Sequence[int], tokens: Sequence[Sequence[int]], *, whole: bool
) -> Callable[[], None]:
    def work() -> None:
        for _ in activations(live, blocks, layers, tokens, batch_size=BATCH, whole=whole):
            pass

    return work


def _memory(model: Path, folder: Path, counts: Sequence[int], size: str, layers: str) -> None:
    print("\n| model | texts | rows on disk | anonymous memory | peak memory | wall |\n|---|---|---|---|---|---|")
    hidden, _, depth, _ = checkpoints.SIZES[size]
    width = 4 * hidden * len(parse_layers(layers, depth))
    for count in counts:
        chance = random.Random(count)
        texts = [
            " ".join(f"w{chance.randrange(WORDS - 4)}" for _ in range(chance.randint(8, 24))) for _ in range(count)
        ]
        pairs, out = folder / f"{count}.jsonl", folder / f"{count}"
        write_pairs(pairs, (LabelledText("any", row % 2 == 0, text) for row, text in enumerate(texts)))
        shutil.rmtree(out, ignore_errors=True)
        command = [
            "readout",
            "train",
            "--model",
            model,
            "--pairs",
            pairs,
            "-o",
            out,
            "--dtype",
            "fp32",
            "--layers",
            layers,
        ]
        took = measure.run([sys.executable, "-m", "persona", *command])
        sizes = f"{width * count / measure.MB:.1f} MB | {took.anonymous / measure.MB:.0f} MB | {took.rss / measure.MB:.0f} MB"
        print(f"| {size} | {count:,} | {sizes} | {took.wall:.0f} s |")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
