"""Pickled weights become safetensors; what would run code is refused and does not run."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import persona
from persona.errors import CheckpointError, Refusal
from tests.models import TinyModels, assert_same, load


def as_pickles(source: Path, folder: Path, shards: int = 1) -> Path:
    """The checkpoint as older trainers wrote it."""
    folder.mkdir()
    tensors = load(source)
    shutil.copy(source / "config.json", folder)
    if shards == 1:
        torch.save(tensors, folder / "pytorch_model.bin")
        return folder
    weight_map = {}
    for number in range(1, shards + 1):
        part = dict(list(tensors.items())[number - 1 :: shards])
        name = f"pytorch_model-{number:05d}-of-{shards:05d}.bin"
        torch.save(part, folder / name)
        weight_map.update(dict.fromkeys(part, name))
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


@pytest.mark.parametrize("shards", [1, 3])
def test_a_folder_of_pickles(models: TinyModels, repo: persona.Repository, tmp_path: Path, shards: int) -> None:
    old = as_pickles(models.run(1), tmp_path / "old", shards)
    done = persona.convert(old, tmp_path / "new")
    assert done.files == ("config.json",)
    assert_same(load(tmp_path / "new"), load(models.run(1)))
    AutoModelForCausalLM.from_pretrained(tmp_path / "new", dtype="auto")
    assert (
        persona.commit(repo, tmp_path / "new", name="a").vector == persona.commit(repo, models.run(1), name="b").vector
    )


@pytest.mark.parametrize("key", ["state_dict", "model", None])
def test_a_file_with_the_tensors_below_a_key(tmp_path: Path, key: str | None) -> None:
    tensors = {
        "w": torch.arange(6.0).reshape(2, 3).t(), "scalar": torch.tensor(1.5, dtype=torch.bfloat16),
        "empty": torch.empty(0, 4), "count": torch.tensor([1, 2]), "flag": torch.tensor([True]),
    }  # fmt: skip
    torch.save({key: tensors, "step": 3} if key else tensors, tmp_path / "old.pt")
    persona.convert(tmp_path / "old.pt", tmp_path / "new")
    assert_same(load(tmp_path / "new"), {name: tensor.contiguous() for name, tensor in tensors.items()})


def test_an_old_file_that_is_no_zip(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(3)}, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    persona.convert(tmp_path / "old.bin", tmp_path / "new")
    assert_same(load(tmp_path / "new"), {"w": torch.ones(3)})


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_an_adapter(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(models.base())
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "run")
    tensors = load(tmp_path / "run")
    (tmp_path / "run" / "adapter_model.safetensors").unlink()
    torch.save(tensors, tmp_path / "run" / "adapter_model.bin")
    with pytest.raises(CheckpointError):
        persona.commit(repo, tmp_path / "run", name="a")
    persona.convert(tmp_path / "run", tmp_path / "safe")
    assert persona.commit(repo, tmp_path / "safe", name="a").form == "lora"


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_refused_and_does_not_run(tmp_path: Path, zipped: bool) -> None:
    mark = tmp_path / "it-ran"
    if zipped:
        torch.save({"w": torch.ones(2), "x": Payload(mark)}, tmp_path / "evil.bin")
    else:
        (tmp_path / "evil.bin").write_bytes(pickle.dumps({"x": Payload(mark)}))
    with pytest.raises(CheckpointError, match="opening it would run code"):
        persona.convert(tmp_path / "evil.bin", tmp_path / "new")
    assert not mark.exists()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle at all", b"PK\x03\x04 but no zip", pickle.dumps([1, 2])])
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(CheckpointError):
        persona.convert(tmp_path / "x.bin", tmp_path / "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.bin"]


def test_an_index_that_leaves_its_folder(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"w": "../x.bin"}}))
    with pytest.raises(CheckpointError, match="not in its folder"):
        persona.convert(tmp_path / "old", tmp_path / "new")


def test_an_existing_folder_is_not_touched(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(3)}, tmp_path / "old.pt")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("x")
    with pytest.raises(Refusal):
        persona.convert(tmp_path / "old.pt", tmp_path / "mine")
