"""A repository with more packs than a process may have files open."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import persona
from persona.maintenance import joining
from persona.store import openfiles, packwriter
from tests.maintenance.test_gc_faults import CHILD, assert_whole_and_collectable
from tests.verbs.test_gc import state

Crowd = Callable[[int], Path]
"""Makes a folder with a base, a run, and ``work``, a repository in which each tensor of the run has a pack of its own."""

PROGRAM = """
import resource, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
from persona import files
from persona.cli.main import invoke
files.allow_many_files()
for argv in (["fsck"], ["build", "-o", "before"], ["gc"], ["fsck"], ["build", "-o", "after"]):
    print(argv[0], invoke(argv), flush=True)
"""

SHORT = """
import os, resource
from persona.cli.main import invoke
assert invoke(["fsck"]) == 0
few = len(os.listdir("/proc/self/fd"))  # one of these is the listing itself
resource.setrlimit(resource.RLIMIT_NOFILE, (few, few))
codes = [invoke(argv) for argv in (["fsck"], ["gc", "--grace", "0"])]
print(*codes)
"""


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Crowd:
    made: dict[int, Path] = {}

    def make(packs: int) -> Path:
        if packs not in made:
            made[packs] = tmp_path_factory.mktemp("crowd")
            fill(made[packs], packs)
        return made[packs]

    return make


def fill(folder: Path, packs: int) -> None:
    generator = np.random.default_rng(0)
    weights = {f"part.{number}.weight": generator.standard_normal(6).astype(np.float32) for number in range(packs)}
    for name, change in (("base", 0), ("run", 1)):
        (folder / name).mkdir()
        changed = {key: value + np.float32(change) for key, value in weights.items()}
        save_file(changed, folder / name / "model.safetensors")
        (folder / name / "config.json").write_text(json.dumps({"model_type": "crowd", "architectures": ["Crowd"]}))
    persona.init(folder / "work", folder / "base")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packwriter, "SPLIT", 1)
        persona.commit(persona.open(folder / "work"), folder / "run", name="a")
    for path in packs_of(folder / "work"):
        path.chmod(0o600)  # packs that others may read are not joined with those that they may not


def packs_of(work: Path) -> list[Path]:
    return sorted((work / ".persona" / "packs").glob("*.pack"))


@pytest.mark.parametrize(("packs", "files"), [(200, 80), (1101, 256)])
def test_fsck_build_and_gc_with_few_files(
    crowd: Crowd, tmp_path: Path, request: pytest.FixtureRequest, packs: int, files: int
) -> None:
    """Fewer than the packs that are kept open where the limit allows it."""
    if packs > 1000 and not request.config.getoption("--every"):
        pytest.skip("takes 20 seconds: run with --every")
    folder = crowd(packs)
    work = Path(shutil.copytree(folder / "work", tmp_path / "work"))
    assert len(packs_of(work)) >= packs
    command = [sys.executable, "-c", PROGRAM, str(files)]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    codes = [line for line in done.stdout.splitlines() if line.split()[0] in ("fsck", "build", "gc")]
    assert codes == ["fsck 0", "build 0", "gc 0", "fsck 0", "build 0"], done
    assert len(packs_of(work)) == 1
    wanted = load_file(folder / "run" / "model.safetensors")
    for name in ("before", "after"):
        built = load_file(work / name / "model.safetensors")
        assert built.keys() == wanted.keys()
        assert all(np.array_equal(built[key], wanted[key]) for key in wanted)


def test_a_shortage_of_files_is_no_damage(crowd: Crowd) -> None:
    """Nor a reason to collect anything."""
    work = crowd(12) / "work"
    before = packs_of(work)
    done = subprocess.run([sys.executable, "-c", SHORT], cwd=work, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["74 74"], done
    assert "too many open files" in done.stderr
    assert "ulimit -n" in done.stderr
    assert packs_of(work) == before


def test_a_reader_beside_a_collection_that_joins(crowd: Crowd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files were closed for others, and are gone when it goes on."""
    monkeypatch.setattr(joining, "MANY", 3)
    monkeypatch.setattr(openfiles, "MOST", 2)
    work = Path(shutil.copytree(crowd(12) / "work", tmp_path / "work"))
    repo = persona.open(work)
    vector = repo.vector(repo.recipe(repo.head()).vectors[0].id)  # type: ignore[arg-type]
    ids = [spec.id for spec in vector.tensors.values()]
    reader = persona.open(work).tensors
    begun = [reader.blocks(name) for name in ids]
    wanted = [repo.tensors.read(name) for name in ids]
    before = packs_of(work)
    assert persona.gc(persona.open(work)).joined == len(before) > len(ids)
    assert len(packs_of(work)) == 1
    assert [np.concatenate(list(blocks)).tolist() for blocks in begun] == [bits.tolist() for bits in wanted]


def test_killed_at_effects_of_joining(
    crowd: Crowd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """At every third, or with --every at each of them."""
    step = 1 if request.config.getoption("--every") else 3
    monkeypatch.setattr(joining, "MANY", 3)
    start = crowd(4) / "work"
    roots = [Path(shutil.copytree(start, tmp_path / str(number))) for number in range(39 // step)]
    child = CHILD.replace("== at:", f"== {step} * at:")
    program = f"from persona.maintenance import joining\njoining.MANY = 3\n{child}"
    done = subprocess.run([sys.executable, "-c", program, *map(str, roots)], capture_output=True, text=True, check=True)
    codes = done.stdout.split()
    assert codes == sorted(codes, reverse=True), "killed, until there are no more effects"
    assert {"9", "0"} == set(codes)
    wanted = state(persona.open(roots[-1]))
    assert len(packs_of(roots[-1])) == 1
    for root in roots[: codes.count("9") + 1]:
        assert_whole_and_collectable(root, wanted)
