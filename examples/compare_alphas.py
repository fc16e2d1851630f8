"""Build a recipe with several alphas of one vector, and see what each does.

    python examples/compare_alphas.py suggesting -1 -0.5 0 0.5 1
    python examples/compare_alphas.py voice 0.4 0.6 0.8 --text chat.txt code.txt

For each alpha it prints the loss on every text (nats per token, lower is more like it), and how far the logits are
from those with alpha 0 (root mean square). A text is a file with an example on each line; what stands before a tab is
the prompt, and only what follows it counts. Without a file they are held-out dialogues of the tutorial's model.
The recipe and the branch are left as they were.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

import persona

Texts = dict[str, list[tuple[str, str]]]  # kind → (prompt, what a model should say)


def main() -> None:
    parser = argparse.ArgumentParser(description="Build several alphas and compare them.")
    parser.add_argument("name", help="what the recipe calls the vector")
    parser.add_argument("alphas", type=float, nargs="+", metavar="ALPHA")
    parser.add_argument("--repo", default=".", help="the repository; the one we are in otherwise")
    parser.add_argument("--text", type=Path, nargs="+", default=[], help="files with an example on each line")
    args = parser.parse_args()
    logging.disable_progress_bar()
    texts = {path.stem: read_text(path) for path in args.text} or demo_texts()
    try:
        compare(persona.open(args.repo), args.name, args.alphas, texts)
    except persona.PersonaError as error:
        sys.exit(f"{error.message}\n{error.hint}")


def compare(repo: persona.Repository, name: str, alphas: list[float], texts: Texts) -> None:
    print(f"{'α of ' + name:>20}", *(f"{kind:>12}" for kind in texts), f"{'from α 0':>12}")
    origin: list[torch.Tensor] = []
    for alpha, folder in builds(repo, name, [0.0, *alphas]):
        losses, logits = measure(folder, texts)
        if not origin:
            origin = logits
            continue  # the first alpha is 0, for comparison only
        apart = torch.cat([(a - b).flatten() for a, b in zip(logits, origin, strict=True)])
        print(f"{alpha:20g}", *(f"{loss:12.3f}" for loss in losses), f"{apart.square().mean().sqrt():12.3f}")


def builds(repo: persona.Repository, name: str, alphas: list[float]) -> Iterator[tuple[float, Path]]:
    """A build for each alpha. The commits are made on a detached HEAD, so that no branch sees them."""
    now = persona.status(repo)
    persona.checkout(repo, now.commit)
    try:
        for alpha in alphas:
            current = {one.name: one.alpha for one in persona.vectors(repo)}.get(name)
            if alpha != current:
                persona.alpha(repo, {name: alpha}, author="compare_alphas")
            with tempfile.TemporaryDirectory() as folder:
                yield alpha, persona.build(repo, Path(folder, "build")).folder
    finally:
        persona.checkout(repo, now.branch or now.commit)


@torch.inference_mode()
def measure(folder: Path, texts: Texts) -> tuple[list[float], list[torch.Tensor]]:
    """Mean loss per token on each kind of text, and the logits of the first texts of each."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    losses: list[float] = []
    logits: list[torch.Tensor] = []
    for pairs in texts.values():
        total = count = 0.0
        for number, (prompt, answer) in enumerate(pairs):
            asked = tokenizer(prompt)["input_ids"]
            said = tokenizer(answer, add_special_tokens=not prompt)["input_ids"]
            labels = [-100] * max(len(asked), 1) + said[not asked :]  # the very first token cannot be predicted
            out = model(input_ids=torch.tensor([asked + said]), labels=torch.tensor([labels]))
            tokens = len(labels) - labels.count(-100)
            total, count = total + float(out.loss) * tokens, count + tokens
            if number < 8:
                logits.append(out.logits)
        losses.append(total / count)
    return losses, logits


def read_text(path: Path) -> list[tuple[str, str]]:
    parts = [line.rpartition("\t") for line in path.read_text().splitlines() if line]
    return [(prompt, answer) for prompt, _, answer in parts]


def demo_texts(count: int = 48) -> Texts:
    """Dialogues of the four kinds that no run of the tutorial has seen."""
    from persona.demo.dialogues import KINDS, dialogues

    said = {kind: dialogues(kind, count, held_out=True) for kind in KINDS}
    return {kind: [(f"<s>User: {one.prompt}\nReply:", f" {one.reply}</s>") for one in said[kind]] for kind in KINDS}


if __name__ == "__main__":
    main()
