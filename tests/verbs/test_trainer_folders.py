"""Folders as trainers and download tools leave them: what is taken, and what is said about the others."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import persona
from persona.checkpoints import hub
from persona.checkpoints.folder import find_run, locate, open_checkpoint
from persona.errors import CheckpointError, PersonaError
from tests.models import TinyModels, assert_same, load

ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


def touch(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def copy(source: Path, target: Path, *names: str) -> Path:
    target.mkdir(parents=True, exist_ok=True)
    for name in names or [path.name for path in source.iterdir() if path.is_file()]:
        shutil.copy(source / name, target)
    return target


@pytest.mark.parametrize(
    ("files", "what", "hint"),
    [
        (["checkpoint-5/pytorch_model_fsdp_0/__0_0.distcp", "checkpoint-5/pytorch_model_fsdp_0/.metadata"],
         "checkpoint-5 has sharded FSDP weights in pytorch_model_fsdp_0", "persona convert {run}/checkpoint-5 -o"),
        (["__0_0.distcp", ".metadata"], "has sharded FSDP weights, which", "persona convert {run} -o {run}-safe"),
        (["pytorch_model_fsdp_0/__0_0.distcp"], "no .metadata, which is written last", "use another checkpoint"),
        (["checkpoint-5/global_step5/x_model_states.pt", "checkpoint-5/zero_to_fp32.py", "checkpoint-5/latest"],
         "checkpoint-5 has sharded DeepSpeed weights", "python {run}/checkpoint-5/zero_to_fp32.py {run}/checkpoint-5"),
        (["a/adapter_config.json", "b/adapter_config.json"], "has adapters in its folders a, b",
         "persona import-adapter {run}"),
        (["tone/adapter_config.json"], "has an adapter in its folder tone", "Give that folder: {run}/tone"),
        (["model-q4.gguf"], "contains model-q4.gguf", "persona convert {run}/model-q4.gguf -o {run}/model-q4"),
        (["snapshots/abc/config.json"], "is a folder of the hub cache", "{run}/snapshots/abc"),
        (["ckpt.pt", "optimizer.pt"], "contains ckpt.pt but no safetensors", "persona convert {run} -o {run}-safe"),
        (["best/model.safetensors"], "folders in it have weights", "{run}/best"),
        (["config.json"], "is not a checkpoint", "Give a folder"),
    ],
)  # fmt: skip
def test_a_folder_without_weights_is_named(files: list[str], what: str, hint: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for file in files:
        touch(run / file)
    with pytest.raises(CheckpointError) as caught:
        find_run(run)
    assert what in caught.value.message
    assert hint.format(run=run) in caught.value.hint


def test_files_in_place_of_folders(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a GGUF file") as caught:
        find_run(touch(tmp_path / "m.gguf"))
    assert f"persona convert {tmp_path}/m.gguf" in caught.value.hint
    with pytest.raises(CheckpointError, match="is a file") as caught:
        find_run(touch(tmp_path / "model.safetensors"))
    assert str(tmp_path) in caught.value.hint


def test_full_weights_and_an_adapter_in_one_folder(
    models: TinyModels, adapter: Path, repo: persona.Repository, tmp_path: Path
) -> None:
    both = copy(adapter, copy(models.run(1), tmp_path / "both"), *ADAPTER)
    with pytest.raises(CheckpointError, match="either could be meant") as caught:
        persona.commit(repo, both, name="a")
    assert f"persona import-adapter {both}" in caught.value.hint
    assert persona.import_adapter(repo, [both]).adapters[0].name == "both"
    for name in ADAPTER:
        (both / name).unlink()
    assert persona.commit(repo, both, name="a").form == "dense"


def test_weights_that_only_an_older_checkpoint_has(adapter: Path, repo: persona.Repository, tmp_path: Path) -> None:
    copy(adapter, tmp_path / "run", ADAPTER[0])  # written when training began
    copy(adapter, tmp_path / "run" / "checkpoint-10", *ADAPTER)
    copy(adapter, tmp_path / "run" / "checkpoint-20", ADAPTER[0])
    done = persona.commit(repo, tmp_path / "run", name="a")
    assert done.form == "lora"
    assert done.notes[0] == "checkpoint-20 has no weights that persona can read: checkpoint-10 was used"


def test_what_persona_train_wrote(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    run = tmp_path / "voice"
    touch(run / "run.json", "{}")
    copy(models.run(2), run / "checkpoints" / "checkpoint-10")
    found = locate(run)
    assert found.folder == run / "checkpoints" / "checkpoint-10"
    assert "is not finished" in found.notes[0]
    copy(models.run(1), run / "final")
    done = persona.commit(repo, run)
    assert (done.name, done.notes) == ("voice", ())
    assert done.vector == persona.commit(repo, models.run(1), name="same").vector


def test_config_and_tokenizer_above_a_checkpoint(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    run = tmp_path / "run"
    copy(models.run(1), run / "checkpoint-3", "model.safetensors")
    changed = json.loads((models.run(1) / "config.json").read_text()) | {"rope_theta": 5.0}
    touch(run / "config.json", json.dumps(changed))
    touch(run / "tokenizer_config.json", json.dumps({"model_max_length": 7}))
    touch(run / "notes.json", "{}")
    opened = open_checkpoint(run / "checkpoint-3")
    assert sorted(opened.side_files) == ["config.json", "tokenizer_config.json"]
    assert opened.config["rope_theta"] == 5.0
    assert opened.notes == (f"config.json, tokenizer_config.json of {run}, as checkpoint-3 has none",)
    copy(models.run(1), run / "checkpoint-3", "config.json")
    assert sorted(open_checkpoint(run / "checkpoint-3").side_files) == ["config.json", "tokenizer_config.json"]
    assert open_checkpoint(run / "checkpoint-3").config == json.loads((models.run(1) / "config.json").read_text())


@pytest.mark.parametrize("equal", [True, False])
def test_a_tensor_in_two_shards(equal: bool, models: TinyModels, tmp_path: Path) -> None:
    tensors = load_file(models.run(1) / "model.safetensors")
    names = list(tensors)
    first, second = tmp_path / "model-00001-of-00002.safetensors", tmp_path / "model-00002-of-00002.safetensors"
    twice = tensors[names[0]].clone() if equal else tensors[names[0]] + 1
    save_file({name: tensors[name] for name in names[:5]}, first)
    save_file({name: tensors[name] for name in names[5:]} | {names[0]: twice}, second)
    files = dict.fromkeys(names[:5], first.name) | dict.fromkeys(names[5:], second.name) | {names[0]: second.name}
    with pytest.raises(CheckpointError, match="twice"):
        open_checkpoint(tmp_path)  # no index says which
    touch(tmp_path / "model.safetensors.index.json", json.dumps({"weight_map": files}))
    if equal:
        assert open_checkpoint(tmp_path).owner[names[0]].path == second
    else:
        with pytest.raises(CheckpointError, match="twice"):
            open_checkpoint(tmp_path)


def test_a_run_of_empty_tensors(models: TinyModels, tmp_path: Path) -> None:
    names = load_file(models.run(1) / "model.safetensors")
    save_file({name: torch.empty(0) for name in names}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="only empty tensors") as caught:
        open_checkpoint(tmp_path)
    assert "zero_to_fp32.py" in caught.value.hint


def test_a_pointer_in_place_of_weights(models: TinyModels, tmp_path: Path) -> None:
    copy(models.base(), tmp_path / "base")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 988097824\n"
    touch(tmp_path / "base" / "model.safetensors", pointer)
    with pytest.raises(CheckpointError, match=r"model.safetensors is a git-lfs pointer") as caught:
        persona.init(tmp_path / "r", tmp_path / "base")
    assert "lfs pull" in caught.value.hint
    with pytest.raises(CheckpointError, match="git-lfs pointer"):
        persona.convert(touch(tmp_path / "pytorch_model.bin", pointer), tmp_path / "out")


def linked(source: Path, target: Path, cache: str) -> Path:
    """A checkpoint whose files are links into a cache."""
    target.mkdir(parents=True)
    for number, path in enumerate(sorted(source.iterdir())):
        place = target.parents[2] / cache.format(number=number)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
        (target / path.name).symlink_to(place)
    return target


@pytest.mark.parametrize(
    "cache",
    [
        "hub/models--a--b/blobs/{number:040x}",
        "shared/files/md5/ab/{number:030x}",
        "repo/.dvc/cache/ab/{number:030x}",
        "repo/.git/annex/objects/x/y/SHA256E-s1--{number:064x}.json/SHA256E-s1--{number:064x}.json",
    ],
)
def test_links_into_caches_are_followed(cache: str, models: TinyModels, tmp_path: Path) -> None:
    base = linked(models.base(), tmp_path / "hub" / "models--a--b" / "snapshots" / "r1" / "model", cache)
    persona.init(tmp_path / "r", base)
    persona.build(persona.open(tmp_path / "r"), tmp_path / "out")
    assert_same(load(tmp_path / "out"), load(models.base()))


@pytest.mark.parametrize(
    "cache", ["cache/{number:040x}", "files/md5/ab/key-{number}", "models--a--b/refs/{number:040x}"]
)
def test_links_to_other_files_are_not(cache: str, models: TinyModels, tmp_path: Path) -> None:
    base = linked(models.base(), tmp_path / "a" / "b" / "base", cache)
    with pytest.raises(CheckpointError, match="outside its folder"):
        persona.init(tmp_path / "r", base)


def test_a_model_of_the_hub_by_its_id(models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "hub" / "models--Org--Tiny-1"
    copy(models.base(), place / "snapshots" / ("a" * 40))
    touch(place / "refs" / "main", "a" * 40)
    assert hub.cached(Path("Org/Tiny-1")) == place / "snapshots" / ("a" * 40)
    done = persona.init("r", "Org/Tiny-1")
    assert done.base_name == "tiny-1"
    with pytest.raises(CheckpointError, match="Org/Other does not exist") as caught:
        persona.init("s", "Org/Other")
    assert "hf download Org/Other" in caught.value.hint
    for wrong in ("/Org/Tiny-1", "Org", "./Org/Tiny-1x", "a/b/c", ".."):
        assert hub.cached(Path(wrong)) is None


def test_a_run_that_is_a_named_pipe_or_missing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "none"):
        with pytest.raises(PersonaError):
            find_run(path)
