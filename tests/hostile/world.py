"""A small valid repository with objects of every kind, and what stands around it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

import persona
from persona.history.commits import walk
from persona.ids import BaseId, VectorId
from persona.recipe.edit import set_fisher
from persona.recipe.model import Entry, Recipe
from persona.store.fishers import Fisher, keep_fisher
from persona.workspace.record import record
from tests.checkpoints.peft_folders import handmade as adapter
from tests.checkpoints.peft_folders import pair
from tests.evaluate import small
from tests.readout.handmade import handmade, written

SUITE = '[[measures]]\nkind = "loss"\nname = "calm"\ndata = "answers.jsonl"\n'
AUTHOR = "Test <test@example.org>"


def grow(lab: Path) -> Path:
    """Make everything below ``lab``; the repository is ``lab/parent/work``."""
    root = lab / "parent" / "work"
    for folder in (lab / "home", lab / "out", root):
        folder.mkdir(parents=True)
    (lab / "parent" / "neighbour.txt").write_text("leave me alone")
    (lab / "home" / ".bashrc").write_text("# leave me alone\n")
    base = small.base_folder(lab / "base", num_hidden_layers=1)
    persona.init(root, base, author=AUTHOR)
    repo = persona.open(root)
    _vectors(repo, lab, base)
    _weighed(repo)
    _graph(repo, lab)
    _readout(repo, lab)
    _history(repo)
    _measured(repo)
    (repo.folder / "config.toml").write_text('[user]\nname = "Test"\nemail = "test@example.org"\n')
    persona.build(repo, lab / "built")
    (lab / "rows.jsonl").write_text('{"prompt": "w1 w2", "completion": " w3"}\n')
    (lab / "pairs.jsonl").write_text(
        '{"concept": "warmth", "polarity": "positive", "text": "w1 w2"}\n{"concept": "warmth", "polarity": "negative", "text": "w3 w2"}\n'
        * 4
    )
    (lab / "texts.txt").write_text("w1 w2 w3\nw4 w5 w6\n")
    return root


def _vectors(repo: persona.Repository, lab: Path, base: Path) -> None:
    run = small.tuned_folder(lab / "run", base, 1)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "rope_theta": 5.0}))
    (run / "trainer_state.json").write_text(
        json.dumps(
            {
                "global_step": 2,
                "max_steps": 2,
                "epoch": 1.0,
                "log_history": [{"loss": 1.0, "step": 1}, {"loss": 0.5, "step": 2}],
            }
        )
    )
    metrics = lab / "metrics.json"
    metrics.write_text('{"eval_loss": 0.5, "by": {"topic": [1, null]}}')
    persona.commit(
        repo,
        run,
        name="a",
        message="first\n\nand more",
        author=AUTHOR,
        meta={"seed": "7"},
        metrics=metrics,
        data=[metrics],
    )
    adapter(lab / "style", pair("model.layers.0.mlp.up_proj", 48, 32), target_modules=["up_proj"])
    persona.import_adapter(repo, [lab / "style"])
    persona.derive(repo, "gentle", "0.5 * (a - style)", alpha=0.25)
    persona.bake(repo, ["a", "style"], name="both", keep=True)


def _weighed(repo: persona.Repository) -> None:
    """A branch whose recipe weights its vector by a Fisher diagonal."""
    persona.checkout(repo, "HEAD~3", branch="weighed")
    recipe = repo.recipe(repo.head())
    entry, base = recipe.vectors[0], repo.base(BaseId(recipe.base))
    name = next(iter(repo.vector(VectorId(entry.id)).tensors))
    values = {name: np.full(base.tensors[name].shape, 0.5, np.float32)}
    alone = Recipe(recipe.base, recipe.base_name, (Entry("a", entry.id),))
    trace, norm = float(values[name].sum()), float(np.sqrt((values[name] ** 2).sum()))
    tensors = keep_fisher(values, repo.tensors)
    kept = Fisher(BaseId(recipe.base), ("5eed" * 16,), 3, 30, 0, tensors, alone.put(repo.objects), trace, norm)
    text = set_fisher(repo.head_text(), "a", kept.put(repo.objects)) + '\n[merge]\nmethod = "fisher"\n'
    with repo.transaction("fisher a") as change:
        facts = {"fisher": {"vector": "a", "examples": 3, "tokens": 30, "seed": 0, "tensors": 1, "trace": trace}}
        record(repo, change, text, "weigh it", AUTHOR, facts)
    persona.checkout(repo, "main")


def _graph(repo: persona.Repository, lab: Path) -> None:
    notes = lab / "notes"
    notes.mkdir()
    (notes / "patience.md").write_text("# patience\n\nListen. See [[haste]].\n\nwarmth:9\n")
    (notes / "haste.md").write_text("# haste\n\nAnswer at once.\n")
    persona.graph_import(repo, str(notes))
    persona.graph_link(repo, "patience", "a")
    (notes / "patience.md").write_text("# patience\n\nListen first.\n\nwarmth:9\n")
    persona.graph_import(repo, str(notes))


def _readout(repo: persona.Repository, lab: Path) -> None:
    told = {"base": repo.recipe(repo.head()).base, "revision": repo.head()}
    persona.commit_readout(repo, written(lab / "mood", handmade(("warmth", "calm"), (0,), **told)))


def _history(repo: persona.Repository) -> None:
    """Branches, tags, a merge, an undo and a redo; patterns, lists and choices in the recipe."""
    persona.tag(repo, "v1")
    persona.branch(repo, "side")
    path = repo.recipe_path
    path.write_text(
        path.read_text() + '\n[files]\ntokenizer = "base"\n\n[config]\nfrom = "a"\nmax_position_embeddings = 32\n'
    )
    persona.commit(repo, message="choose files")
    persona.switch(repo, "side")
    path.write_text(
        path.read_text().replace("alpha = 0.25", 'alpha = {"*.mlp.*" = 0.5, "*" = 1.0}\nonly = ["*.mlp.*"]')
    )
    persona.commit(repo, message="by pattern")
    persona.switch(repo, "main")
    persona.merge(repo, ["side"])
    persona.alpha(repo, {"a": 1.0, "style": 0.5}, message="stronger")
    persona.undo(repo)
    persona.redo(repo)


def _measured(repo: persona.Repository) -> None:
    small.lines(repo.root / "evals" / "answers.jsonl", small.dialogues(4, 1))
    (repo.root / "evals" / "calm.toml").write_text(SUITE)
    persona.eval(repo, ["HEAD", "HEAD~1"])
    assert {kind_of(repo, name) for name in every_object(repo)} >= {"evaluation", "fisher", "readout", "graph", "node"}
    assert list(walk(repo.objects, [repo.head()]))


def every_object(repo: persona.Repository) -> list[str]:
    """The ids of all objects."""
    return sorted(path.parent.name + path.name for path in repo.objects.folder.rglob("*") if path.is_file())


def kind_of(repo: persona.Repository, name: str) -> str:
    """The kind of an object."""
    return repo.objects.kind(VectorId(name))


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative path."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found
