"""The demo's story: from the nodes of a memory graph to a verified build, with a bad vector on the way.

It calls public verbs and shows the equivalent commands. It prints nothing itself: a `Narrator` shows the steps, and results
are tables (`persona.demo.telling`).
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
OPTIONS = persona.MeasureOptions(dtype=DTYPE, allow_code=True)
"""fp32 is the fastest dtype on a CPU."""

METHODS = ("ties", "dare_ties", "breadcrumbs", "model_stock")
"""Methods to merge the five vectors with, besides the plain sum."""


class Story:
    """The state shared by the chapters: folders, narrator, and the results so far."""

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
        """Run all chapters."""
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
        command = "persona verify-vectors --suite replies --at five --alpha 1 --dtype fp32"
        self.typed(command)
        done = persona.verify_vectors(
            self.repo, suites=["replies"], at="five", alpha=1.0, options=OPTIONS, cwd=self.root, progress=self.progress
        )
        for table in tables.alone(command, done):
            self.table(table)
        self.findings.append(tables.each_learnt(command, done, {run.name: run.kind for run in RUNS if run.kind}))

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
        """Set the merge method in `persona.toml`."""
        path = self.repo.recipe_path
        self.typed(f'# in persona.toml: [merge] method = "{method}"')
        files.write_file(path, edit.set_merge(path.read_text(), method, 1.0, {}).encode())

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
            self.repo, "negated", suite="replies", options=OPTIONS, cwd=self.root, progress=self.progress
        )
        self.table(tables.blame(command, done))
        self.findings.append(tables.culprit(command, done, PLANTED))
        self.typed(f"persona rm {PLANTED}")
        persona.rm(self.repo, [PLANTED], author=AUTHOR)
        self.tag("fixed")
        after = self.measured("replies", "base", "negated", "fixed")
        self.findings.append(tables.moved("without it, the model listens better", after, "listening", "loss", "better"))
        self.measured("talk", "base", "negated", "fixed")

    def deliver(self) -> bool:
        """Build, verify, roll back and build again; return whether both builds have the same bytes."""
        self.chapter(
            "Build, verify and roll back",
            "A build records its commit, and verify detects any changed byte. Rolling back gives exactly the same bytes.",
        )
        self.build("main", "builds/personality")
        self.build("base", "builds/base")
        self.build("negated", "builds/last-week")
        self.typed("persona verify builds/personality")
        ok = persona.verify(self.root / "builds" / "personality").ok
        self.narrator.say("unchanged since it was built" if ok else "CHANGED since it was built")
        self.typed("persona checkout negated && persona build -o builds/rolled-back")
        persona.checkout(self.repo, "negated")
        persona.build(self.repo, self.root / "builds" / "rolled-back", progress=self.progress)
        persona.checkout(self.repo, "main")
        self.typed("persona checkout main")
        command = "diff -r builds/last-week builds/rolled-back"
        self.typed(command)
        first, second = (_contents(self.root / "builds" / name) for name in ("last-week", "rolled-back"))
        same = first == second
        claim = "the rolled-back build equals the first one, byte for byte"
        self.findings.append(Finding(claim, same, "no difference" if same else "they differ", command))
        claim, command = "the build matches its receipt", "persona verify builds/personality"
        self.findings.append(Finding(claim, ok, "verified" if ok else "it has changed", command))
        return same

    def replies(self) -> tuple[Reply, ...]:
        """Replies of the base and of the personality to the same prompts."""
        prompts = [talk.held_out_prompts(1, self.seed, decided=decided)[0] for decided in (True, False)]
        before, after = (
            generate_replies(*load(self.root / "builds" / name), prompts) for name in ("base", "personality")
        )
        return tuple(map(Reply, prompts, before, after))

    # Building blocks of chapters.

    def chapter(self, title: str, text: str) -> None:
        """Begin a chapter."""
        self.chapters.append(Chapter(title, text, (), ()))
        self.narrator.chapter(title, text)

    def typed(self, command: str) -> None:
        """Show a command in the current chapter."""
        last = self.chapters[-1]
        self.chapters[-1] = replace(last, commands=(*last.commands, command))
        self.narrator.command(command)

    def table(self, table: DemoTable) -> None:
        """Show a table in the current chapter."""
        last = self.chapters[-1]
        self.chapters[-1] = replace(last, tables=(*last.tables, table))
        self.narrator.table(table)

    def tag(self, name: str) -> None:
        """Tag the commit, so that its measurements can be reproduced."""
        self.typed(f"persona tag {name}")
        persona.tag(self.repo, name)

    def measured(self, suite: str, *revs: str) -> tables.Measured:
        """Evaluate revisions and show the scores."""
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


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
