"""``gc`` killed, refused and read beside: nothing that is needed is ever gone, and the next one finishes the work."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import persona
from persona import files
from persona.errors import PersonaError
from persona.ids import TensorId, VectorId
from persona.progress import SILENT
from persona.store.tensors import TensorStore
from tests.models import TinyModels
from tests.verbs.test_fsck import fsck
from tests.verbs.test_gc import abandon, gc, mostly_dead, state

CHILD = """
import os, signal, sys
import persona
from persona import files

for at, root in enumerate(sys.argv[1:], 1):
    if os.fork() == 0:
        seen = []
        def watch(effect, path):
            seen.append(effect)
            if len(seen) == at:
                os.kill(os.getpid(), signal.SIGKILL)
        repo = persona.open(root)
        files.observer = watch
        persona.gc(repo, grace=0)
        os._exit(0)
    status = os.wait()[1]
    print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)
"""


@contextmanager
def failing_at(at: int) -> Iterator[None]:
    """An OSError at the Nth effect."""
    seen: list[str] = []

    def watch(effect: str, path: Path) -> None:
        seen.append(effect)
        if len(seen) == at:
            raise OSError(f"injected at {effect} {path}")

    files.observer = watch
    try:
        yield
    finally:
        files.observer = None


@pytest.fixture
def littered(repo: persona.Repository, models: TinyModels) -> persona.Repository:
    """Something of everything that gc does: objects, packs, a safetensors file, a repack, unfinished files."""
    work = repo
    persona.commit(work, models.run(1), name="a")
    abandon(work, models.run(7))
    with SILENT.task("", 0) as task:
        work.tensors.adopt_safetensors(models.run(8) / "model.safetensors", task)
    mostly_dead(work)
    (work.folder / "tmp" / "x").write_bytes(b"x")
    return persona.open(work.root)


def effects(repo: persona.Repository, copy: Path) -> int:
    shutil.copytree(repo.root, copy)
    seen: list[str] = []
    files.observer = lambda effect, path: seen.append(effect)
    try:
        persona.gc(persona.open(copy), grace=0)
    finally:
        files.observer = None
    return len(seen)


def assert_whole_and_collectable(root: Path, wanted: dict[str, bytes]) -> None:
    repo = persona.open(root)
    found = fsck(repo)
    assert found.ok, found
    gc(repo)
    assert state(repo) == wanted


def test_killed_at_every_effect(littered: persona.Repository, tmp_path: Path) -> None:
    total = effects(littered, tmp_path / "done")
    assert total > 30
    wanted = state(persona.open(tmp_path / "done"))
    notes = fsck(persona.open(tmp_path / "done")).notes
    assert not any("unreferenced" in text or "nothing refers to" in text for text in notes)
    roots = [tmp_path / f"killed-{at}" for at in range(1, total + 2)]
    for root in roots:
        shutil.copytree(littered.root, root)
    done = subprocess.run([sys.executable, "-c", CHILD, *map(str, roots)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["9"] * total + ["0"]
    for root in roots:
        assert_whole_and_collectable(root, wanted)


def test_an_error_at_every_effect(littered: persona.Repository, tmp_path: Path) -> None:
    total = effects(littered, tmp_path / "done")
    wanted = state(persona.open(tmp_path / "done"))
    for at in range(1, total + 1):
        root = tmp_path / f"failed-{at}"
        shutil.copytree(littered.root, root)
        repo = persona.open(root)
        with failing_at(at), pytest.raises((OSError, PersonaError), match="injected"):
            persona.gc(repo, grace=0)
        assert_whole_and_collectable(root, wanted)
        shutil.rmtree(root)


def test_readers_while_it_runs(littered: persona.Repository, tmp_path: Path) -> None:
    """Two readers that opened before, and go on opening; every pack they know may be replaced under them."""
    spec = json.loads(littered.objects.path(VectorId((littered.folder / "FUTURE").read_text())).read_bytes())["needs"][
        0
    ]
    wanted = TensorId(spec)
    bits = littered.tensors.read(wanted).tobytes()
    fresh = [persona.open(littered.root).tensors for _ in range(50)]
    assert all(wanted in store for store in fresh)
    problems: list[BaseException] = []
    stop = threading.Event()

    def read(stores: list[TensorStore]) -> None:
        try:
            while not stop.is_set() or stores:
                store = stores.pop() if stores else persona.open(littered.root).tensors
                assert store.read(wanted).tobytes() == bits
                assert persona.log(persona.open(littered.root))
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=read, args=(fresh[k::2],)) for k in range(2)]
    for thread in threads:
        thread.start()
    done = gc(littered)
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == []
    assert done.repacked == 1
    assert fsck(littered).ok
