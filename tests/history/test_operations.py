"""A crash between any two effects leaves the state before or the state after, and the next command goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import persona
from persona import files
from persona.errors import Refusal
from persona.history import refs as refs_
from tests.models import TinyModels

CHILD = """
import os, signal, sys
import persona
from persona import files

def watch(effect, path, seen=[0]):
    seen[0] += 1
    if seen[0] == {at}:
        os.kill(os.getpid(), signal.SIGKILL)

repo = persona.open({root!r})
files.observer = watch
{action}
"""

ACTIONS = {
    "alpha": "persona.alpha(repo, {'a': 0.5})",
    "checkout": "persona.checkout(repo, 'HEAD~1')",
    "branch": "persona.checkout(repo, 'HEAD', branch='side')",
    "rm": "persona.rm(repo, ['a'])",
}


@pytest.fixture
def work(models: TinyModels, repo: persona.Repository) -> persona.Repository:
    persona.commit(repo, models.run(1), name="a")
    return repo


def state(repo: persona.Repository) -> tuple[dict[str, str], str | None]:
    return repo.refs(), repo.recipe_text()


def effects_of(repo: persona.Repository, action: str) -> int:
    """How many effects an action has: counted on a copy of the repository."""
    seen = []
    copy = repo.root.with_name("copy")
    subprocess.run(["cp", "-r", repo.root, copy], check=True)
    files.observer = lambda effect, path: seen.append(effect)
    try:
        exec(action, {"persona": persona, "repo": persona.open(copy)})
    finally:
        files.observer = None
    return len(seen)


@pytest.mark.parametrize("name", ACTIONS)
def test_kill_at_every_effect(work: persona.Repository, tmp_path: Path, name: str) -> None:
    total = effects_of(work, ACTIONS[name])
    assert total > 8
    original = tmp_path / "original"
    subprocess.run(["cp", "-r", work.root, original], check=True)
    done = tmp_path / "done"
    subprocess.run(["cp", "-r", original, done], check=True)
    exec(ACTIONS[name], {"persona": persona, "repo": persona.open(done)})
    before_text, after_text = work.recipe_text(), persona.open(done).recipe_text()
    outcomes = set()
    for at in range(1, total + 1):
        root = tmp_path / f"killed-{at}"
        subprocess.run(["cp", "-r", original, root], check=True)
        child = subprocess.run(
            [sys.executable, "-c", CHILD.format(at=at, root=str(root), action=ACTIONS[name])], check=False
        )
        assert child.returncode == -signal.SIGKILL
        reader = persona.Repository(root)  # as a reader sees it, before anyone has tidied up
        moved = reader.refs() != work.refs()
        repo = persona.open(root)
        refs, text = state(repo)
        assert (refs != work.refs()) == moved
        assert text == (after_text if moved else before_text)
        assert not repo.is_edited()
        assert repo.log.pending() is None
        assert persona.log(repo)
        if not moved:
            exec(ACTIONS[name], {"persona": persona, "repo": repo})
        assert repo.recipe_text() == after_text
        outcomes.add(moved)
        subprocess.run(["rm", "-rf", root], check=True)
    assert outcomes == {False, True}


@pytest.mark.parametrize("name", ACTIONS)
def test_an_error_at_every_effect(work: persona.Repository, tmp_path: Path, name: str) -> None:
    total = effects_of(work, ACTIONS[name])
    for at in range(1, total + 1):
        root = tmp_path / f"failed-{at}"
        subprocess.run(["cp", "-r", work.root, root], check=True)
        repo = persona.open(root)
        with failing_at(at), pytest.raises(OSError, match="injected"):
            exec(ACTIONS[name], {"persona": persona, "repo": repo})
        again = persona.open(root)
        assert not again.is_edited()
        if again.refs() == work.refs():
            exec(ACTIONS[name], {"persona": persona, "repo": again})
        assert again.refs() != work.refs()
        subprocess.run(["rm", "-rf", root], check=True)


class failing_at:  # noqa: N801
    """An OSError at the Nth effect."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __enter__(self) -> None:
        files.observer = self.watch

    def watch(self, effect: str, path: Path) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(f"injected at {effect} {path}")

    def __exit__(self, *error: object) -> None:
        files.observer = None


@pytest.fixture(autouse=True)
def _no_observer_left() -> Iterator[None]:
    yield
    assert files.observer is None


def test_every_change_is_one_operation(models: TinyModels, work: persona.Repository) -> None:
    persona.negate(work, "a", alpha=0.5, command="negate a --alpha 0.5")
    persona.checkout(work, "HEAD~1", command="checkout HEAD~1")
    operations = [operation for _, operation in work.log.walk()]
    assert [operation.command for operation in operations] == [
        "checkout HEAD~1",
        "negate a --alpha 0.5",
        "commit",
        "init",
    ]
    assert set(operations[1].refs) == {"refs/heads/main"}
    assert set(operations[0].refs) == {refs_.HEAD}
    for newer, older in pairwise(operations):
        assert newer.parent is not None
        assert newer.time >= older.time


def test_an_edit_made_while_a_command_runs_is_not_lost(work: persona.Repository) -> None:
    change = work.transaction("slow")
    transaction = change.__enter__()
    transaction.set_recipe_text("theirs")
    work.recipe_path.write_text("mine")
    with pytest.raises(Refusal, match="was edited while this command ran"):
        change.__exit__(None, None, None)
    assert work.recipe_path.read_text() == "mine"
    assert work.log.pending() is None
