"""Files that are cut short, written to or replaced while a command reads them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import persona
from persona.errors import CheckpointError, Damaged, Storage
from persona.progress import Silent, Task
from tests.models import TinyModels, assert_same, load

WEIGHTS = "model.safetensors"


class At(Silent):
    """Does something to a folder when the task ``label`` begins or ends."""

    def __init__(self, label: str, act: Callable[[], None], *, end: bool = False) -> None:
        self.label, self.act, self.end = label, act, end
        self.acted = False

    @contextmanager
    def task(self, label: str, total: int, unit: str = "bytes") -> Iterator[Task]:
        with super().task(label, total, unit) as task:
            if label == self.label and not self.end:
                self._do()
            yield task
            if label == self.label and self.end:
                self._do()

    def _do(self) -> None:
        self.act()
        self.acted = True


def cut(path: Path) -> None:
    os.truncate(path, 20_000)


def write_over(path: Path) -> None:
    """Other bytes in the same file: the first half, which other tensors than the last ones are in."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 3)
        file.write(bytes(4000))


def replace(path: Path) -> None:
    """The same bytes in a new file, as programs do that write beside it and rename."""
    shutil.copy2(path, path.with_suffix(".new"))
    path.with_suffix(".new").rename(path)


def remove(path: Path) -> None:
    path.unlink()


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "lock"}


@pytest.mark.parametrize(
    ("label", "end", "file", "act"),
    [
        ("comparing with the base", False, WEIGHTS, cut),
        ("storing what changed", False, WEIGHTS, cut),
        ("storing what changed", True, WEIGHTS, write_over),
        ("comparing with the base", False, WEIGHTS, replace),
        ("comparing with the base", True, "config.json", write_over),
        ("storing what changed", True, "generation_config.json", remove),
    ],
)
def test_a_run_that_changes_is_not_recorded(
    label: str,
    end: bool,
    file: str,
    act: Callable[[Path], None],
    models: TinyModels,
    repo: persona.Repository,
    tmp_path: Path,
) -> None:
    run = shutil.copytree(models.run(1), tmp_path / "run")
    before = everything(repo.folder)
    at = At(label, lambda: act(run / file), end=end)
    with pytest.raises(Storage, match=f"{run / file} changed while it was being read") as caught:
        persona.commit(repo, run, progress=at)
    assert at.acted
    assert "run the command again" in caught.value.hint
    assert everything(repo.folder) == before


@pytest.mark.parametrize("act", [cut, write_over])
def test_an_adapter_that_changes_is_not_recorded(
    act: Callable[[Path], None], adapter: Path, repo: persona.Repository, tmp_path: Path
) -> None:
    run = shutil.copytree(adapter, tmp_path / "adapter")
    weights = run / "adapter_model.safetensors"
    before = everything(repo.folder)
    change = (lambda: os.truncate(weights, 4000)) if act is cut else (lambda: act(weights))
    with pytest.raises(Storage, match="changed while it was being read"):
        persona.commit(repo, run, progress=At("storing the adapter", change, end=act is write_over))
    assert everything(repo.folder) == before


@pytest.mark.parametrize("keep", ["copy", "link", "reference"])
@pytest.mark.parametrize("act", [cut, write_over])
def test_a_base_that_changes_leaves_no_repository(
    act: Callable[[Path], None], keep: str, models: TinyModels, tmp_path: Path
) -> None:
    base = shutil.copytree(models.base(), tmp_path / "base")
    at = At("storing the base", lambda: act(base / WEIGHTS), end=act is write_over)
    with pytest.raises((Storage, CheckpointError), match=f"{base / WEIGHTS} (changed while it was|is truncated)"):
        persona.init(tmp_path / "r", base, keep=keep, progress=at)  # type: ignore[arg-type]
    assert list((tmp_path / "r").iterdir()) == []


@pytest.fixture
def committed(models: TinyModels, tmp_path: Path) -> Callable[[str], tuple[persona.Repository, Path]]:
    """A repository with a vector, whose base is kept in a way, and the file that this puts into danger."""

    def make(kind: str) -> tuple[persona.Repository, Path]:
        base = shutil.copytree(models.base(), tmp_path / "base")
        persona.init(tmp_path / "r", base, keep="copy" if kind == "pack" else kind)  # type: ignore[arg-type]
        persona.commit(persona.open(tmp_path / "r"), models.run(1), name="a")
        packs = tmp_path / "r" / ".persona" / "packs"
        places = {"reference": base, "copy": packs, "pack": packs}
        if kind != "pack":
            return persona.open(tmp_path / "r"), next(places[kind].glob("*.safetensors"))
        return persona.open(tmp_path / "r"), max(packs.glob("*.pack"), key=lambda path: path.stat().st_size)

    return make


@pytest.mark.parametrize("kind", ["copy", "reference", "pack"])
def test_a_stored_file_that_is_cut_during_a_build_is_named(
    kind: str, committed: Callable[[str], tuple[persona.Repository, Path]], tmp_path: Path
) -> None:
    repo, file = committed(kind)
    with pytest.raises(Damaged, match=f"{file} is shorter than it was when it was opened"):
        persona.build(repo, tmp_path / "out", progress=At("building", lambda: os.truncate(file, 4000)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["copy", "reference", "pack"])
def test_a_stored_file_that_is_cut_during_fsck_is_reported(
    kind: str, committed: Callable[[str], tuple[persona.Repository, Path]]
) -> None:
    repo, file = committed(kind)
    report = persona.fsck(repo, progress=At("reading tensors", lambda: os.truncate(file, 4000)))
    assert not report.ok
    assert any("is shorter than it was" in lost.why for lost in report.lost)


def test_a_build_that_is_cut_while_it_is_verified(repo: persona.Repository, tmp_path: Path) -> None:
    persona.build(repo, tmp_path / "out")
    with pytest.raises(Storage, match=f"{tmp_path / 'out' / WEIGHTS} changed while it was being read"):
        persona.verify(tmp_path / "out", progress=At("verifying", lambda: cut(tmp_path / "out" / WEIGHTS)))


def test_a_stored_file_that_is_deleted_during_a_build_is_still_read(models: TinyModels, tmp_path: Path) -> None:
    base = shutil.copytree(models.base(), tmp_path / "base")
    persona.init(tmp_path / "r", base, keep="reference")
    repo = persona.open(tmp_path / "r")
    persona.commit(repo, models.run(1), name="a")
    for name in repo.base(repo.recipe(repo.head()).base_id).tensors.values():
        repo.tensors.read(name.id)  # opens the file
    persona.build(repo, tmp_path / "out", progress=At("building", lambda: remove(base / WEIGHTS)))
    assert_same(load(tmp_path / "out"), load(models.run(1)))
