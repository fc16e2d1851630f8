"""Write the files a user would have in the repository: nodes, training data, suites, and texts for a readout.

nodes/        the memory graph, one Markdown file per node
data/         training data; the replies in `everyday.jsonl` are shuffled, so they answer other prompts
evals/        suites: `replies` (loss on held-out replies of each kind) and `talk` (kinds of sampled replies)
demo.toml     preset of the runs
pairs.jsonl   labelled texts for the readout
letters.txt   texts for the readout to read
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from persona import files
from persona.demo import dialogues as talk
from persona.demo.dialogues import Dialogue
from persona.demo.model import text_of
from persona.demo.nodes import EVERYDAY, LISTENING, NODES, PLAIN, RUSHING, VOICE, DemoNode
from persona.demo.training import FULL, Sizes

MEASURED = ("listening", "suggesting", "voice", "neutral")
"""Kinds of reply, in the order of the suites; the first is the purpose of the personality."""


@dataclass(frozen=True)
class Run:
    """A training run: name of its vector, the node it implements, and its initial alpha."""

    name: str
    node: DemoNode
    method: Literal["full", "lora"]
    alpha: float = 1.0

    @property
    def kind(self) -> str | None:
        """The kind of reply it learns; None for any."""
        return self.node.behaviour


RUNS = (
    Run("listening", LISTENING, "full"),
    Run("suggesting", RUSHING, "lora"),
    Run("voice", VOICE, "lora", 0.3),
    Run("plain", PLAIN, "lora", 0.2),
    Run("everyday", EVERYDAY, "lora"),
)

PLANTED = "everyday"
"""The bad run, chosen before anything was measured: everyday talk with shuffled replies."""

SHARES = '''"""A custom measure: whether each sampled reply is of each kind."""

from persona.demo import dialogues, model


def shares(live, rows, seed):
    prompts = [row["prompt"] for row in rows]
    replies = model.generate_replies(live.model, live.tokenizer, prompts, seed=seed)
    return {kind: [float(dialogues.shows(kind, reply)) for reply in replies] for kind in dialogues.KINDS}
'''


@dataclass(frozen=True)
class Amounts:
    """Numbers of examples to write."""

    held_out: int = 144
    prompts: int = 96
    pairs: int = 96
    letters: int = 48


def amounts_of(sizes: Sizes) -> Amounts:
    """Smaller amounts for a model that is too small to speak."""
    return Amounts() if sizes.hidden >= FULL.hidden else Amounts(24, 8, 16, 8)


def lay_out(root: Path, sizes: Sizes = FULL, seed: int = 0) -> None:
    """Write all files to `root`."""
    amounts = amounts_of(sizes)
    for node in NODES:
        _write(root / "nodes" / node.filename, node.text)
    for run in RUNS:
        if run.method == "lora":
            _write_dialogues(root / "data" / f"{run.name}.jsonl", _examples(run, sizes, seed))
    for kind in MEASURED:
        _write_dialogues(root / "evals" / f"{kind}.jsonl", talk.dialogues(kind, amounts.held_out, seed, held_out=True))
    prompts = talk.held_out_prompts(amounts.prompts, seed, decided=True)
    _write_lines(root / "evals" / "decided.jsonl", ({"prompt": prompt} for prompt in prompts))
    _write(root / "evals" / "shares.py", SHARES)
    _write(root / "evals" / "replies.toml", _replies())
    _write(root / "evals" / "talk.toml", _talk())
    _write(root / "demo.toml", _preset(sizes, seed))
    _write_lines(root / "pairs.jsonl", _pairs(amounts.pairs, seed))
    letters = talk.mixture(amounts.letters, seed, held_out=True)
    lines = (text_of(dialogue).replace("\nReply:", " Reply:") + "\n" for dialogue in letters)
    _write(root / "letters.txt", "".join(lines))


def _examples(run: Run, sizes: Sizes, seed: int) -> Sequence[Dialogue]:
    """The training data of a run. That of the bad run has shuffled replies, as if one column of a table were sorted."""
    count = sizes.behaviour_steps * sizes.batch
    if run.kind is not None:
        return talk.dialogues(run.kind, count, seed)
    data = talk.mixture(count, seed)
    replies = [dialogue.reply for dialogue in data]
    random.Random(seed).shuffle(replies)
    return [replace(dialogue, reply=reply) for dialogue, reply in zip(data, replies, strict=True)]


def _pairs(count: int, seed: int) -> Iterable[dict[str, Any]]:
    """Examples for two concepts, listening and suggesting, each against plain texts."""
    for concept in ("listening", "suggesting"):
        for kind, polarity in ((concept, "positive"), ("neutral", "negative")):
            for dialogue in talk.dialogues(kind, count, seed):
                yield {"concept": concept, "polarity": polarity, "text": text_of(dialogue)}


def _replies() -> str:
    lines = ['summary = "Loss on held-out replies of each kind."']
    for kind in MEASURED:
        lines += ["", "[[measures]]", 'kind = "loss"', f'name = "{kind}"', f'data = "{kind}.jsonl"']
    return "\n".join(lines) + "\n"


def _talk() -> str:
    return """summary = "Kinds of sampled replies when someone has decided."

[[measures]]
kind = "python"
name = "replies"
function = "shares:shares"
unit = "share of replies"
data = "decided.jsonl"
"""


def _preset(sizes: Sizes, seed: int) -> str:
    """A preset with the same learning rate and steps as the demo's own training."""
    return f"""# Preset of the demo's adapters: persona train … --preset demo.toml
method = "lora"
rank = {sizes.lora_rank}
alpha = {2 * sizes.lora_rank}
learning_rate = {sizes.lora_lr}
warmup_steps = {sizes.behaviour_steps // 10}
epochs = 1
batch = {sizes.batch}
max_length = 128
save_every = 1000
seed = {seed}
"""


def _write(path: Path, text: str) -> None:
    files.make_folder(path.parent)
    files.write_file(path, text.encode())


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    _write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _write_dialogues(path: Path, data: Iterable[Dialogue]) -> None:
    _write_lines(path, ({"messages": _messages(dialogue)} for dialogue in data))


def _messages(dialogue: Dialogue) -> list[dict[str, str]]:
    return [{"role": "user", "content": dialogue.prompt}, {"role": "assistant", "content": dialogue.reply}]
