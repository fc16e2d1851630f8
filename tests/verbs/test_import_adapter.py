"""``import-adapter`` commits every adapter that it finds, or none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import persona
from persona.errors import CheckpointError, UsageError
from tests.verbs.conftest import A, L

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's and transformers' own


def test_a_folder_of_adapters(around: persona.Repository, adapted: Path, tmp_path: Path) -> None:
    many = tmp_path / "adapters"
    for name in ("calm", "my voice!", "late/checkpoint-2", "late/checkpoint-10"):
        shutil.copytree(adapted / L, many / name)
    (many / "notes").mkdir()
    listed = persona.import_adapter(around, [many], dry_run=True)
    assert listed.recorded is None
    assert not persona.vectors(around)
    done = persona.import_adapter(around, [many], alpha=0.5, author="Test")
    assert [(one.name, one.folder.name) for one in done.adapters] == [
        ("calm", "calm"), ("late", "checkpoint-10"), ("my-voice", "my voice!")
    ]  # fmt: skip
    assert {one.alpha for one in persona.vectors(around)} == {0.5}
    assert persona.show(around, "late").run["checkpoint"] == "checkpoint-10"
    assert persona.import_adapter(around, [many]).recorded is None
    persona.undo(around)
    assert not persona.vectors(around)


def test_adapters_that_do_not_fit(around: persona.Repository, adapted: Path, tmp_path: Path) -> None:
    many = tmp_path / "adapters"
    shutil.copytree(adapted / L, many / "good")
    shutil.copytree(adapted / L, many / "bad")
    (many / "bad" / "adapter_model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="bad"):
        persona.import_adapter(around, [many])
    assert not persona.vectors(around)
    done = persona.import_adapter(around, [many], skip_bad=True)
    assert [one.name for one in done.adapters] == ["good"]
    assert [one.folder.name for one in done.left_out] == ["bad"]
    with pytest.raises(CheckpointError, match="none of the 1"):
        persona.import_adapter(around, [many / "bad"], skip_bad=True)
    shutil.copytree(adapted / L, tmp_path / "more" / "good")
    with pytest.raises(UsageError, match="would both be vector 'good'"):
        persona.import_adapter(around, [many / "good", tmp_path / "more"])
    with pytest.raises(CheckpointError, match="no adapter in"):
        persona.import_adapter(around, [adapted / A])
