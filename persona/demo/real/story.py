"""The story of `persona demo --real`: four behaviours and a habit on SmolLM2-135M-Instruct.

The engine that tells it is `persona.demo.teller`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import persona
from persona.demo import tables
from persona.demo.real import source, talk
from persona.demo.real.scenery import BAD, FULL, KEPT, NEGATED, RUNS, RealRun, RealSizes, lay_out
from persona.demo.real.speaking import replies_of
from persona.demo.teller import AUTHOR, Teller
from persona.demo.telling import Answer, DemoResult, Finding, Narrator, Reply
from persona.progress import SILENT, Progress
from persona.verbs.sweep import SweepResult
from persona.workspace.loading import load_model

ABOUT = "on SmolLM2-135M-Instruct, a real model"

METHODS = ("linear", "ties", "tsv_m")
SCALES = (0.4, 0.7, 1.0)
NEGATION, PUSH = 0.5, 4.0
"""How much of the habit's vector is taken away, and standard deviations to steer by."""

KEEPS, FITS, LEFT, COST = 0.85, 0.8, 0.2, 0.1
"""What is aimed at: share of each vector's own effect that the merge keeps, share of its replies that are of the kind that their
prompt asks for, the most that may be left of a habit that is negated, and the most that plain answers may lose."""

QUESTION = "What is the capital of Portugal?"


