"""For each command, an ``OSError`` and a ``SIGKILL`` at every one of its file effects.

After each: the repository opens, is whole, stands where it stood before or where it should stand after, a reader who
came in between saw the one or the other, and the same command then succeeds.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import persona
from tests.faults.conftest import Zygote
from tests.models import TinyModels


@dataclass(frozen=True)
class Case:
    """A command line; ``{run}``, ``{base}`` are replaced by folders. ``out`` is what it makes beside the repository."""

    argv: tuple[str, ...]
    out: str | None = None
    moves: bool = True


CASES = {
    "init": Case(("init", "--base", "{base}"), moves=False),
    "commit": Case(("commit", "{run}", "--as", "b")),
    "alpha": Case(("alpha", "a=0.5")),
    "checkout": Case(("checkout", "HEAD~1")),
    "undo": Case(("undo",)),
    "build": Case(("build", "-o", "out"), out="out", moves=False),
    "adapter": Case(("build", "-o", "out", "--as-adapter", "--rank", "2"), out="out", moves=False),
    "bake": Case(("bake", "a", "--as", "b")),
    "replace": Case(("build", "-o", "old", "--replace"), out="old", moves=False),
}

SHARE = 6
"""Without ``--slow`` one point in so many is tried, from a beginning that the case's name decides."""


@pytest.fixture(scope="module")
def start(models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a commit, an undone one, and an earlier build."""
    root = tmp_path_factory.mktemp("faults") / "start"
    persona.init(root, models.base(), author="Test")
    repo = persona.open(root)
    persona.build(repo, root / "old")
    persona.commit(repo, models.run(1), name="a", author="Test")
    return root


def argv_of(case: Case, models: TinyModels) -> list[str]:
    return [part.format(run=models.run(2), base=models.base()) for part in case.argv]


def place(name: str, start: Path, at: Path) -> Path:
    """A copy of the repository to break; an empty folder for ``init``."""
    shutil.rmtree(at, ignore_errors=True)
    if name == "init":
        at.mkdir()
    else:
        shutil.copytree(start, at)
    return at


State = tuple[dict[str, str], str | None]


def state(root: Path) -> State:
    """Refs by what they mean (commits by recipe, for their ids hold the time), and the recipe file."""
    repo = persona.Repository(root)
    named = {}
    for ref, value in repo.refs().items():
        named[ref] = value if value.startswith("ref: ") else str(repo.recipe(persona.log(repo, value[:20])[0].commit))
    return named, repo.recipe_text()


def check_whole(root: Path) -> None:
    """Everything that any ref leads to can be read, and every weight is what its id says."""
    repo = persona.open(root)
    assert not repo.is_edited()
    assert repo.log.pending() is None
    for ref in repo.refs():
        for one in persona.log(repo, ref):
            recipe = repo.recipe(one.commit)
            base = repo.base(recipe.base_id)
            for spec in base.tensors.values():
                repo.tensors.read(spec.id)
            for entry in persona.vectors(repo, one.commit[:20]):
                for spec in repo.vector(entry.id).tensors.values():
                    repo.tensors.read(spec.id)


def try_effects(
    step: int,
    name: str,
    fault: str,
    start: Path,
    models: TinyModels,
    zygote: Zygote,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    case, argv = CASES[name], argv_of(CASES[name], models)
    done = place(name, start, tmp_path / "done")
    code, effects = zygote.run(done, argv)
    assert code == 0
    assert effects > 5
    after = state(done)
    seen, tried, at = set(), 0, 1 + len(name + fault) % step
    while True:
        root = place(name, start, tmp_path / "work")
        code, _ = zygote.run(root, argv, at, fault)
        if code == 0:  # a run has a few effects more or less: folders of objects are made as ids fall
            break
        assert code == (-9 if fault == "kill" else 74), f"effect {at}"
        seen.add(check(name, case, argv, root, start, after, zygote))
        tried, at = tried + 1, at + step
    assert at > 0.8 * effects
    if case.moves and step == 1:
        assert seen == {False, True}, "the commit point lies between the first effect and the last"
    record_property("fault points", tried)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["error", "kill"])
@pytest.mark.parametrize("name", CASES)
def test_at_every_effect(
    name: str,
    fault: str,
    start: Path,
    models: TinyModels,
    zygote: Zygote,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    try_effects(1, name, fault, start, models, zygote, tmp_path, record_property)


@pytest.mark.parametrize("fault", ["error", "kill"])
@pytest.mark.parametrize("name", CASES)
def test_at_some_effects(
    name: str,
    fault: str,
    start: Path,
    models: TinyModels,
    zygote: Zygote,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    try_effects(SHARE, name, fault, start, models, zygote, tmp_path, record_property)


def check(name: str, case: Case, argv: list[str], root: Path, start: Path, after: State, zygote: Zygote) -> bool:
    """What must hold after a fault; whether the command had happened all the same."""
    if name == "init" and not (root / ".persona").exists():
        assert zygote.run(root, argv)[0] == 0
        check_whole(root)
        return False
    before = after if name == "init" else state(start)
    seen = state(root)[0]  # as a reader sees it, before anything is tidied up
    happened = seen != before[0]
    assert seen == (after[0] if happened else before[0])
    check_whole(root)
    assert state(root) == (after if happened else before)
    if case.out is not None:
        check_build(root / case.out, start / case.out)
    if name == "init" or happened:
        return happened
    if case.out is None or not same_build(root / case.out, root):
        assert zygote.run(root, argv)[0] == 0
    assert state(root) == after
    check_whole(root)
    if case.out is not None:
        assert persona.verify(root / case.out).ok
    return happened


def check_build(folder: Path, old: Path) -> None:
    """The folder is the old one or the new one, and whole; never half of either."""
    if folder.exists():
        assert persona.verify(folder).ok
    else:
        assert not old.exists() or any(folder.parent.glob(f".{folder.name}.tmp-*.replaced"))


def same_build(folder: Path, root: Path) -> bool:
    """Whether the folder is already a build of the commit that we stand on."""
    return folder.exists() and persona.verify(folder).commit == persona.open(root).head()
