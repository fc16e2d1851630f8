"""The demo's story: from the nodes of a memory graph to a build that can be trusted, with a bad vector on the way.

It uses the same verbs as a person would, and says what a person would type. Nothing is printed here: a :class:`Narrator` is told what
happens, and what was measured is handed out as tables (:mod:`persona.demo.telling`).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import persona
from persona import files
from persona.demo import dialogues as talk
from persona.demo import tables
from persona.demo.model import generate_replies, load
from persona.demo.scenery import PLANTED, RUNS, Run, lay_out
from persona.demo.telling import Chapter, DemoResult, DemoTable, Finding, Narrator, Reply
from persona.demo.training import FULL, OnStep, Sizes, train_base, train_behaviour
from persona.progress import SILENT, Progress
from persona.recipe import edit
from persona.repository import Repository

AUTHOR = "persona demo"
DTYPE = "fp32"
OPTIONS = persona.MeasureOptions(dtype=DTYPE)
"""A CPU is quickest at it."""

METHODS = ("ties", "dare_ties", "breadcrumbs", "model_stock")
"""What the five vectors are merged by besides the plain sum."""


class Story:
    """The state that the chapters share: folders, repository, narrator, and what was told so far."""

    def __init__(self, root: Path, narrator: Narrator, progress: Progress, sizes: Sizes, seed: int) -> None:
        self.root = root
        self.base = root / "models" / "base"
        self.narrator = narrator
        self.progress = progress
        self.sizes = sizes
        self.seed = seed
        self.chapters: list[Chapter] = []
        self.findings: list[Finding] = []

    @property
    def repo(self) -> Repository:
        """The demo's repository."""
        return persona.open(self.root)

    def tell(self) -> DemoResult:
        """All chapters."""
        for chapter in (
            self.begin, self.specify, self.train, self.listen_inside, self.verify_alone, self.negate, self.merge,
            self.drift, self.blame,
        ):  # fmt: skip
            chapter()
        identical = self.deliver()
        kept, whole = _size(self.root / ".persona"), (1 + len(RUNS)) * _size(self.base)
        return DemoResult(tuple(self.chapters), self.replies(), tuple(self.findings), kept, whole, identical)

    # Chapters.

    def begin(self) -> None:
        """A base that speaks, and a repository around it."""
        self.chapter(
            "A base model, trained here from scratch",
            "A small Llama learns to answer people who feel something, or have decided something. It has four kinds of reply, and one "
            "bad habit: told of a decision, it suggests something else.",
        )
        with self._bar("training the base", self.sizes.base_steps) as on_step:
            train_base(self.base, self.sizes, self.seed, on_step)
        self.typed("persona init --base models/base")
        done = persona.init(self.root, self.base, author=AUTHOR)
        self.narrator.say(f"{done.tensors} tensors, {done.weights:,} weights")
        self.tag("base")

    def specify(self) -> None:
        """Behaviours as nodes of a memory graph."""
        self.chapter(
            "Nodes of a memory graph say what is wanted",
            "Each behaviour is a note that a person wrote. The notes are taken in, and every vector will say which one it implements.",
        )
        lay_out(self.root, self.sizes, self.seed)
        self.typed("persona graph import nodes")
        done = persona.graph_import(self.repo, self.root / "nodes", author=AUTHOR)
        self.narrator.say(f"{done.nodes} nodes")

    def train(self) -> None:
        """Five runs, each from its node, each a commit."""
        self.chapter(
            "Training is the compiler: a node in, a vector out",
            "One run is a full fine-tune by a script of one's own, and is committed as a folder; the others are adapters that persona trains. "
            f"The data of '{PLANTED}' has come apart, as when one column of a table is sorted: its replies answer other prompts.",
        )
        for run in RUNS:
            self._full(run) if run.method == "full" else self._adapter(run)
        self.tag("trained")
        self.table(tables.vectors("persona vectors trained", persona.vectors(self.repo, "trained")))
        curves = [(run.name, persona.show(self.repo, f"{run.name}@trained")) for run in RUNS if run.method == "lora"]
        for name, shown in curves:
            self.table(tables.curve(f"persona show {name}@trained", name, shown))

    def listen_inside(self) -> None:
        """A readout: directions in the base's activations."""
        self.chapter(
            "A readout: what the model makes of a text",
            "Directions in the base's activations that tell texts which listen, or suggest, from plain ones. The readout is versioned "
            "with the recipe; it changes no weight.",
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
        """Each vector alone, beside noise of its size."""
        self.chapter(
            "Each vector alone, before anything is merged",
            "What each vector does by itself to the loss on held-out replies of each kind, at alpha 1. Beside it random noise of the same "
            "norm, as control: what does no more than noise has learnt nothing.",
        )
        command = "persona verify-vectors --suite replies --at five --alpha 1 --dtype fp32"
        self.typed(command)
        done = persona.verify_vectors(
            self.repo, suites=["replies"], at="five", alpha=1.0, options=OPTIONS, cwd=self.root, progress=self.progress
        )
        for table in tables.alone(command, done):
            self.table(table)
        self.findings.append(tables.each_learnt(command, done, {run.name: run.kind for run in RUNS if run.kind}))

    def negate(self) -> None:
        """Take a behaviour away."""
        self.chapter(
            "Take a behaviour away",
            "'suggesting' was trained to be taken away: its vector is given a negative alpha.",
        )
        self.typed("persona negate suggesting --alpha 0.5")
        persona.negate(self.repo, "suggesting", alpha=0.5, author=AUTHOR)
        self.tag("negated")
        done = self.measured("replies", "base", "five", "negated")
        self.findings.append(tables.moved("negating suggesting raises its loss", done, "suggesting", "loss", "worse"))
        done = self.measured("talk", "base", "five", "negated")
        self.findings.append(
            tables.fell("fewer sampled replies suggest than in the base", done, "replies", "suggesting")
        )

    def merge(self) -> None:
        """The same five vectors under other methods, on a branch of their own."""
        self.chapter(
            "The same vectors under other merge methods",
            "A plain sum is one way to merge. On a branch, persona.toml gets a [merge] method, and each is a commit with a tag.",
        )
        self.typed("persona switch -c methods")
        persona.switch(self.repo, "methods", create=True)
        for method in METHODS:
            self.write_method(method)
            persona.commit(self.repo, message=f"merge by {method}", author=AUTHOR)
            self.typed(f'persona commit -m "merge by {method}"')
            self.tag(f"by-{method}")
        self.typed("persona switch main")
        persona.switch(self.repo, "main")
        self.measured("replies", "base", "negated", *(f"by-{method}" for method in METHODS))

    def write_method(self, method: str) -> None:
        """Edit ``persona.toml`` as a person does."""
        path = self.repo.recipe_path
        self.typed(f'# in persona.toml: [merge] method = "{method}"')
        files.write_file(path, edit.set_merge(path.read_text(), method, 1.0, {}).encode())

    def drift(self) -> None:
        """How the merged model reads the same letters."""
        self.chapter(
            "Readout drift: how the merge moved the mood",
            "The same letters, read by the base and by the merged model: how far their mean moved along each direction, in standard "
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
        """Which vector is it?"""
        self.chapter(
            "Which vector makes it listen worse?",
            "Each vector is left out in turn. An effect is the loss with the vector less the loss without it, on the same replies: above zero, "
            "the vector does harm.",
        )
        command = "persona blame negated --suite replies --dtype fp32"
        self.typed(command)
        done = persona.blame(
            self.repo, "negated", suite="replies", options=OPTIONS, cwd=self.root, progress=self.progress
        )
        self.table(tables.blame(command, done))
        self.findings.append(tables.culprit(command, done, PLANTED))
        self.typed(f"persona rm {PLANTED}")
        persona.rm(self.repo, [PLANTED], author=AUTHOR)
        self.tag("mended")
        after = self.measured("replies", "base", "negated", "mended")
        self.findings.append(tables.moved("without it, it listens better", after, "listening", "loss", "better"))
        self.measured("talk", "base", "negated", "mended")

    def deliver(self) -> bool:
        """Build, verify, go back, build again; whether that is the first build, byte for byte."""
        self.chapter(
            "Build, verify, and go back",
            "What is deployed says which commit it is, and whether a byte of it has changed. Going back gives the very same bytes.",
        )
        self.build("main", "builds/personality")
        self.build("base", "builds/base")
        self.build("negated", "builds/last-week")
        self.typed("persona verify builds/personality")
        ok = persona.verify(self.root / "builds" / "personality").ok
        self.narrator.say("it is what was built" if ok else "it has CHANGED")
        self.typed("persona checkout negated && persona build -o builds/rolled-back")
        persona.checkout(self.repo, "negated")
        persona.build(self.repo, self.root / "builds" / "rolled-back", progress=self.progress)
        persona.checkout(self.repo, "main")
        self.typed("persona checkout main")
        command = "diff -r builds/last-week builds/rolled-back"
        self.typed(command)
        one, two = (_contents(self.root / "builds" / name) for name in ("last-week", "rolled-back"))
        self.findings.append(
            Finding(
                "the rolled-back build is the first one, byte for byte", one == two,
                "no difference" if one == two else "they differ", command,
            )
        )  # fmt: skip
        self.findings.append(
            Finding(
                "the build is what its receipt says", ok,
                "verified" if ok else "it has changed", "persona verify builds/personality",
            )
        )  # fmt: skip
        return one == two

    def replies(self) -> tuple[Reply, ...]:
        """The base and the whole personality, side by side."""
        prompts = [talk.held_out_prompts(1, self.seed, decided=decided)[0] for decided in (True, False)]
        before, after = (
            generate_replies(*load(self.root / "builds" / one), prompts) for one in ("base", "personality")
        )
        return tuple(Reply(*said) for said in zip(prompts, before, after, strict=True))

    # What chapters are made of.

    def chapter(self, title: str, text: str) -> None:
        """Begin one."""
        self.chapters.append(Chapter(title, text, (), ()))
        self.narrator.chapter(title, text)

    def typed(self, command: str) -> None:
        """Something is typed in this chapter."""
        last = self.chapters[-1]
        self.chapters[-1] = replace(last, commands=(*last.commands, command))
        self.narrator.command(command)

    def table(self, table: DemoTable) -> None:
        """Something was measured in this chapter."""
        last = self.chapters[-1]
        self.chapters[-1] = replace(last, tables=(*last.tables, table))
        self.narrator.table(table)

    def tag(self, name: str) -> None:
        """Name the commit, so that what was measured of it can be measured again."""
        self.typed(f"persona tag {name}")
        persona.tag(self.repo, name)

    def measured(self, suite: str, *revs: str) -> tables.Measured:
        """Measure revisions, and show it."""
        command = f"persona eval {shlex.join(revs)} --suite {suite} --dtype fp32"
        self.typed(command)
        done = persona.eval(self.repo, revs, suites=[suite], options=OPTIONS, cwd=self.root, progress=self.progress)
        self.table(tables.evaluated(command, revs, done))
        return tables.Measured(command, revs, done)

    def build(self, rev: str, folder: str) -> None:
        """Build a revision."""
        self.typed(f"persona build {rev} -o {folder}")
        persona.build(self.repo, self.root / folder, rev, progress=self.progress)

    def _full(self, run: Run) -> None:
        """Train it as a person's own script does, and commit its folder."""
        folder = self.root / "runs" / run.name
        with self._bar(f"training {run.name} (full)", self.sizes.behaviour_steps) as on_step:
            train_behaviour(self.base, str(run.kind), folder, "full", self.sizes, self.seed, on_step)
        self.typed(f"persona commit runs/{run.name} --as {run.name} --node {run.node.id}")
        done = persona.commit(
            self.repo, folder, name=run.name, node=run.node.id, alpha=run.alpha, author=AUTHOR, progress=self.progress
        )
        self.narrator.say(
            f"{done.form}, {done.tensors} tensors, {done.kept_bytes:,} bytes kept of {done.total_bytes:,}"
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
    """Tell the whole story in the empty folder ``root``, which afterwards is a repository to play with."""
    return Story(root, narrator, progress, sizes, seed).tell()


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