class RealStory(Teller):
    """The story of a real model."""

    def __init__(
        self, root: Path, file: Path, narrator: Narrator, progress: Progress, sizes: RealSizes, seed: int
    ) -> None:
        super().__init__(root, narrator, progress, "fp32")
        self.file = file
        self.sizes = sizes
        self.seed = seed

    def tell(self) -> DemoResult:
        """Run all chapters."""
        for chapter in (
            self.begin, self.specify, self.train, self.verify_alone, self.merge, self.negate, self.listen_inside,
        ):  # fmt: skip
            chapter()
        identical = self.deliver("sum")
        prompts = [self.asked(kind)[at] for at in (0, 1) for kind in KEPT] + [QUESTION]
        replies = self.side_by_side(prompts, {"base": "base", "plain sum": "sum", "personality": "main"})
        return self.result(ABOUT, replies, len(RUNS), identical)

    # Chapters.

    def begin(self) -> None:
        """Make the base of the package's file, and a repository."""
        self.chapter(
            "A real model",
            "SmolLM2-135M-Instruct has 135 million weights. Its file is dequantized and saved in bf16, the dtype that it was "
            "published in.",
        )
        self.typed(f"persona convert {self.file.name} -o models/base")
        source.make_base(self.file, self.base, self.progress)
        if source.runs_in_bf16(self.base):
            self.options = persona.MeasureOptions(dtype="bf16", allow_code=True)
        self.typed("persona init --base models/base")
        done = persona.init(self.root, self.base, author=AUTHOR)
        self.narrator.say(f"{done.tensors} tensors, {done.weights:,} weights; it runs in {self.dtype}")
        self.tag("base")

    def specify(self) -> None:
        """Import behaviours as nodes of a memory graph."""
        self.chapter("Notes specify the behaviours", "Every vector names the note that it implements.")
        lay_out(self.root, self.sizes, self.seed, self.dtype)
        self.typed("persona graph import nodes")
        done = persona.graph_import(self.repo, self.root / "nodes", author=AUTHOR)
        self.narrator.say(f"{done.nodes} nodes")

    def train(self) -> None:
        """Train and commit a vector for each node."""
        self.chapter(
            "Training compiles a note to a vector",
            f"Three adapters are the personality. A fourth, '{BAD}', learns from logs in which every reply has another idea, a "
            f"habit that nobody asked for. A fifth, '{NEGATED}', learns the same habit from other topics, to take it away.",
        )
        for number, run in enumerate(RUNS):
            self._train(run, self.seed + number)
        self.tag("trained")
        self.table(tables.vectors("persona vectors trained", persona.vectors(self.repo, "trained")))
        for run in RUNS:
            shown = persona.show(self.repo, f"{run.name}@trained")
            self.table(tables.curve(f"persona show {run.name}@trained", run.name, shown))

    def _train(self, run: RealRun, seed: int) -> None:
        """Train from a seed of its own: adapters that start from the same weights are not independent."""
        data = f"data/{run.name}.jsonl"
        others = f"data/others-{run.name}.jsonl"
        self.typed(
            f"persona train {run.node.id} --data {data} --as {run.name} --preset demo.toml --anchor {others} --set seed={seed}"
        )
        done = persona.train(
            self.repo, self.root / "data" / f"{run.name}.jsonl", node=run.node.id, name=run.name,
            preset=self.root / "demo.toml", changes={"seed": seed}, anchors=[self.root / others], author=AUTHOR,
            progress=self.progress,
        )  # fmt: skip
        self.narrator.say(f"{done.steps} steps on {done.data.used:,} examples")

    def verify_alone(self) -> None:
        """Measure each vector alone, and let it speak."""
        self.chapter(
            "Each vector alone, before merging",
            "Each vector by itself, at alpha 1: the change of the loss on held-out replies of each kind, and on plain answers, "
            "which should stay as they are. Noise of the same size is the control.",
        )
        self.alone("said", "trained", {run.name: run.kind for run in RUNS if run.name != BAD})
        for kind in KEPT:
            self.show(self.side_by_side(self.asked(kind)[:1], {"base": "base", f"{kind} alone": kind}))

    def merge(self) -> None:
        """Merge the three behaviours by several methods, each at its best scale."""
        self.chapter(
            "Three together, by three methods",
            "A merge keeps a share of what each vector does alone: 1 is all of it. The scale matters as much as the method, so each "
            "method gets the scale that keeps most of the vector that suffers most. The best of them at which plain answers lose little "
            "becomes the personality.",
        )
        self.typed(f"persona alpha {BAD}=0 {NEGATED}=0")
        persona.alpha(self.repo, {BAD: 0.0, NEGATED: 0.0}, author=AUTHOR)
        self.tag("sum")
        self.switch("methods", create=True)
        found = {method: self._tuned(method) for method in METHODS}
        self.switch("main")
        done = self.measured("said", "base", *(f"by-{method}" for method in METHODS))
        costs = {method: done.score(f"by-{method}", "plain", "loss").from_base for method in METHODS}
        cheap = [method for method, cost in costs.items() if cost is not None and cost.value <= COST]
        best = max(cheap or METHODS, key=lambda method: kept(found[method])[1])
        scale, least = kept(found[best])
        self.write_method(best, scale)
        self.commit(f"merge by {best} with scale {scale:g}")
        self.tag("personality")
        command = f"persona checkout by-{best} && {sweep_command(self.dtype)}"
        claim = f"the best of them, {best}, keeps {KEEPS:.0%} of what each vector does alone"
        self.findings.append(Finding(claim, least >= KEEPS, f"{least:.0%} of the least", command))
        claim = f"it costs plain answers at most {COST:g} nats per token"
        self.findings.append(Finding(claim, best in cheap, tables.in_words(costs[best]), done.command))
        done = self.measured("kinds", "base", "sum", "personality")
        shares = {kind: done.score("personality", kind, "share").value for kind in KEPT}
        numbers = ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items())
        claim = f"{FITS:.0%} of its replies are of the kind that their prompt asks for"
        self.findings.append(Finding(claim, min(shares.values()) >= FITS, numbers, done.command))

    def _tuned(self, method: str) -> SweepResult:
        """Give a method its best scale, and commit it."""
        self.write_method(method)
        command = sweep_command(self.dtype)
        self.typed(f"{command} --write")
        done = persona.sweep(
            self.repo, None, SCALES, suite="said", by="gain least", write=True, options=self.options, cwd=self.root,
            progress=self.progress,
        )  # fmt: skip
        self.commit(f"merge by {method}")
        self.tag(f"by-{method}")
        again = f"persona checkout by-{method} && {command}"
        self.table(tables.swept(f"merged by {method}", again, done, ("gain", "plain")))
        return done

    def negate(self) -> None:
        """Take the habit of one run away with another run."""
        self.chapter(
            "Remove a habit",
            f"'{BAD}' has brought a habit: it answers a decision with another idea. '{NEGATED}' has learnt this habit from other "
            "examples, and is subtracted.",
        )
        self.switch("habit", create=True)
        self.write_method("linear")
        values = dict.fromkeys(KEPT, 0.0) | {BAD: 1.0}
        self.commit("merge by linear")
        self.typed("persona alpha " + " ".join(f"{name}={value:g}" for name, value in values.items()))
        persona.alpha(self.repo, values, author=AUTHOR)
        self.tag("with-habit")
        self.typed(f"persona negate {NEGATED} --alpha {NEGATION:g}")
        persona.negate(self.repo, NEGATED, alpha=NEGATION, author=AUTHOR)
        self.tag("negated")
        done = self.measured("habit", "base", "with-habit", "negated")
        before, after = (done.score(rev, NEGATED, "share").value for rev in ("with-habit", "negated"))
        claim, numbers = "the habit is gone from four of five replies", f"{before:.0%} → {after:.0%}"
        self.findings.append(Finding(claim, before > 0 and after <= LEFT * before, numbers, done.command))
        self.measured("said", "base", "with-habit", "negated")
        models = {"base": "base", "with the habit": "with-habit", "negated": "negated"}
        self.show(self.side_by_side([*self.asked(NEGATED)[:2], QUESTION], models))
        self.switch("main")

    def listen_inside(self) -> None:
        """Train a readout, and steer by it."""
        self.chapter(
            "A readout, and steering by it",
            "A direction in the base's activations separates replies that listen from replies that advise, to the same prompts. "
            "Adding it while the base speaks, or subtracting it, changes the reply and no weight.",
        )
        self.typed(f"persona readout train --pairs pairs.jsonl --model base --dtype {self.dtype} -o readouts/listening")
        folder = self.root / "readouts" / "listening"
        persona.readout_train(
            self.root / "pairs.jsonl", folder, "base", repo=self.repo, cwd=self.root, dtype=self.dtype, seed=self.seed,
            progress=self.progress,
        )  # fmt: skip
        self.typed("persona commit --readout readouts/listening --as inside")
        persona.commit_readout(self.repo, folder, name="inside", author=AUTHOR)
        self.tag("read")
        shown = persona.show(self.repo, "inside@read")
        self.table(tables.readout("persona show inside@read", shown))
        layer = tables.best_layer(shown)
        self.typed(
            f'# in Python: with persona.readout.steer(model, {{"listening": {PUSH:g}}}, readout, layers=[{layer}]): …'
        )
        self.show(self._steered(folder, layer))

    def _steered(self, folder: Path, layer: int) -> tuple[Reply, ...]:
        from persona.readout import steer

        prompts = self.asked(KEPT[0])[:2]
        live = load_model(self.repo, "base", self.root, dtype=self.dtype)
        said: dict[str, list[str]] = {}
        for push in (-PUSH, 0.0, PUSH):
            with steer(live.model, {"listening": push}, folder, layers=[layer]):
                said[f"{push:+g}".replace("-", "−") if push else "base"] = replies_of(live, prompts)
        return beside(prompts, said)

    # Replies.

    def asked(self, kind: str) -> tuple[str, ...]:
        """The held-out prompts of a kind."""
        return talk.prompts(kind, self.sizes.prompts, self.seed)

    def side_by_side(self, prompts: Sequence[str], models: dict[str, str]) -> tuple[Reply, ...]:
        """Replies of several revisions, by the name to show, to the same prompts."""
        said = {}
        with self.progress.task("replying", len(models), "models") as task:
            for name, rev in models.items():
                live = load_model(self.repo, rev, self.root, dtype=self.dtype)
                said[name] = replies_of(live, prompts)
                task.advance(1)
        return beside(prompts, said)


