"""The demo's story: train, commit, negate, build, roll back, and measure what came of it.

It uses the same verbs as a person would. Nothing is printed here: a :class:`Narrator` is told what happens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

import persona
from persona.demo import dialogues as talk
from persona.demo.model import generate_replies, load, reply_losses, save
from persona.demo.nodes import NODES, Node
from persona.demo.training import FULL, Method, OnStep, Sizes, train_base, train_behaviour
from persona.progress import SILENT, Progress
from persona.repository import Repository

HELD_OUT = 144
"""Held-out dialogues of each kind that a loss is measured on."""

PROMPTS = 96
"""Held-out prompts that replies are sampled for."""

METHODS: dict[str, Method] = {"listening": "full", "suggesting": "lora", "voice": "lora"}


class Narrator(Protocol):
    """Whoever tells the story."""

    def chapter(self, title: str) -> None:
        """A new part begins."""

    def command(self, text: str) -> None:
        """What a person would type for what happens now."""

    def say(self, text: str) -> None:
        """What came of it."""


@dataclass(frozen=True)
class Measured:
    """One build: mean loss and its standard error by kind of reply, and the share of sampled replies by kind."""

    build: str
    losses: dict[str, float]
    errors: dict[str, float]
    shares: dict[str, float]


@dataclass(frozen=True)
class Reply:
    """One held-out prompt and what two builds answer, greedily."""

    prompt: str
    before: str
    after: str


@dataclass(frozen=True)
class Finding:
    """A claim, whether the numbers bear it out, and the numbers."""

    claim: str
    holds: bool
    numbers: str


@dataclass(frozen=True)
class Told:
    """All that the demo showed. ``kept_bytes`` is the store's; ``whole_bytes`` is what full checkpoints would take."""

    measured: tuple[Measured, ...]
    replies: tuple[Reply, ...]
    findings: tuple[Finding, ...]
    kept_bytes: int
    whole_bytes: int
    rolled_back_identical: bool


class Story:
    """The state that the chapters share: folders, repository, narrator."""

    def __init__(self, root: Path, narrator: Narrator, progress: Progress, sizes: Sizes, seed: int) -> None:
        self.root = root
        self.base = root / "models" / "base"
        self.runs = root / "runs"
        self.builds = root / "builds"
        self.narrator = narrator
        self.progress = progress
        self.sizes = sizes
        self.seed = seed
        self.measured: list[Measured] = []

    @property
    def repo(self) -> Repository:
        """The demo's repository."""
        return persona.open(self.root)

    def tell(self) -> Told:
        """All chapters."""
        self.begin()
        self.train()
        identical = self.compose()
        kept, whole = _size(self.root / ".persona"), (1 + len(METHODS)) * _size(self.base)
        self.control()
        replies = self.talk()
        return Told(tuple(self.measured), replies, tuple(self.findings()), kept, whole, identical)

    def begin(self) -> None:
        """A base that speaks, and a repository around it."""
        self.narrator.chapter("A base model, trained here from scratch")
        with self._bar("training the base") as on_step:
            train_base(self.base, self.sizes, self.seed, on_step)
        self.narrator.command("persona init --base models/base")
        done = persona.init(self.root, self.base, author="persona demo")
        self.narrator.say(f"{done.tensors} tensors, {done.weights:,} weights")

    def train(self) -> None:
        """Three runs, each from a node of the memory graph, each a commit."""
        self.narrator.chapter("Three training runs, each specified by a node of the memory graph")
        for node in NODES:
            kind = node.behaviour
            with self._bar(f"training {kind} ({METHODS[kind]})") as on_step:
                train_behaviour(self.base, kind, self.runs / kind, METHODS[kind], self.sizes, self.seed, on_step)
            if kind != "voice":  # its commit comes after the negation
                self.commit(node)

    def commit(self, node: Node, alpha: float = 1.0) -> None:
        """Record one run."""
        kind = node.behaviour
        flag = f" --alpha {alpha:g}" if alpha != 1 else ""
        self.narrator.command(f"persona commit runs/{kind} --as {kind} --node {node.id}{flag}")
        done = persona.commit(self.repo, self.runs / kind, name=kind, node=node.id, alpha=alpha, author="persona demo")
        self.narrator.say(
            f"{done.form}, {done.tensors} tensors, {done.kept_bytes:,} bytes kept of {done.total_bytes:,}"
        )

    def compose(self) -> bool:
        """Negate, build, go on, roll back; whether the rolled-back build is the first one, byte for byte."""
        self.narrator.chapter("Take a behaviour away, add a voice, and go back")
        self.measure("base", "HEAD~2")
        self.measure("listening 1", "HEAD~1")
        self.narrator.command("persona negate suggesting --alpha 0.5")
        persona.negate(self.repo, "suggesting", alpha=0.5, author="persona demo")
        first = self.measure("listening 1, suggesting −0.5", "HEAD")
        self.commit(next(node for node in NODES if node.behaviour == "voice"), alpha=0.5)
        self.measure("listening 1, suggesting −0.5, voice 0.5", "HEAD")
        self.narrator.command("persona checkout HEAD~1")
        persona.checkout(self.repo, "HEAD~1")
        again = self.build("rolled back")
        identical = _contents(first) == _contents(again)
        self.narrator.say("byte for byte the build from before" if identical else "NOT the build from before")
        persona.checkout(self.repo, "main")
        return identical

    def control(self) -> None:
        """Negation alone, and a random vector of the same norm in its place, on a branch of their own."""
        self.narrator.chapter("Was that the vector's doing? A random one of the same norm as control")
        random = random_run(self.base, persona.vector(self.repo, "suggesting"), self.runs / "random", self.seed)
        self.narrator.command("persona checkout main~4 -b control")
        persona.checkout(self.repo, "main~4", branch="control")
        persona.commit(self.repo, self.runs / "suggesting", name="suggesting", alpha=-0.5, author="persona demo")
        self.measure("suggesting −0.5", "HEAD")
        persona.alpha(self.repo, {"suggesting": -1.0}, author="persona demo")
        self.measure("suggesting −1", "HEAD")
        persona.rm(self.repo, ["suggesting"], author="persona demo")
        persona.commit(self.repo, random, name="random", alpha=-1.0, author="persona demo")
        self.measure("random vector −1", "HEAD")
        persona.checkout(self.repo, "main")

    def build(self, name: str, rev: str | None = None) -> Path:
        """Build a revision into a folder called after ``name``."""
        folder = self.builds / name.replace(" ", "-").replace(",", "").replace("−", "minus-")
        persona.build(self.repo, folder, rev, progress=self.progress)
        return folder

    def measure(self, name: str, rev: str) -> Path:
        """Build a revision, and measure it on dialogues that no run has seen."""
        folder = self.build(name, rev)
        model, tokenizer = load(folder)
        losses = {
            kind: reply_losses(model, tokenizer, talk.dialogues(kind, HELD_OUT, self.seed, held_out=True))
            for kind in talk.KINDS
        }
        prompts = talk.held_out_prompts(PROMPTS, self.seed, decided=True)
        replies = generate_replies(model, tokenizer, prompts, seed=self.seed)
        self.measured.append(
            Measured(
                name,
                {kind: loss.mean for kind, loss in losses.items()},
                {kind: loss.standard_error for kind, loss in losses.items()},
                {kind: talk.share(kind, replies) for kind in talk.KINDS},
            )
        )
        return folder

    def talk(self) -> tuple[Reply, ...]:
        """The base and the whole personality, side by side."""
        prompts = [talk.held_out_prompts(1, self.seed, decided=decided)[0] for decided in (True, False)]
        before, after = (
            generate_replies(*load(self.builds / name), prompts)
            for name in ("base", "listening-1-suggesting-minus-0.5-voice-0.5")
        )
        return tuple(Reply(*said) for said in zip(prompts, before, after, strict=True))

    def findings(self) -> Iterator[Finding]:
        """What the numbers say of addition and negation, each against twice its standard error."""
        base, of = self.measured[0], {one.build: one for one in self.measured}
        yield _moved("adding listening lowers its loss", base, of["listening 1"], "listening", down=True)
        yield _moved("negating suggesting raises its loss", base, of["suggesting −0.5"], "suggesting", down=False)
        yield _unharmed("negating suggesting leaves neutral replies unharmed", base, of["suggesting −0.5"], "neutral")
        yield _still("the random vector does nothing", base, of["random vector −1"])
        one, two = base.shares["suggesting"], of["suggesting −0.5"].shares["suggesting"]
        yield Finding("fewer sampled replies suggest", two < one, f"{one:.0%} → {two:.0%}")

    @contextmanager
    def _bar(self, label: str) -> Iterator[OnStep]:
        steps = self.sizes.base_steps if "base" in label else self.sizes.behaviour_steps
        with self.progress.task(label, steps, "steps") as task:
            yield lambda step, steps, loss: task.advance(1)


