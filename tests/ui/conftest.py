"""A small repository with everything that the pages show, texts that are written to be printed included."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import persona
from persona.ui.guard import COOKIE, Keys
from persona.ui.site import application
from tests.evaluate import small
from tests.models import on_one_thread
from tests.readout.handmade import handmade, written

EVIL = "<script>alert('no')</script>\x1b]0;owned\x07\u202egpj.exe"
PORT = 8123
ORIGIN = {"origin": f"http://127.0.0.1:{PORT}"}


@contextmanager
def inside(repo: persona.Repository, keys: Keys) -> Iterator[TestClient]:
    """A browser that was let in."""
    app = application(repo.root, repo.folder, keys)
    with TestClient(app, f"http://127.0.0.1:{PORT}/{keys.place}/", follow_redirects=False) as client:
        client.cookies.set(COOKIE, keys.cookie)
        yield client


@pytest.fixture(scope="session")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three vectors on a branch and its merge, measured by a suite, with a readout; the subject of a commit is hostile."""
    folder = tmp_path_factory.mktemp("ui")
    base = small.base_folder(folder / "base")
    root = folder / "work"
    persona.init(root, base, author="Test <test@example.org>")
    repo = persona.open(root)
    small.lines(root / "evals" / "prompts.jsonl", small.dialogues(4, 1))
    (root / "evals" / "calm.toml").write_text(
        '[[measures]]\nkind = "loss"\ndata = "prompts.jsonl"\n\n'
        '[[measures]]\nkind = "readout"\nname = "mood"\nreadout = "mood"\nlayer = 1\ndata = "prompts.jsonl"\n'
    )
    with on_one_thread():
        for seed, name in enumerate(("listening", "calm")):
            persona.commit(repo, small.tuned_folder(folder / name, base, seed, 8e-3), name=name, alpha=0.5)
        persona.commit_readout(repo, written(folder / "mood", handmade(hidden=32, source={"file": EVIL})))
        persona.branch(repo, "side")
        persona.alpha(repo, {"calm": 0.75}, message=EVIL, author=f"{EVIL} <a@b>", command=f"alpha {EVIL}")
        persona.switch(repo, "side")
        persona.commit(repo, small.tuned_folder(folder / "doubt", base, 7, 8e-3), name="doubt", alpha=-0.25)
        persona.switch(repo, "main")
        persona.merge(repo, ["side"], author="Test")
        persona.tag(repo, "v1")
        persona.eval(repo, ["HEAD", "HEAD~1"])
        persona.verify_vectors(repo)
    return root


@pytest.fixture(scope="module")
def shown(laid_out: Path, tmp_path_factory: pytest.TempPathFactory) -> persona.Repository:
    """A copy of it for one module."""
    return persona.open(Path(shutil.copytree(laid_out, tmp_path_factory.mktemp("shown") / "work")))