def beside(prompts: Sequence[str], said: dict[str, list[str]]) -> tuple[Reply, ...]:
    """Put the replies of several models to the same prompts side by side."""
    kinds = {prompt: kind for kind in KEPT for prompt in talk.prompts(kind, talk.most_prompts(kind))}
    return tuple(
        Reply(
            prompt, tuple(Answer(name, texts[at], _fits(kinds.get(prompt), texts[at])) for name, texts in said.items())
        )
        for at, prompt in enumerate(prompts)
    )


def _fits(kind: str | None, reply: str) -> bool | None:
    return talk.BEHAVIOURS[kind].rule.met(reply) if kind is not None else None


def sweep_command(dtype: str) -> str:
    """The command that tries the scales."""
    scales = ",".join(f"{scale:g}" for scale in SCALES)
    return f"persona sweep --scale {scales} --suite said --by 'gain least' --dtype {dtype}"


def kept(done: SweepResult) -> tuple[float, float]:
    """The best scale of a sweep, and the share that is left there of the vector that suffers most."""
    at = done.best if done.best is not None else 1.0
    stop = next(stop for stop in done.stops if stop.value == at)
    return at, next(one.value for one in stop.reached if (one.measure, one.name) == ("gain", "least"))


def tell(
    root: Path, file: Path, narrator: Narrator, progress: Progress = SILENT, sizes: RealSizes = FULL, seed: int = 0
) -> DemoResult:
    """Run the whole story of a GGUF file in an empty folder, which becomes a repository to experiment with."""
    return RealStory(root, file, narrator, progress, sizes, seed).tell()
