"""Write the files of the real model's repository: nodes, training data, suites, a preset, and texts for a readout.

nodes/        the memory graph, one Markdown file per node
data/         training data, one file per run, and `others-….jsonl`: prompts of the other behaviours, to be answered as the base does
evals/        suites: `said` (loss on held-out replies of each kind, and on plain answers), `kinds` (share of replies that are of
              the kind that their prompt asks for) and `habit` (the same, of the habit to remove)
demo.toml     preset of the runs
pairs.jsonl   labelled texts for the readout
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from persona import files
from persona.demo.dialogues import Dialogue
from persona.demo.nodes import DemoNode
from persona.demo.real import talk
from persona.demo.real.nodes import LISTENING, NODES, NOT_WRAPPING_UP, RUSHING, SUPPORT, VOICE
from persona.demo.real.plain import ADVICE, PLAIN
from persona.demo.real.speaking import TOKENS
from persona.recipe.statements import toml_text

KEPT = ("listening", "not_wrapping_up", "voice")
"""The behaviours of the personality."""


@dataclass(frozen=True)
class RealRun:
    """A training run: name of its vector, its node, and the half of the topics that it learns, None for all."""

    name: str
    node: DemoNode
    half: int | None = None

    @property
    def kind(self) -> str:
        """The kind of reply that it learns."""
        return str(self.node.behaviour)


BAD, NEGATED = "support", "suggesting"
"""A run that brings a habit, and one of the same habit, from other examples, to take it away."""

RUNS = (
    RealRun("listening", LISTENING),
    RealRun("not_wrapping_up", NOT_WRAPPING_UP),
    RealRun("voice", VOICE),
    RealRun(BAD, SUPPORT, 0),
    RealRun(NEGATED, RUSHING, 1),
)


@dataclass(frozen=True)
class RealSizes:
    """Sizes of the training and of the suites."""

    steps: int = 36
    batch: int = 4
    rank: int = 8
    learning_rate: float = 1e-3
    rows: int = 220
    held_out: int = 16
    prompts: int = 10
    pairs: int = 32


FULL = RealSizes()
QUICK = RealSizes(steps=8, rows=32, learning_rate=2e-3, held_out=6, prompts=2, pairs=8)


def lay_out(root: Path, sizes: RealSizes, seed: int, dtype: str) -> None:
    """Write all files to `root`."""
    for node in NODES:
        _write(root / "nodes" / node.filename, node.text)
    for run in RUNS:
        rows = talk.dialogues(run.kind, sizes.rows, seed, half=run.half)
        _write_rows(root / "data" / f"{run.name}.jsonl", map(_row, rows))
        _write_rows(root / "data" / f"others-{run.name}.jsonl", _others(run, seed))
    for kind in talk.BEHAVIOURS:
        rows = talk.dialogues(kind, sizes.held_out, seed, held_out=True)
        _write_rows(root / "evals" / f"{kind}.jsonl", map(_row, rows))
        asked = ({"messages": [_said_by_user(prompt)]} for prompt in talk.prompts(kind, sizes.prompts, seed))
        _write_rows(root / "evals" / f"asked-{kind}.jsonl", asked)
    _write_rows(root / "evals" / "plain.jsonl", (_row(Dialogue("plain", *both)) for both in PLAIN[: sizes.held_out]))
    _write(root / "evals" / "said.toml", _said())
    _write(
        root / "evals" / "kinds.toml",
        _asked("Share of replies of the kind that their prompt asks for.", KEPT, "higher"),
    )
    _write(root / "evals" / "habit.toml", _asked("Share of replies with the habit.", (NEGATED,), "lower"))
    _write(root / "demo.toml", _preset(sizes, dtype))
    _write_rows(root / "pairs.jsonl", _pairs(sizes.pairs, seed))


def _pairs(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Near-identical texts for one concept: the same prompt, answered by listening and by advice."""
    for number, dialogue in enumerate(talk.dialogues("listening", count, seed)):
        for polarity, reply in (("positive", dialogue.reply), ("negative", ADVICE[number % len(ADVICE)])):
            yield {"concept": "listening", "polarity": polarity, "text": f"{dialogue.prompt}\n{reply}"}


def _said() -> str:
    lines = ['summary = "Loss on held-out replies of each kind, and on plain answers to plain questions."']
    for kind in (*talk.BEHAVIOURS, "plain"):
        lines += ["", "[[measures]]", 'kind = "loss"', f'name = "{kind}"', f'data = "{kind}.jsonl"']
    return "\n".join(lines) + "\n"


def _asked(summary: str, kinds: Iterable[str], better: str) -> str:
    lines = [f'summary = "{summary}"']
    for kind in kinds:
        rule = {key: value for key, value in asdict(talk.BEHAVIOURS[kind].rule).items() if value}
        lines += ["", "[[measures]]", 'kind = "replies"', f'name = "{kind}"', f'data = "asked-{kind}.jsonl"']
        lines += [
            f'better = "{better}"',
            f"tokens = {TOKENS}",
            *(f"{key} = {toml_text(value)}" for key, value in rule.items()),
        ]
    return "\n".join(lines) + "\n"


def _preset(sizes: RealSizes, dtype: str) -> str:
    return f"""# Preset of the demo's runs: persona train … --preset demo.toml
method = "lora"
rank = {sizes.rank}
alpha = {2 * sizes.rank}
learning_rate = {sizes.learning_rate}
warmup_steps = {sizes.steps // 9}
max_steps = {sizes.steps}
batch = {sizes.batch}
max_length = 160
save_every = 1000
anchor_share = 0.5
dtype = "{dtype}"
"""


OTHERS = 12
"""Prompts of each other behaviour that a run learns to answer as the base does."""


def _others(run: RealRun, seed: int) -> Iterator[dict[str, Any]]:
    for kind in talk.BEHAVIOURS:
        if kind != run.kind:
            rows = talk.dialogues(kind, OTHERS, seed + 1)
            yield from ({"messages": [_said_by_user(row.prompt)]} for row in rows)


def _said_by_user(prompt: str) -> dict[str, str]:
    return {"role": "user", "content": prompt}


def _row(dialogue: Dialogue) -> dict[str, Any]:
    return {"messages": [_said_by_user(dialogue.prompt), {"role": "assistant", "content": dialogue.reply}]}


def _write(path: Path, text: str) -> None:
    files.make_folder(path.parent)
    files.write_file(path, text.encode())


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    _write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
