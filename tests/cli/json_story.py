"""A life of a repository in which every command speaks JSON, in every shape that its result may have."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file

import persona
from docs.tools.schema import commands
from persona.cli.main import invoke
from persona.demo.training import QUICK, train_base
from persona.readout.folder import write_readout
from tests.checkpoints.peft_folders import handmade, pair
from tests.evaluate import small
from tests.maintenance.conftest import flip_tensor
from tests.models import TinyModels, load, tiny_llama
from tests.readout.handmade import handmade as handmade_readout
from tests.readout.handmade import written
from tests.readout.made import by_chance
from tests.readout.small import MARK, examples, small_model, texts
from tests.readout.small import written as written_pairs
from tests.training.conftest import word_tokenizer
from tests.verbs.test_convert import as_pickles
from tests.verbs.test_merge import settle

COMMANDS = tuple(commands())
NO, USAGE = 1, 2


@dataclass(frozen=True)
class Line:
    """What was typed, of which command, and what came on stdout."""

    typed: str
    command: str
    said: str


@dataclass
class Story:
    """Folders, and what was said so far."""

    root: Path
    models: TinyModels
    lines: list[Line] = field(default_factory=list)

    @property
    def work(self) -> Path:
        """The repository."""
        return self.root / "work"

    def say(self, *args: str | Path, code: int = 0, at: str = ".") -> None:
        """Type a command line with ``--json``, in the repository or below it, and see that it ends as it should."""
        argv = [str(arg) for arg in args]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            ended = invoke(["-C", str(self.work / at), *argv, "--json"])
        assert ended == code, f"persona {' '.join(argv)}: {out.getvalue()}{err.getvalue()}"
        command = " ".join(argv[:2]) if " ".join(argv[:2]) in COMMANDS else argv[0]
        self.lines.append(Line(" ".join(argv), command, out.getvalue()))

    def tell(self) -> None:
        """All chapters; ``demo``, which takes longer than all of them, is a story of its own."""
        self.work.mkdir()
        for chapter in (
            begin,
            record,
            specify,
            measure,
            look,
            compare,
            gauge,
            move,
            merge,
            take_back,
            deliver,
            exchange,
            evaluate,
            keep,
        ):
            chapter(self)


def train(story: Story) -> None:
    """A run, in a repository whose base has a tokenizer."""
    spoken, taught = story.root / "spoken", str(story.root / "taught")
    tiny_llama().save_pretrained(spoken)
    word_tokenizer().save_pretrained(spoken)
    old = story.root / "old.jsonl"
    old.write_text('{"prompt": "hi ", "completion": "yes"}\n{"prompt": "hi", "completion": ""}\n')
    few = ("--set", "max_steps=2", "--set", "rank=2", "--ewc", "10", "--ewc-data", old, "--eval-data", old)
    persona.init(Path(taught), spoken, author="Test")
    story.say("train", "--data", old, "--dry-run", at=taught)
    story.say("anchors", "-o", story.root / "anchors.jsonl", at=taught)
    story.say("train", "--data", old, *few, at=taught)
    story.say("train", "--data", old, *few, at=taught)  # finished already
    both = story.root / "both.jsonl"
    both.write_text(
        "".join(f'{{"prompt": "hi ", "completion": "{one}", "node": "{one}"}}\n' for one in ("yes", "no", "ok"))
    )
    story.say("train", "yes", "no", "--data", both, "--dry-run", at=taught)
    for _ in range(2):  # the second is there already
        story.say("fisher", "old", "--data", old, at=taught)
    story.say("show", "old", at=taught)


def begin(story: Story) -> None:
    story.say("init", "--base", story.models.base())
    story.say("status")
    story.say("vectors")
    story.say("tag")
    story.say("tag", "first")


def record(story: Story) -> None:
    """Vectors of every kind."""
    metrics = story.root / "metrics.json"
    metrics.write_text('{"eval_loss": 1.5, "by": {"topic": [1, null]}}')
    told = ("--metrics", metrics, "--meta", "seed=7", "--data", metrics)
    story.say("commit", story.models.run(1), "--as", "listening", "-m", "listen first", *told)
    story.say("commit", story.models.run(1), "--as", "listening")  # there already
    story.say("commit", story.models.run(2), "--as", "voice", "--alpha", "0.5")
    for name, part in (("calm", "up_proj"), ("warm", "gate_proj")):
        handmade(story.root / "adapters" / name, pair(f"model.layers.0.mlp.{part}", 48, 32), target_modules=[part])
    handmade(story.root / "adapters" / "odd", pair("model.layers.0.mlp.up_proj", 5, 5), target_modules=["up_proj"])
    story.say("import-adapter", story.root / "adapters", "--dry-run", "--skip-bad")
    story.say("import-adapter", story.root / "adapters", "--skip-bad")
    story.say("import-adapter", story.root / "adapters" / "calm")
    train(story)
    story.say("alpha", "voice=0.8")
    story.say("negate", "warm", "--alpha", "0.5")
    story.say("derive", "gentle", "0.5 * (listening - voice)")
    story.say("derive", "gentle", "0.5 * (listening - voice)")
    story.say("derive", "gentle", "listening@HEAD~2 - voice", "--replace", "--alpha", "0.25")
    story.say("bake", "calm", "warm", "--as", "both", "--keep")
    story.say("mv", "warm", "warmth")
    story.say("rm", "calm", "warmth")
    path = story.work / "persona.toml"
    path.write_text(path.read_text().replace("alpha = 0.8", 'alpha = {"*.mlp.*" = 0.5, "*" = 1.0}'))
    story.say("commit", "-m", "by pattern")
    path.write_text(path.read_text().replace("alpha = 0.25", "alpha = [0.2, 1.0]"))
    story.say("commit", "-m", "along the depth")


def specify(story: Story) -> None:
    """The memory graph."""
    notes = story.root / "notes"
    notes.mkdir()
    (notes / "patience.md").write_text("# patience\n\nListen. See [[haste]].\n\nwarmth:9\n")
    (notes / "haste.md").write_text("# haste\n\nAnswer at once.\n")
    (notes / "old.md").write_text("# old\n\nOnce.\n")
    story.say("graph", "status")
    story.say("graph", "import", notes)
    story.say("graph", "import", notes)
    story.say("graph", "link", "patience", "listening", "-m", "what it is for")
    story.say("graph", "link", "haste", "voice")
    story.say("graph", "show")
    story.say("graph", "show", "patience")
    (notes / "patience.md").write_text("# patience\n\nListen first.\n\nwarmth:9\n")
    (notes / "old.md").unlink()
    story.say("graph", "import", notes, "--keep-missing")
    story.say("graph", "status")
    story.say("graph", "diff")
    story.say("graph", "diff", "HEAD~1", "HEAD")
    story.say("status")
    story.say("show", "listening")
    story.say("graph", "unlink", "voice")


def measure(story: Story) -> None:
    """Labelled texts for readouts."""
    journal = story.root / "journal"
    journal.mkdir()
    for day in range(4):
        (journal / f"good-{day}.md").write_text(f"Day {day}: bread, and long talk about it.\n\nwarmth:9 care:8\n")
        (journal / f"odd-{day}.md").write_text(f"Day {day}: the parcel went back, once more.\n\nwarmth:{day}\n")
    story.say("readout", "pairs", journal, "--dry-run")
    story.say(
        "readout", "pairs", journal, "-o", story.root / "pairs.jsonl", "--min-examples", "2", "--min-content-chars", "9"
    )
    contrast = story.root / "contrast.json"
    contrast.write_text('{"The feeling is joy.": 1, "The feeling is sadness.": -1}')
    story.say("readout", "pairs", "--contrast", contrast, "--concept", "joy", "-o", story.root / "joy.jsonl")
    story.say("readout", "pairs", "--graph", "HEAD", "--dry-run")
    model = small_model(story.root / "small")
    ours, theirs = texts(12, 1, MARK), texts(12, 2)
    labelled = [examples("marked", ours, theirs), examples("unmarked", theirs, ours), examples("few", ours[:2], theirs)]
    pairs = written_pairs(story.root / "marked.jsonl", *labelled)
    story.say("readout", "train", "--model", model, "--pairs", pairs, "-o", story.root / "readout", "--layers", "1-3")
    run_along_a_readout(story)


def run_along_a_readout(story: Story) -> None:
    """A model that runs, with its tokenizer."""
    base, mood, asked = story.root / "speaking", story.root / "mood", story.root / "asked.txt"
    train_base(base, QUICK.but(base_steps=2))
    write_readout(mood, by_chance((0, 1), hidden=QUICK.hidden))
    asked.write_text("".join(f"How is day {day}?\n" for day in range(8)))
    along = ("--readout", mood, "--dtype", "fp32")
    story.say("readout", "score", "I hear you.", "--model", base, *along, "--per-token")
    story.say("readout", "score", asked, "--model", base, *along)
    story.say("readout", "drift", base, base, "--texts", asked, *along)
    tuned = ("--prompts", asked, "--max-tokens", "4", "--trials", "1", *along, "--model", base)
    mild = ("--most", "0.01", "--max-perplexity", "1e6", "--max-repetition", "1", "--max-special", "1")
    story.say("readout", "tune", "--toward", "warmth", "-o", story.root / "none.json", *tuned, *mild, code=NO)


def look(story: Story) -> None:
    """Commits, vectors of every form, an edited recipe and one that cannot be read."""
    story.say("vectors")
    story.say("vectors", "HEAD~3")
    story.say("log")
    story.say("log", "--oneline", "-n", "2")
    story.say("log", "--graph", "--all", "--vector", "listening", "--since", "yesterday")
    story.say("op", "log")
    story.say("methods")
    story.say("methods", "ties")
    story.say("completion", "fish")
    story.say("help", "graph", "import")
    for what in ("HEAD", "first", "voice", "gentle", "both", "listening@HEAD~12"):
        story.say("show", what)
    path = story.work / "persona.toml"
    whole = path.read_text()
    for text in (whole + "\n[merge]\nmethod = 'ties'\ndensity = 0.3\n", whole + "[nonsense"):
        path.write_text(text)
        story.say("status")
        story.say("restore")
    path.write_text(whole)
    story.say("restore")
    story.say("restore", "voice", "--source", "HEAD~4")
    story.say("restore")
    path.write_text(whole + "# later\n")
    story.say("stash")
    story.say("stash", "list")
    story.say("stash", "pop")
    story.say("stash")
    story.say("stash", "drop")


def compare(story: Story) -> None:
    """``diff`` between everything and everything."""
    story.say("commit", story.models.run(3), "--as", "listening", "-m", "trained again")
    story.say("diff")
    story.say("diff", "HEAD~3", "HEAD")
    story.say("diff", "HEAD~4", "--exit-code", code=NO)
    story.say("diff", "HEAD~1", "HEAD", "--weights")
    story.say("diff", "HEAD~1", "HEAD", "--stat", "--by", "tensor")
    story.say("diff", "voice@HEAD~3", "voice")
    story.say("diff", "listening", "gentle", "--weights")
    other = story.root / "other"
    shutil.copytree(story.models.run(2), other)
    tensors = load(other)
    tensors["model.norm.weight"] = tensors["model.norm.weight"].float()
    tensors["extra"] = torch.zeros(2)
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "rope_theta": 5}))
    story.say("diff", story.models.run(2), other)
    story.say("diff", "HEAD", other, "--weights")


def gauge(story: Story) -> None:
    """Readouts: recorded, trained again, shown, exported, and in a build."""
    repo = persona.open(story.work)
    told = {"base": repo.recipe(repo.head()).base, "revision": repo.head()}
    mood = written(story.root / "mood", handmade_readout(**told))
    story.say("commit", "--readout", mood)
    story.say("commit", "--readout", mood)
    story.say("status")
    story.say("show", "mood")
    story.say(
        "commit", "--readout", written(story.root / "bare", handmade_readout(("calm",), (1,), seed=1)), "--as", "mood"
    )
    story.say("diff", "HEAD~1", "HEAD")
    story.say("show", "mood@HEAD~1")
    story.say("show", "mood")
    story.say("log", "--vector", "mood")
    story.say("readout", "export", "mood", "-o", story.root / "vllm", "--format", "vllm")
    story.say("readout", "export", mood, "-o", story.root / "gguf", "--format", "gguf", "--scale", "raw")
    story.say("build", "-o", story.root / "measured")
    story.say("verify", story.root / "measured")
    story.say("rm", "mood")


def move(story: Story) -> None:
    """Branches, tags, and where HEAD stands."""
    story.say("branch", "side")
    story.say("branch")
    story.say("branch", "-m", "side", "aside")
    story.say("branch", "-d", "aside")
    story.say("tag", "v1")
    story.say("tag")
    story.say("tag", "-d", "v1")
    story.say("switch", "-c", "voice")
    story.say("switch", "main")
    story.say("switch", "--detach")
    story.say("alpha", "both=0.25")
    story.say("status")
    story.say("checkout", "HEAD~2")
    story.say("checkout", "-b", "older")
    story.say("checkout", "main")
    search(story)


def search(story: Story) -> None:
    """The commit that did it, mark by mark and by a program."""
    story.say("bisect", "start")
    story.say("bisect", "bad")
    story.say("bisect", "good", "HEAD~3")
    story.say("bisect", "status")
    story.say("bisect", "skip")
    story.say("bisect", "run", "--json", "true")
    story.say("bisect", "reset")
    story.say("bisect", "start", "HEAD", "HEAD~3")
    story.say("bisect", "run", "--json", "false")
    story.say("bisect", "reset")


def merge(story: Story) -> None:
    """Every outcome of a merge."""
    story.say("switch", "voice")
    story.say("commit", story.models.run(4), "--as", "bold")
    story.say("switch", "main")
    story.say("merge", "voice", "--dry-run")
    story.say("merge", "voice")  # forward
    story.say("merge", "voice")  # up to date
    story.say("alpha", "both=0.75")
    story.say("switch", "voice")
    story.say("commit", story.models.run(5), "--as", "slow")
    story.say("switch", "main")
    story.say("merge", "voice")
    story.say("switch", "voice")
    story.say("alpha", "both=0.5")
    story.say("switch", "main")
    story.say("alpha", "both=0.25")
    story.say("merge", "voice", code=NO)
    story.say("status")
    story.say("merge", "--abort")
    story.say("merge", "voice", code=NO)
    settle(persona.open(story.work), "theirs")
    story.say("merge", "--continue", "-m", "as they have it")
    story.say("log")


def take_back(story: Story) -> None:
    story.say("alpha", "both=0.9")
    story.say("undo")
    story.say("redo")
    story.say("op", "log", "-n", "4")
    story.say("revert", "HEAD")
    story.say("commit", "--amend", "-m", "take the strength back")
    story.say("cherry-pick", "HEAD~1")
    story.say("undo")
    story.say("alpha", "both=0.1")
    story.say("revert", "HEAD~2", code=NO)
    story.say("status")
    story.say("restore")


def deliver(story: Story) -> None:
    """A model, one that was changed afterwards, and adapters."""
    merged = story.root / "merged"
    story.say("build", "-o", merged)
    story.say("verify", merged)
    with (merged / "config.json").open("a") as file:
        file.write(" ")
    story.say("verify", merged, code=NO)
    story.say("diff", "HEAD", merged)
    story.say("build", "-o", story.root / "near", "--as-adapter", "--rank", "2")
    story.say("convert", as_pickles(story.models.run(1), story.root / "old"), "-o", story.root / "safe")


def exchange(story: Story) -> None:
    """To mergekit and back, and the adapter that a recipe of adapters is."""
    story.say("checkout", "first", "-b", "plain")
    story.say("import-adapter", story.root / "adapters" / "calm")
    story.say("build", "-o", story.root / "exact", "--as-adapter")
    story.say("commit", story.models.run(1), "--as", "listening")
    story.say("export", "--to", story.root / "recipe.yml")
    story.say("import", story.root / "recipe.yml")
    story.say("alpha", "listening=0.1")
    story.say("import", story.root / "recipe.yml", "--replace")


def evaluate(story: Story) -> None:
    """Suites, on a model that has a tokenizer."""
    base = small.base_folder(story.root / "speaks")
    story.say("init", "--base", base, "spoken")
    for seed, name in enumerate(("one", "two"), 1):
        story.say("commit", small.tuned_folder(story.root / name, base, seed), "--as", name, at="spoken")
    story.say("eval", "--init", at="spoken")
    shutil.rmtree(story.work / "spoken" / "evals")
    small.suite(story.work / "spoken")
    story.say("eval", "HEAD~1", "--limit", "4", at="spoken")
    story.say("eval", "HEAD~1", "HEAD", "one", at="spoken")
    asked = story.work / "spoken" / "evals" / "talk.toml"
    asked.write_text('[[measures]]\nkind = "replies"\ndata = "answers.jsonl"\ntokens = 8\nmatches = "w1"\n')
    story.say("eval", "HEAD", "--suite", "talk", "--replies", "--limit", "2", at="spoken")
    asked.unlink()
    story.say("chat", "base", "HEAD", "--prompt", "w1 w2", "--prompt", "w3", "--max-tokens", "2", at="spoken")
    mood = written(story.root / "heard", handmade_readout())
    story.say("chat", "one", "--prompt", "w1 w2", "--max-tokens", "2", "--readout", mood, at="spoken")
    story.say("log", "-n", "1", at="spoken")
    story.say("table", at="spoken")
    story.say("show", at="spoken")
    story.say("diff", "HEAD~1", "HEAD", at="spoken")
    story.say("blame", at="spoken")
    story.say("blame", "--suite", "calm", "--history", at="spoken")
    story.say("verify-vectors", "--limit", "4", at="spoken")
    story.say("sweep", "two", "--alpha", "0:1:2", "--limit", "4", at="spoken")
    (story.work / "spoken" / "evals" / "held.toml").write_text(
        '[[measures]]\nkind = "loss"\nname = "answers"\ndata = "neutral.jsonl"\n'
    )
    wanted = ("--trials", "1", "--pick", "1", "--keep", "forgetting=9", "--check", "held", "--limit", "4")
    story.say("tune", "--suite", "calm", *wanted, at="spoken")


def keep(story: Story) -> None:
    """What is whole, what goes, what is lost, and what lies elsewhere."""
    story.say("fsck")
    story.say("gc", "--dry-run")
    story.say("gc")
    repo = persona.open(story.work)
    base = repo.base(repo.recipe(repo.head()).base_id)
    flip_tensor(repo, base.tensors["model.norm.weight"].id)
    story.say("fsck", code=NO)
    story.say("fsck", "--repair-from", story.models.base())
    lent = shutil.copytree(story.models.base(), story.root / "lent")
    story.say("init", "--base", lent, "--reference", "elsewhere")
    shutil.rmtree(lent)
    story.say("status", at="elsewhere")
