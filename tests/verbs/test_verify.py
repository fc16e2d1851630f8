"""``verify``: a built folder is what its receipt says. Flipped bytes: tests/cli/test_errors.py; adapters and readouts: test_build_*.py."""

from __future__ import annotations

from pathlib import Path

import pytest

import persona
from persona.errors import CheckpointError, NotVerified
from tests.models import TinyModels, load


@pytest.fixture
def out(added: persona.Repository, tmp_path: Path) -> Path:
    persona.build(added, tmp_path / "out")
    return tmp_path / "out"


def test_a_build_is_what_its_receipt_says(added: persona.Repository, out: Path, models: TinyModels) -> None:
    done = persona.verify(out)
    assert (done.ok, done.differences, done.folder, done.edited) == (True, (), out, False)
    assert (done.commit, done.tensors) == (added.head(), len(load(models.base())))
    assert done.recipe == added.recipe(added.head())


def test_every_change_is_named(out: Path) -> None:
    config = out / "config.json"
    config.write_bytes(config.read_bytes() + b" ")
    (out / "more.txt").write_text("x")
    done = persona.verify(out)
    assert not done.ok
    assert [one.what for one in done.differences] == ["config.json", "more.txt"]


def test_a_folder_without_a_receipt(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no persona\.json") as caught:
        persona.verify(tmp_path)
    assert caught.value.hint == "Give a folder that 'persona build' wrote."


def test_a_receipt_that_was_changed(out: Path) -> None:
    receipt = out / "persona.json"
    receipt.write_bytes(receipt.read_bytes().replace(b'"a"', b'"b"', 1))
    with pytest.raises(NotVerified, match=r"persona\.json was changed after the build") as caught:
        persona.verify(out)
    assert caught.value.hint == "Build again: this folder cannot be verified."