def tell(root: Path, narrator: Narrator, progress: Progress = SILENT, sizes: Sizes = FULL, seed: int = 0) -> Told:
    """Tell the whole story in the empty folder ``root``, which afterwards is a repository to play with."""
    return Story(root, narrator, progress, sizes, seed).tell()


def random_run(base: Path, tau: Mapping[str, torch.Tensor], folder: Path, seed: int) -> Path:
    """A checkpoint as far from the base as ``tau``, tensor by tensor, in a random direction."""
    model, tokenizer = load(base)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in tau:
                noise = torch.randn(weight.shape, generator=generator)
                weight += noise * (tau[name].norm() / noise.norm())
    save(model, tokenizer, folder, torch.float32)
    return folder


def _moved(claim: str, base: Measured, other: Measured, kind: str, *, down: bool) -> Finding:
    change = other.losses[kind] - base.losses[kind]
    spread = 2 * math.hypot(base.errors[kind], other.errors[kind])
    holds = change < -spread if down else change > spread
    return Finding(claim, holds, _numbers(base, other, kind, spread))


def _unharmed(claim: str, base: Measured, other: Measured, kind: str) -> Finding:
    spread = 2 * math.hypot(base.errors[kind], other.errors[kind])
    return Finding(claim, other.losses[kind] - base.losses[kind] < spread, _numbers(base, other, kind, spread))


def _still(claim: str, base: Measured, other: Measured) -> Finding:
    worst = max(talk.KINDS, key=lambda kind: abs(other.losses[kind] - base.losses[kind]))
    spread = 2 * math.hypot(base.errors[worst], other.errors[worst])
    holds = abs(other.losses[worst] - base.losses[worst]) < spread
    return Finding(claim, holds, f"most on {worst}: {_numbers(base, other, worst, spread)}")


def _numbers(base: Measured, other: Measured, kind: str, spread: float) -> str:
    return f"{base.losses[kind]:.3f} → {other.losses[kind]:.3f} (±{spread:.3f})"


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
