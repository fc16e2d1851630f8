"""A repository of several people: the modes of its files, whatever the umask of who writes."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import persona
from persona.errors import UsageError
from persona.sharing import widened
from tests.cli.conftest import Run
from tests.cli.conftest import run as run  # the fixture
from tests.models import TinyModels

MODES = {"umask": (0o600, 0o700), "group": (0o660, 0o2770), "all": (0o664, 0o2775)}
"""Of files and folders, by what is shared, under the umask of people who share nothing."""


@pytest.fixture(autouse=True)
def _strict() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def modes_of(root: Path) -> dict[str, int]:
    """The modes of persona.toml and of everything in .persona."""
    paths = [root / "persona.toml", root / ".persona", *sorted((root / ".persona").rglob("*"))]
    return {path.relative_to(root).as_posix(): stat.S_IMODE(path.lstat().st_mode) for path in paths}


def assert_modes(root: Path, shared: str) -> None:
    file, folder = MODES[shared]
    found = modes_of(root)
    assert found == {name: folder if (root / name).is_dir() else file for name in found}


@pytest.mark.parametrize("shared", MODES)
def test_every_file_has_the_modes_that_the_repository_says(
    models: TinyModels, tmp_path: Path, run: Run, shared: str
) -> None:
    """Objects, packs, refs, the log, the lock, what was measured, what gc writes anew."""
    options = [] if shared == "umask" else [f"--shared={shared}"]
    assert run(tmp_path, "init", "--base", models.base(), *options, "new/work").code == 0
    root = tmp_path / "new" / "work"
    assert stat.S_IMODE(root.stat().st_mode) == MODES[shared][1]
    assert stat.S_IMODE(root.parent.stat().st_mode) == 0o700, "it is none of the repository's"
    repo = persona.open(root)
    persona.commit(repo, models.run(1), name="a")
    persona.bake(repo, ["a"], name="b")
    persona.switch(repo, "team/warm", create=True)
    persona.tag(repo, "v1")
    persona.alpha(repo, {"b": 0.5})
    persona.undo(repo)
    persona.gc(repo, grace=0)
    assert_modes(root, shared)


def test_it_is_a_setting_of_the_repository(models: TinyModels, tmp_path: Path) -> None:
    """As after `git config core.sharedRepository`: what is written from then on."""
    persona.init(tmp_path, models.base())
    (tmp_path / ".persona" / "config.toml").write_text("[core]\nshared = true\n")
    repo = persona.open(tmp_path)
    persona.switch(repo, "team/warm", create=True)
    found = modes_of(tmp_path)
    assert (found[".persona/refs/heads/team"], found[".persona/refs/heads/team/warm"]) == (0o2770, 0o660)
    assert (found[".persona/op/head"], found[".persona/lock"], found[".persona/format"]) == (0o660, 0o660, 0o600)
    (tmp_path / ".persona" / "config.toml").write_text("[core]\nshared = false\n")
    persona.tag(repo, "v1")
    assert modes_of(tmp_path)[".persona/refs/tags/v1"] == 0o600


def test_a_users_own_files_are_left_alone(models: TinyModels, tmp_path: Path, run: Run) -> None:
    """A base that is linked, a build, and a folder that was there before."""
    base = Path(shutil.copytree(models.base(), tmp_path / "base"))
    (base / "model.safetensors").chmod(0o600)
    (tmp_path / "work").mkdir()
    done = persona.init(tmp_path / "work", base, keep="link", shared="group")
    assert [note for note in done.notes if "chmod g+rwxs" in note]
    persona.build(persona.open(tmp_path / "work"), tmp_path / "out")
    assert stat.S_IMODE((base / "model.safetensors").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "work").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("mode", "more", "wanted"),
    [
        (stat.S_IFREG | 0o600, 0o660, 0o660),
        (stat.S_IFREG | 0o644, 0o660, 0o664),
        (stat.S_IFREG | 0o400, 0o660, 0o440),  # read-only stays read-only
        (stat.S_IFREG | 0o444, 0o664, 0o444),
        (stat.S_IFREG | 0o666, 0o660, 0o666),  # never narrower
        (stat.S_IFDIR | 0o700, 0o660, 0o2770),
        (stat.S_IFDIR | 0o755, 0o660, 0o2775),
        (stat.S_IFDIR | 0o700, 0o664, 0o2775),
        (stat.S_IFDIR | 0o755, 0, 0o755),
    ],
)
def test_modes_are_gits(mode: int, more: int, wanted: int) -> None:
    """What `git init --shared` makes of them, worked out by its rules."""
    assert oct(widened(mode, more)) == oct(wanted)


@pytest.mark.parametrize("text", ['[core]\nshared = "everyone"', "[core]\nshared = 2", "core = 1", "[core\n"])
def test_a_wrong_setting_is_named_before_anything_is_written(models: TinyModels, tmp_path: Path, text: str) -> None:
    persona.init(tmp_path, models.base(), shared="group")
    (tmp_path / ".persona" / "config.toml").write_text(text)
    before = modes_of(tmp_path)
    with pytest.raises(UsageError, match=r"config\.toml"):
        persona.tag(persona.open(tmp_path), "v1")
    assert modes_of(tmp_path) == before
    assert persona.log(persona.open(tmp_path))
    with pytest.raises(UsageError, match="unknown shared"):
        persona.init(tmp_path / "other", models.base(), shared="some")  # type: ignore[arg-type]


def test_shared_does_not_take_the_folder_for_its_value(models: TinyModels, tmp_path: Path, run: Run) -> None:
    assert run(tmp_path, "init", "--base", models.base(), "--shared", "all").code == 0
    assert_modes(tmp_path / "all", "group")
    assert run(tmp_path, "init", "--base", models.base(), "--shared=some", "x").code == 2
