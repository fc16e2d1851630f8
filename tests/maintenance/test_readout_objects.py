"""Readouts are kept as long as a commit needs them, collected afterwards; a loss is found, blamed and healed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import persona
from persona.errors import Damaged
from persona.ids import ReadoutId
from persona.store.readouts import StoredReadout
from persona.verbs.branch import delete_branches
from persona.workspace.readouts import load_readout
from tests.maintenance.conftest import flip, flip_tensor, objects_of
from tests.models import TinyModels
from tests.readout.handmade import handmade, written


@dataclass(frozen=True)
class Measured:
    """A repository with a vector and a readout, and the folder that the readout came from."""

    repo: persona.Repository
    folder: Path
    readout: ReadoutId

    @property
    def stored(self) -> StoredReadout:
        return StoredReadout.get(self.repo.objects, self.readout)


@pytest.fixture
def measured(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> Measured:
    persona.commit(repo, models.run(1), name="a", author="Test")
    told = {"base": repo.recipe(repo.head()).base, "revision": repo.head()}
    folder = written(tmp_path / "mood", handmade(**told))
    return Measured(repo, folder, persona.commit_readout(repo, folder, author="Test").readout)


def reopened(one: Measured) -> persona.Repository:
    return persona.open(one.repo.root)


def test_what_a_live_recipe_needs_stays(measured: Measured) -> None:
    persona.rm(measured.repo, ["mood"], author="Test")
    assert persona.gc(measured.repo, grace=0).objects == 0, "history needs it"
    assert persona.fsck(measured.repo).ok
    load_readout(reopened(measured), measured.readout)


def test_what_nothing_needs_goes(measured: Measured) -> None:
    repo = measured.repo
    persona.undo(repo)
    assert persona.gc(repo, grace=30).objects == 0, "what was undone lately can be redone"
    assert persona.gc(repo, grace=0).objects >= 3, "commit, recipe and readout"
    assert objects_of(repo, "readout") == []
    dtypes = {spec.dtype for volume in reopened(measured).tensors.volumes() for spec in volume.tensors.values()}
    assert dtypes == {"BF16"}, "its directions are gone, and no weight is"
    assert persona.fsck(repo).ok


def test_a_quoted_beginning_of_its_id_keeps_it(measured: Measured) -> None:
    repo = measured.repo
    text = repo.head_text()
    persona.undo(repo)
    repo.recipe_path.write_text(text.replace(measured.readout[:12], measured.readout[:6]))
    persona.gc(repo, grace=0)
    load_readout(reopened(measured), measured.readout)
    assert persona.commit(repo, author="Test").recorded is not None
    assert repo.recipe(repo.head()).names["mood"] == measured.readout


def test_the_revision_that_it_was_captured_on_stays_with_it(measured: Measured, models: TinyModels) -> None:
    """On a branch that is gone; and one that this repository never had is no loss."""
    repo = measured.repo
    persona.switch(repo, "side", create=True)
    persona.commit(repo, models.run(2), name="b", author="Test")
    captured = repo.head()
    persona.switch(repo, "main")
    delete_branches(repo, ["side"], force=True)
    folder = written(repo.root / "again", handmade(base=measured.stored.base, revision=captured, seed=1))
    persona.commit_readout(repo, folder, name="mood", author="Test")
    persona.gc(repo, grace=0)
    assert persona.status(repo).readouts[0].since == ("b",)
    elsewhere = written(repo.root / "other", handmade(base=measured.stored.base, revision="cd" * 32, seed=2))
    persona.commit_readout(repo, elsewhere, name="mood", author="Test")
    assert persona.fsck(repo).ok
    persona.gc(repo, grace=0)
    assert persona.fsck(repo).ok


def test_a_flipped_bit_in_a_direction(measured: Measured, tmp_path: Path) -> None:
    """Found, blamed on the readout and its commit alone, and healed from the folder that it came from."""
    repo, spec = measured.repo, measured.stored.tensors[1]
    flip_tensor(repo, spec.id)
    found = persona.fsck(reopened(measured))
    [loss] = found.lost
    assert (loss.kind, str(loss.id), loss.vectors) == ("tensor", spec.id, ("mood",))
    assert [one.subject for one in loss.commits] == ["add readout mood"]
    with pytest.raises(Damaged, match=f"tensor {spec.id} is damaged"):
        persona.build(reopened(measured), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert persona.status(reopened(measured)).readouts[0].name == "mood"
    persona.fsck(reopened(measured), repair_from=measured.folder)
    assert persona.fsck(reopened(measured)).ok
    load_readout(reopened(measured), measured.readout)


def test_it_is_healed_from_a_build_as_well(measured: Measured, tmp_path: Path) -> None:
    persona.build(measured.repo, tmp_path / "out")
    flip_tensor(measured.repo, measured.stored.tensors[0].id)
    persona.fsck(reopened(measured), repair_from=tmp_path / "out" / "readouts" / "mood")
    assert persona.fsck(reopened(measured)).ok


def _lose(path: Path) -> None:
    path.unlink()


def _flip(path: Path) -> None:
    flip(path, path.read_bytes().index(b'"about"') + 12)


@pytest.mark.parametrize("harm", [_lose, _flip])
def test_a_lost_object(measured: Measured, harm: Callable[[Path], None]) -> None:
    [path] = objects_of(measured.repo, "readout")
    kept = path.read_bytes()
    harm(path)
    found = persona.fsck(reopened(measured))
    [loss] = found.lost
    assert (loss.kind, str(loss.id), loss.vectors) == ("readout", measured.readout, ("mood",))
    assert len(loss.commits) == 1
    for look in (persona.status, lambda repo: persona.show(repo, "mood"), lambda repo: persona.gc(repo, grace=0)):
        with pytest.raises(Damaged, match=r"readout .* is (missing|damaged)"):
            look(reopened(measured))
    path.write_bytes(kept)
    assert persona.fsck(reopened(measured)).ok


def test_a_readout_outlives_the_loss_of_base_tensors(measured: Measured) -> None:
    """Its directions are its own: what is lost of the base is not blamed on it."""
    base = measured.repo.base(measured.stored.base)
    flip_tensor(measured.repo, base.tensors["model.layers.0.mlp.up_proj.weight"].id)
    assert {loss.vectors for loss in persona.fsck(reopened(measured)).lost} == {("a",)}
    shutil.rmtree(measured.folder)
    load_readout(reopened(measured), measured.readout)
