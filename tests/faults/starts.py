"""What a command begins from when it is made to fail: repositories, each made once and copied for every trial."""

from __future__ import annotations

import shutil
from pathlib import Path

import persona
from persona.cli.main import invoke
from persona.progress import SILENT
from persona.readout import Rules
from persona.verbs import bisect
from tests.checkpoints.peft_folders import handmade, pair
from tests.maintenance.conftest import flip_tensor, objects_of
from tests.models import TinyModels, tiny_llama
from tests.readout.handmade import handmade as handmade_readout
from tests.readout.handmade import written
from tests.readout.small import MARK, examples, small_model, texts
from tests.readout.small import written as examples_in
from tests.training.conftest import word_tokenizer
from tests.verbs.test_gc import abandon, mostly_dead

EMPTY = "empty"
FEW = Rules(min_content_chars=1, min_examples=1)
EDIT = "\n# what I was trying\n"
SIZE = """\
def size(live, rows, seed):
    norm = sum(float(weight.float().square().sum()) for weight in live.model.parameters()) ** 0.5
    return [norm for row in rows]
"""
SWEEP = ("sweep", "a", "--alpha", "0.5")
TUNE = ("tune", "--suite", "size", "--vary", "a=0:0.9", "--trials", "1")


class Starts:
    """Folders by the name of the function below that makes them."""

    def __init__(self, models: TinyModels, folder: Path) -> None:
        self.models = models
        self.folder = folder

    def copy(self, name: str, at: Path) -> Path:
        """A copy to break."""
        shutil.rmtree(at, ignore_errors=True)
        shutil.copytree(self.root(name), at)
        return at

    def root(self, name: str) -> Path:
        """The one that stays as it is."""
        root = self.folder / name
        if not root.exists():
            make = {
                EMPTY: Path.mkdir, "plain": self._plain, "undone": self._undone, "edited": self._edited,
                "littered": self._littered, "damaged": self._damaged, "moved": self._moved,
                "parted": self._parted, "searching": self._searching, "clashing": self._clashing, "settled": self._settled,
                "unmade": self._unmade, "noted": self._noted, "exported": self._exported, "adapters": self._adapters,
                "measured": self._measured, "journal": self._journal, "taught": self._taught, "learnt": self._learnt,
                "weighed": self._weighed, "skilled": self._skilled,
                "suited": self._suited, "labelled": self._labelled,
            }[name]  # fmt: skip
            make(root)
        return root

    def _plain(self, root: Path) -> None:
        """A base, an earlier build, a commit."""
        persona.init(root, self.models.base(), author="Test")
        repo = persona.open(root)
        persona.build(repo, root / "old")
        persona.commit(repo, self.models.run(1), name="a", author="Test")

    def _exported(self, root: Path) -> None:
        """A recipe that was exported, and changed since."""
        repo = persona.open(self.copy("plain", root))
        persona.export(repo, root / "recipe.yml")
        persona.alpha(repo, {"a": 0.5}, author="Test")

    def _measured(self, root: Path) -> None:
        """A readout in the recipe and in an earlier build, and the folder of another."""
        repo = persona.open(self.copy("plain", root))
        base = repo.recipe(repo.head()).base
        persona.commit_readout(repo, written(root / "mood", handmade_readout(base=base)), author="Test")
        written(root / "again", handmade_readout(base=base, seed=1))
        persona.build(repo, root / "old", replace=True)
        persona.readout_export(repo, "mood", root / "given", format="gguf")

    def _labelled(self, root: Path) -> None:
        """A model that can read, and labelled texts for a readout."""
        self.copy("plain", root)
        small_model(root / "model", num_hidden_layers=2)
        examples_in(root / "pairs.jsonl", examples("marked", texts(6, 1, MARK), texts(6, 2)))

    def _weighed(self, root: Path) -> None:
        """A suite, by which the builds of SWEEP and TUNE are measured already."""
        self.copy("suited", root)
        for argv in (SWEEP, TUNE):
            assert invoke(["-C", str(root), *argv, "--allow-code", "--json"]) == 0

    def _suited(self, root: Path) -> None:
        """A suite by which nothing is measured yet: weights are smaller without the vector."""
        self.copy("plain", root)
        (root / "evals").mkdir()
        (root / "evals" / "weigh_all.py").write_text(SIZE)
        (root / "evals" / "rows.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
        (root / "evals" / "size.toml").write_text(
            '[[measures]]\nkind = "python"\nfunction = "weigh_all:size"\nbetter = "lower"\ndata = "rows.jsonl"\n'
        )

    def _taught(self, root: Path) -> None:
        """A base that can read, and something to be learnt."""
        base = root.with_name("speaking")
        tiny_llama().save_pretrained(base)
        word_tokenizer().save_pretrained(base)
        persona.init(root, base, author="Test")
        (root / "data.jsonl").write_text('{"prompt": "hi ", "completion": "yes"}\n')

    def _learnt(self, root: Path) -> None:
        """The same with its run, which is finished and not committed."""
        there = self.copy("taught", root.with_name("elsewhere"))
        persona.train(persona.open(there), there / "data.jsonl", changes={"max_steps": 1, "rank": 2})
        self.copy("taught", root)
        shutil.copytree(there / "runs", root / "runs")

    def _skilled(self, root: Path) -> None:
        """The same, committed."""
        repo = persona.open(self.copy("learnt", root))
        persona.train(repo, root / "data.jsonl", name="a", changes={"max_steps": 1, "rank": 2}, author="Test")

    def _adapters(self, root: Path) -> None:
        """Two adapters in a folder."""
        self.copy("plain", root)
        for name, part in (("calm", "up_proj"), ("voice", "gate_proj")):
            handmade(root / "adapters" / name, pair(f"model.layers.0.mlp.{part}", 48, 32), target_modules=[part])

    def _journal(self, root: Path) -> None:
        """Texts with scores, and labelled texts that were made of fewer of them."""
        self.copy("plain", root)
        (root / "notes").mkdir()
        for number in range(4):
            (root / "notes" / f"{number}.md").write_text(f"Day {number}.\n\nwarmth:{9 * (number % 2)}\n")
            if number == 1:
                persona.readout_pairs(root / "notes", root / "pairs.jsonl", rules=FEW)

    def _parted(self, root: Path) -> None:
        """Two branches that changed different things since they parted."""
        repo = persona.open(self.copy("plain", root))
        persona.switch(repo, "side", create=True)
        persona.commit(repo, self.models.run(3), name="c", author="Test")
        persona.switch(repo, "main")
        persona.alpha(repo, {"a": 0.5}, author="Test")

    def _clashing(self, root: Path) -> None:
        """A merge that has stopped at a conflict."""
        repo = persona.open(self.copy("parted", root))
        persona.switch(repo, "side")
        persona.alpha(repo, {"a": 0.25}, author="Test")
        persona.switch(repo, "main")
        assert not persona.merge(repo, ["side"], author="Test").ok

    def _settled(self, root: Path) -> None:
        """A merge whose conflict is settled."""
        repo = persona.open(self.copy("clashing", root))
        repo.recipe_path.write_text(repo.head_text() + EDIT)

    def _searching(self, root: Path) -> None:
        """A search for a bad commit, with one answer given."""
        repo = persona.open(self.copy("plain", root))
        for eighths in range(1, 7):
            persona.alpha(repo, {"a": eighths / 8}, author="Test")
        bisect.start(repo, "HEAD", ["HEAD~6"])

    def _undone(self, root: Path) -> None:
        persona.undo(persona.open(self.copy("plain", root)))

    def _edited(self, root: Path) -> None:
        repo = persona.open(self.copy("plain", root))
        repo.recipe_path.write_text(repo.head_text() + EDIT)

    def _noted(self, root: Path) -> None:
        """A memory graph that was imported, and notes that have changed since."""
        repo = persona.open(self.copy("plain", root))
        notes = root / "notes"
        notes.mkdir()
        for name in ("one", "two"):
            (notes / f"{name}.md").write_text(f"# {name}\n\nSo it was.\n")
        persona.graph_import(repo, notes, author="Test")
        (notes / "one.md").write_text("# one\n\nSo it is.\n")
        (notes / "two.md").unlink()

    def _littered(self, root: Path) -> None:
        """Something of everything that ``gc`` does: objects, packs, a safetensors file, a repack, unfinished files."""
        work = persona.open(self.copy("plain", root))
        abandon(work, self.models.run(7))
        with SILENT.task("", 0) as task:
            work.tensors.adopt_safetensors(self.models.run(8) / "model.safetensors", task)
        mostly_dead(work)
        (work.folder / "tmp" / "x").write_bytes(b"x")

    def _damaged(self, root: Path) -> None:
        """A flipped bit in the base, its object gone, and its configuration lost with the pack that held it."""
        work = persona.open(self.copy("plain", root))
        base = work.base(work.recipe(work.head()).base_id)
        flip_tensor(work, base.tensors["model.layers.0.mlp.up_proj.weight"].id)
        next(v for v in work.tensors.volumes() if v.blobs).path.unlink()
        objects_of(work, "base")[0].unlink()

    def _unmade(self, root: Path) -> None:
        """A vector's object is gone, and so are its tensors."""
        work = persona.open(self.copy("plain", root))
        for path in objects_of(work, "vector"):
            path.unlink()
        next(v for v in work.tensors.volumes() if v.path.suffix == ".pack" and not v.blobs).path.unlink()

    def _moved(self, root: Path) -> None:
        """A base that is only referred to, and is not where it was."""
        gone = Path(shutil.copytree(self.models.base(), root.with_name("gone")))
        persona.init(root, gone, author="Test", keep="reference")
        persona.commit(persona.open(root), self.models.run(1), name="a", author="Test")
        shutil.rmtree(gone)
