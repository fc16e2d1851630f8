"""The demo's story: from the nodes of a memory graph to a verified build, with a bad vector on the way.

The engine that tells it is `persona.demo.teller`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import persona
from persona.demo import dialogues as talk
from persona.demo import tables
from persona.demo.model import generate_replies, load
from persona.demo.scenery import PLANTED, RUNS, Run, lay_out
from persona.demo.teller import AUTHOR, Teller
from persona.demo.telling import Answer, DemoResult, Narrator, Reply
from persona.demo.training import FULL, OnStep, Sizes, train_base, train_behaviour
from persona.progress import SILENT, Progress

DTYPE = "fp32"
"""The fastest dtype on a CPU for a model of this size."""

ABOUT = "on a small model trained from scratch on this machine. One of the five vectors is bad on purpose"

METHODS = ("ties", "dare_ties", "breadcrumbs", "model_stock")
"""Methods to merge the five vectors with, besides the plain sum."""


class Story(Teller):
    """The story of a small model that is trained on the spot."""

    def __init__(self, root: Path, narrator: Narrator, progress: Progress, sizes: Sizes, seed: int) -> None:
        super().__init__(root, narrator, progress, DTYPE)
        self.sizes = sizes
        self.seed = seed

    def tell(self) -> DemoResult:
        """Run all chapters."""
        for chapter in (
            self.begin, self.specify, self.train, self.listen_inside, self.verify_alone, self.negate, self.merge,
            self.drift, self.blame,
        ):  # fmt: skip
            chapter()
        identical = self.deliver("negated", "base")
        return self.result(ABOUT, self.replies(), len(RUNS), identical)

    # Chapters.

    def begin(self) -> None:
        """Train the base and make a repository."""
        self.chapter(
            "A base model, trained from scratch",
            "A small Llama learns to answer people who share a feeling or a decision. It has four kinds of reply, and one bad "
            "habit: when someone has decided something, it suggests something else.",
        )
        with self._bar("training the base", self.sizes.base_steps) as on_step:
            train_base(self.base, self.sizes, self.seed, on_step)
        self.typed("persona init --base models/base")
        done = persona.init(self.root, self.base, author=AUTHOR)
        self.narrator.say(f"{done.tensors} tensors, {done.weights:,} weights")
        self.tag("base")

    def specify(self) -> None:
        """Import behaviours as nodes of a memory graph."""
        self.chapter(
            "A memory graph specifies the behaviours",
            "Each behaviour is described in a note. The notes are imported, and every vector will name the note it implements.",
        )
        lay_out(self.root, self.sizes, self.seed)
        self.typed("persona graph import nodes")
        done = persona.graph_import(self.repo, self.root / "nodes", author=AUTHOR)
        self.narrator.say(f"{done.nodes} nodes")

    def train(self) -> None:
        """Train and commit five vectors, one per node."""
        self.chapter(
            "Training compiles a node to a vector",
            "One vector is a full fine-tune by an external script, committed from its folder; the others are adapters trained by "
            f"persona. The data of '{PLANTED}' is broken on purpose: its replies are shuffled, so they answer other prompts.",
        )
        for run in RUNS:
            self._full(run) if run.method == "full" else self._adapter(run)
        self.tag("trained")
        self.table(tables.vectors("persona vectors trained", persona.vectors(self.repo, "trained")))
        curves = [(run.name, persona.show(self.repo, f"{run.name}@trained")) for run in RUNS if run.method == "lora"]
        for name, shown in curves:
            self.table(tables.curve(f"persona show {name}@trained", name, shown))

    def listen_inside(self) -> None:
        """Train and commit a readout."""
        self.chapter(
            "A readout measures concepts in activations",
            "Its directions separate texts that listen, or suggest, from plain ones in the base's activations. The readout is "
            "versioned with the recipe, and changes no weights.",
        )
        self.typed(
            "persona readout train --pairs pairs.jsonl --model base --layers auto --dtype fp32 -o readouts/replies"
        )
        persona.readout_train(
            self.root / "pairs.jsonl", self.root / "readouts" / "replies", "base", repo=self.repo, cwd=self.root,
            layers="auto", dtype=DTYPE, seed=0, progress=self.progress,
        )  # fmt: skip
        self.typed("persona commit --readout readouts/replies --as replies")
        persona.commit_readout(self.repo, self.root / "readouts" / "replies", name="replies", author=AUTHOR)
        self.tag("five")
        self.table(tables.readout("persona show replies@five", persona.show(self.repo, "replies@five")))

    def verify_alone(self) -> None:
        """Measure each vector alone, and noise of the same size."""
        self.chapter(
            "Each vector alone, before merging",
            "The effect of each vector by itself on the loss on held-out replies of each kind, at alpha 1. Random noise of the same "
            "norm is the control: a vector that does no better than noise has not learnt anything.",
        )
        self.alone("replies", "five", {run.name: run.kind for run in RUNS if run.kind})

    def negate(self) -> None:
        """Negate a vector."""
        self.chapter(
            "Remove a behaviour",
            "'suggesting' was trained in order to remove it: its vector gets a negative alpha.",
        )
        self.typed("persona negate suggesting --alpha 0.5")
        persona.negate(self.repo, "suggesting", alpha=0.5, author=AUTHOR)
        self.tag("negated")
        done = self.measured("replies", "base", "five", "negated")
        self.findings.append(tables.moved("negating 'suggesting' raises its loss", done, "suggesting", "loss", "worse"))
        done = self.measured("talk", "base", "five", "negated")
        self.findings.append(
            tables.fell("fewer sampled replies suggest than in the base", done, "replies", "suggesting")
        )

    def merge(self) -> None:
        """Merge the same vectors with other methods, on a branch."""
        self.chapter(
            "Other merge methods",
            "A plain sum is only one way to merge. On a branch, each method is set under [merge] in persona.toml, committed and tagged.",
        )
        self.switch("methods", create=True)
        for method in METHODS:
            self.write_method(method)
            self.commit(f"merge by {method}")
            self.tag(f"by-{method}")
        self.switch("main")
        self.measured("replies", "base", "negated", *(f"by-{method}" for method in METHODS))

    def drift(self) -> None:
        """Compare how the base and the merged model read the same letters."""
        self.chapter(
            "Readout drift: how the vectors changed the mood",
            "The base and the merged model read the same letters. The shift of the mean along each direction is in standard "
            "deviations of the letters in the base.",
        )
        command = "persona readout drift base negated --texts letters.txt --readout readouts/replies --dtype fp32"
        self.typed(command)
        letters = [line for line in (self.root / "letters.txt").read_text().splitlines() if line]
        done = persona.readout_drift(
            self.repo, "base", "negated", letters, self.root / "readouts" / "replies",
            cwd=self.root, dtype=DTYPE, progress=self.progress,
        )  # fmt: skip
        self.narrator.say(done.said)
        self.table(tables.drift(command, done))

    def blame(self) -> None:
        """Find the bad vector and remove it."""
        self.chapter(
            "Which vector makes it listen worse?",
            "Each vector is left out in turn. Its effect is the loss with the vector minus the loss without it, on the same replies: "
            "above zero, the vector is harmful.",
        )
        command = "persona blame negated --suite replies --dtype fp32"
        self.typed(command)
        done = persona.blame(
            self.repo, "negated", suite="replies", options=self.options, cwd=self.root, progress=self.progress
        )
        self.table(tables.blame(command, done))
        self.findings.append(tables.culprit(command, done, PLANTED))
        self.typed(f"persona rm {PLANTED}")
        persona.rm(self.repo, [PLANTED], author=AUTHOR)
        self.tag("fixed")
        after = self.measured("replies", "base", "negated", "fixed")
        self.findings.append(tables.moved("without it, the model listens better", after, "listening", "loss", "better"))
        self.measured("talk", "base", "negated", "fixed")

    def replies(self) -> tuple[Reply, ...]:
        """Replies of the base and of the personality to the same prompts."""
        prompts = [talk.held_out_prompts(1, self.seed, decided=decided)[0] for decided in (True, False)]
        before, after = (
            generate_replies(*load(self.root / "builds" / name), prompts) for name in ("base", "personality")
        )
        return tuple(
            Reply(prompt, (Answer("base", first), Answer("personality", second)))
            for prompt, first, second in zip(prompts, before, after, strict=True)
        )

    # Training.

    def _full(self, run: Run) -> None:
        """Train as an external script would, and commit the folder."""
        folder = self.root / "runs" / run.name
        with self._bar(f"training {run.name} (full)", self.sizes.behaviour_steps) as on_step:
            train_behaviour(self.base, str(run.kind), folder, "full", self.sizes, self.seed, on_step)
        self.typed(f"persona commit runs/{run.name} --as {run.name} --node {run.node.id}")
        done = persona.commit(
            self.repo, folder, name=run.name, node=run.node.id, alpha=run.alpha, author=AUTHOR, progress=self.progress
        )
        self.narrator.say(
            f"{done.form}, {done.tensors} tensors, {done.kept_bytes:,} of {done.total_bytes:,} bytes stored"
        )

    def _adapter(self, run: Run) -> None:
        alpha = "" if run.alpha == 1 else f" --alpha {run.alpha:g}"
        self.typed(
            f"persona train {run.node.id} --data data/{run.name}.jsonl --as {run.name} --preset demo.toml{alpha}"
        )
        done = persona.train(
            self.repo, self.root / "data" / f"{run.name}.jsonl", node=run.node.id, name=run.name,
            preset=self.root / "demo.toml", alpha=run.alpha, author=AUTHOR, progress=self.progress,
        )  # fmt: skip
        self.narrator.say(f"{done.steps} steps on {done.data.used:,} examples")

    @contextmanager
    def _bar(self, label: str, steps: int) -> Iterator[OnStep]:
        with self.progress.task(label, steps, "steps") as task:
            yield lambda step, steps, loss: task.advance(1)


def tell(root: Path, narrator: Narrator, progress: Progress = SILENT, sizes: Sizes = FULL, seed: int = 0) -> DemoResult:
    """Run the whole story in an empty folder, which becomes a repository to experiment with."""
    return Story(root, narrator, progress, sizes, seed).tell()
