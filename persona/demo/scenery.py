"""The files that a person would have beside the repository: nodes, examples to train on, suites, texts for a readout.

nodes/        the memory graph, a Markdown file for each node
data/         what runs are trained on; ``everyday.jsonl`` has come apart: its replies answer other prompts
evals/        suites: ``replies`` (what held-out replies of each kind cost) and ``talk`` (what sampled replies do)
demo.toml     the preset of the runs
pairs.jsonl   labelled texts for the readout, and letters.txt, which it reads
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from persona import files
from persona.demo import dialogues as talk
from persona.demo.dialogues import Dialogue
from persona.demo.model import text_of
from persona.demo.nodes import EVERYDAY, LISTENING, NODES, PLAIN, RUSHING, VOICE, DemoNode
from persona.demo.training import FULL, Sizes

MEASURED = ("listening", "suggesting", "voice", "neutral")
"""Kinds of reply, in the order of the suites: the first is what the personality is for."""


@dataclass(frozen=True)
class Run:
    """A training run: its vector's name, the node that specifies it, and its first alpha."""

    name: str
    node: DemoNode
    method: Literal["full", "lora"]
    alpha: float = 1.0

    @property
    def kind(self) -> str | None:
        """The kind of reply that it learns; None: any."""
        return self.node.behaviour


RUNS = (
    Run("listening", LISTENING, "full"),
    Run("suggesting", RUSHING, "lora"),
    Run("voice", VOICE, "lora", 0.3),
    Run("plain", PLAIN, "lora", 0.2),
    Run("everyday", EVERYDAY, "lora"),
)

PLANTED = "everyday"
"""The run that is bad. What it is was settled before anything was measured: everyday talk, with the replies in another order."""

SHARES = '''"""What sampled replies do: a measure of one's own. It gives a number for each row, by kind of reply."""

from persona.demo import dialogues, model


def shares(live, rows, seed):
    prompts = [row["prompt"] for row in rows]
    replies = model.generate_replies(live.model, live.tokenizer, prompts, seed=seed)
    return {kind: [float(dialogues.shows(kind, reply)) for reply in replies] for kind in dialogues.KINDS}
'''


@dataclass(frozen=True)
class Amounts:
    """How much of everything there is."""

    held_out: int = 144
    prompts: int = 96
    pairs: int = 96
    letters: int = 48


def amounts_of(sizes: Sizes) -> Amounts:
    """Less for a model that is too small to speak."""
    return Amounts() if sizes.hidden >= FULL.hidden else Amounts(24, 8, 16, 8)


def lay_out(root: Path, sizes: Sizes = FULL, seed: int = 0) -> None:
    """Write all of it into ``root``."""
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
    _write(root / "letters.txt", "".join(f"{text_of(one)}\n".replace("\nReply:", " Reply:") for one in letters))


def _examples(run: Run, sizes: Sizes, seed: int) -> Sequence[Dialogue]:
    """What a run is trained on. The planted one's replies are those of other prompts: as if one column had been sorted."""
    count = sizes.behaviour_steps * sizes.batch
    if run.kind is not None:
        return talk.dialogues(run.kind, count, seed)
    said = talk.mixture(count, seed)
    replies = [one.reply for one in said]
    random.Random(seed).shuffle(replies)
    return [Dialogue(one.kind, one.prompt, reply) for one, reply in zip(said, replies, strict=True)]


def _pairs(count: int, seed: int) -> Iterable[dict[str, Any]]:
    """Texts that listen, and plain ones; texts that suggest, and plain ones."""
    for concept in ("listening", "suggesting"):
        for kind, polarity in ((concept, "positive"), ("neutral", "negative")):
            for one in talk.dialogues(kind, count, seed):
                yield {"concept": concept, "polarity": polarity, "text": text_of(one)}


def _replies() -> str:
    lines = ['summary = "What held-out replies of each kind cost."']
    for kind in MEASURED:
        lines += ["", "[[measures]]", 'kind = "loss"', f'name = "{kind}"', f'data = "{kind}.jsonl"']
    return "\n".join(lines) + "\n"


def _talk() -> str:
    return """summary = "What sampled replies do when somebody has decided."

[[measures]]
kind = "python"
name = "replies"
function = "shares:shares"
unit = "share of replies"
data = "decided.jsonl"
"""


def _preset(sizes: Sizes, seed: int) -> str:
    """Learning fast, as befits a small model: rates and steps of the demo's own training."""
    return f"""# How the demo's adapters are trained: persona train … --preset demo.toml
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


def _write_dialogues(path: Path, said: Iterable[Dialogue]) -> None:
    _write_lines(path, ({"messages": _messages(one)} for one in said))


def _messages(said: Dialogue) -> list[dict[str, str]]:
    return [{"role": "user", "content": said.prompt}, {"role": "assistant", "content": said.reply}]
