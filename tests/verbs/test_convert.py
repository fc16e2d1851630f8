"""Pickled weights become safetensors; what would run code is refused and does not run."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from peft import LoraConfig, get_peft_model
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from transformers import AutoModelForCausalLM

import persona
from persona.errors import CheckpointError, Refusal, Storage
from tests.models import TinyModels, assert_same, load
from tests.verbs.test_changing_files import At


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


@pytest.mark.parametrize(
    ("name", "keys"), [("mp_rank_00_model_states.pt", ["module"]), ("epoch=1.ckpt", ["state_dict", "model"])]
)
def test_a_folder_with_one_file_of_another_name(tmp_path: Path, name: str, keys: list[str]) -> None:
    tensors = {"w": torch.arange(6.0).reshape(2, 3)}
    nested: dict[str, object] = {**tensors}
    for key in reversed(keys):
        nested = {key: nested, "step": 3}
    (tmp_path / "old").mkdir()
    torch.save(nested, tmp_path / "old" / name)
    torch.save({"state": {}}, tmp_path / "old" / "optimizer.pt")
    persona.convert(tmp_path / "old", tmp_path / "new")
    assert_same(load(tmp_path / "new"), tensors)
    torch.save(nested, tmp_path / "old" / "other.pt")
    with pytest.raises(CheckpointError, match="2 files that may be weights"):
        persona.convert(tmp_path / "old", tmp_path / "newer")


def test_tensors_of_one_storage_and_of_every_stride(tmp_path: Path) -> None:
    whole = torch.arange(60.0).reshape(3, 4, 5)
    tensors = {
        "part": whole[1:, 1:3, ::2], "turned": whole.permute(2, 0, 1), "row": whole[2, 3], "spread": whole[0, :1].expand(4, 5),
        "number": whole[1, 1, 1], "half": whole.half(), "small": torch.ones(3).to(torch.float8_e4m3fn),
    }  # fmt: skip
    torch.save(tensors, tmp_path / "old.pt")
    persona.convert(tmp_path / "old.pt", tmp_path / "new")
    assert_same(load(tmp_path / "new"), {name: tensor.contiguous() for name, tensor in tensors.items()})


def test_signs_and_conjugates_that_views_carry(tmp_path: Path) -> None:
    pairs = torch.tensor([1 + 2j, 3 - 4j], dtype=torch.complex64)
    torch.save({"minus": torch._neg_view(torch.tensor([1.0, -2.0])), "conjugate": pairs.conj()}, tmp_path / "old.pt")
    persona.convert(tmp_path / "old.pt", tmp_path / "new")
    right = {"minus": torch.tensor([-1.0, 2.0]), "conjugate": torch.tensor([1 - 2j, 3 + 4j], dtype=torch.complex64)}
    assert_same(load(tmp_path / "new"), right)


def rezipped(source: Path, change: Callable[[str, bytes], bytes], packed: str = "") -> Path:
    """A copy of the zip file with changed records, of which those with `packed` in their names are compressed."""
    copy = source.with_name("copy.pt")
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            kind = zipfile.ZIP_DEFLATED if packed and packed in name else zipfile.ZIP_STORED
            new.writestr(name, change(name, old.read(name)), compress_type=kind)
    return copy


def test_a_zip_file_that_was_packed_again(tmp_path: Path) -> None:
    """The values of a compressed record are not the bytes in the file."""
    tensors = {"w": torch.arange(12.0).reshape(3, 4), "b": torch.zeros(500)}
    torch.save(tensors, tmp_path / "old.pt")
    persona.convert(rezipped(tmp_path / "old.pt", lambda _, data: data, packed="/"), tmp_path / "new")
    assert_same(load(tmp_path / "new"), tensors)


@pytest.mark.parametrize(
    ("record", "data"), [("/data/0", b"short"), ("/data/0", bytes(5000)), ("/byteorder", b"x" * 500)]
)
def test_a_record_of_another_size(tmp_path: Path, record: str, data: bytes) -> None:
    torch.save({"w": torch.ones(12), "b": torch.ones(500)}, tmp_path / "old.pt")
    copy = rezipped(tmp_path / "old.pt", lambda name, own: data if name.endswith(record) else own)
    with pytest.raises(CheckpointError, match=r"copy\.pt is damaged") as caught:
        persona.convert(copy, tmp_path / "new")
    assert len(caught.value.message) < 300


def test_a_compressed_record_that_is_damaged(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(12)}, tmp_path / "old.pt")
    copy = rezipped(tmp_path / "old.pt", lambda _, data: data, packed="byteorder")
    raw = bytearray(copy.read_bytes())
    at = raw.index(b"/byteorder") + len("/byteorder")
    raw[at : at + 2] = b"\xff\xff"
    copy.write_bytes(raw)
    with pytest.raises(CheckpointError, match="is damaged"):
        persona.convert(copy, tmp_path / "new")


class Rebuilt:
    """Unpickles as a tensor of 12 numbers with a given offset, shape and steps."""

    def __init__(self, *shape: object) -> None:
        self.shape = shape

    def __reduce__(self) -> tuple[object, ...]:
        storage = torch.storage.TypedStorage(
            wrap_storage=torch.arange(12.0).untyped_storage(), dtype=torch.float32, _internal=True
        )
        return torch._utils._rebuild_tensor_v2, (storage, *self.shape, False, OrderedDict())


@pytest.mark.parametrize(
    "shape", [(0, (20,), (1,)), (10, (3,), (1,)), (0, (3,), (9,)), (-5, (3,), (1,)), (0, (3.5,), (1,))]
)
def test_a_tensor_beyond_its_values(
    tmp_path: Path, shape: tuple[object, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    torch.save({"w": torch.ones(500), "x": Rebuilt(*shape)}, tmp_path / "old.pt")
    with pytest.raises(CheckpointError, match=r"old\.pt is damaged"):
        persona.convert(tmp_path / "old.pt", tmp_path / "new")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"w": torch.ones(2), "layers": {"0": torch.ones(3)}}, "layers is not a tensor but contains tensors"),
        ({"w": torch.ones(2), "b": [torch.ones(2)]}, "b is not a tensor but contains tensors"),
        ({1: torch.ones(2), "1": torch.zeros(2)}, "'1' is the name of two tensors"),
        ({"w": torch.ones(2), "__metadata__": torch.ones(2)}, "'__metadata__' cannot be the name"),
        ({"w": torch.ones(2, device="meta")}, "w is on the device 'meta'"),
    ],
)
def test_a_table_that_would_lose_tensors(tmp_path: Path, table: dict[Any, Any], problem: str) -> None:
    torch.save(table, tmp_path / "old.pt")
    with pytest.raises(CheckpointError, match=problem):
        persona.convert(tmp_path / "old.pt", tmp_path / "new")


@pytest.mark.parametrize(
    ("index", "problem"), [({"w": "x.bin", "lost": "x.bin"}, "lacks tensor 'lost'"), ({"w": ["x.bin"]}, "weight_map")]
)
def test_an_index_that_is_wrong(tmp_path: Path, index: dict[str, Any], problem: str) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "x.bin")
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    with pytest.raises(CheckpointError, match=problem):
        persona.convert(tmp_path, tmp_path / "new")


def test_a_pickle_is_not_committed(repo: persona.Repository, tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="is a pickle") as caught:
        persona.commit(repo, tmp_path / "x.pt", name="x")
    assert f"persona convert {tmp_path / 'x.pt'} -o {tmp_path / 'x'}" in caught.value.hint


def test_what_deepspeed_left_elsewhere(tmp_path: Path) -> None:
    torch.save({"module": {"w": torch.empty(0)}}, tmp_path / "zero.pt")
    with pytest.raises(CheckpointError, match="only empty tensors") as caught:
        persona.convert(tmp_path / "zero.pt", tmp_path / "new")
    assert "zero_to_fp32.py" in caught.value.hint


@pytest.mark.parametrize("cut", [True, False])
def test_a_file_that_changes_meanwhile(cut: bool, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(50_000), "b": torch.ones(3)}, tmp_path / "old.pt")

    def change() -> None:
        if cut:
            os.truncate(tmp_path / "old.pt", 5000)
        else:
            torch.save({"a": torch.zeros(50_000), "b": torch.ones(3)}, tmp_path / "old.pt")

    with pytest.raises(Storage, match=r"old.pt changed while it was being read"):
        persona.convert(tmp_path / "old.pt", tmp_path / "new", progress=At("converting", change))
    assert [path.name for path in tmp_path.iterdir()] == ["old.pt"]


@pytest.mark.filterwarnings("ignore")  # torch's own
@pytest.mark.parametrize("keys", [["model"], [], ["app", "model"]])
def test_a_distributed_checkpoint(models: TinyModels, tmp_path: Path, keys: list[str]) -> None:
    tensors = load(models.run(1))
    state: dict[str, Any] = {**tensors}
    for key in reversed(keys):
        state = {key: state}
    if keys:
        state |= {"optim": {"state": {"w": torch.ones(2)}}}
        state = state if keys[0] == "model" else {"app": {**state["app"], "optim": {"step": torch.ones(1)}}}
    dcp.save(state, checkpoint_id=tmp_path / "run" / "pytorch_model_fsdp_0")
    shutil.copy(models.run(1) / "config.json", tmp_path / "run")
    done = persona.convert(tmp_path / "run", tmp_path / "new")
    assert done.files == ("config.json",)
    assert_same(load(tmp_path / "new"), tensors)


def parts(folder: Path) -> Metadata:
    """A tensor whose rows and columns two processes saved, and one that one of them did, with torch's own classes."""
    tensors = {"w": torch.arange(48.0).reshape(6, 8).bfloat16(), "b": torch.arange(3)}
    boxes = {"w": [((0, 0), (3, 8)), ((3, 0), (6, 5)), ((3, 5), (6, 8))], "b": [((0,), (3,))]}
    folder.mkdir()
    listed: dict[str, Any] = {}
    places, paths = {}, {}
    for name, tensor in tensors.items():
        file, data, chunks = f"__{len(listed)}_0.distcp", b"", []
        for start, stop in boxes[name]:
            piece = tensor[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))].clone()
            saved = io.BytesIO()
            torch.save(piece, saved)
            chunks.append(ChunkStorageMetadata(torch.Size(start), piece.shape))
            places[MetadataIndex(f"model.{name}", start)] = _StorageInfo(file, len(data), len(saved.getvalue()))
            data += saved.getvalue()
        (folder / file).write_bytes(data)
        listed[f"model.{name}"] = TensorStorageMetadata(TensorProperties(tensor.dtype), tensor.shape, chunks)
        paths[f"model.{name}"] = ("model", name)
    return Metadata(listed, paths, places)


def test_a_tensor_in_parts(tmp_path: Path) -> None:
    described = parts(tmp_path / "old")
    (tmp_path / "old" / ".metadata").write_bytes(pickle.dumps(described))
    persona.convert(tmp_path / "old", tmp_path / "new")
    wanted = {"w": torch.arange(48.0).reshape(6, 8).bfloat16(), "b": torch.arange(3)}
    assert_same(load(tmp_path / "new"), wanted)


def test_code_in_a_distributed_checkpoint_does_not_run(tmp_path: Path) -> None:
    described = parts(tmp_path / "old")
    described.planner_data = Payload(tmp_path / "it-ran")
    (tmp_path / "old" / ".metadata").write_bytes(pickle.dumps(described))
    persona.convert(tmp_path / "old", tmp_path / "new")
    assert sorted(load(tmp_path / "new")) == ["model.b", "model.w"]
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize(
    "fault", ["cut pickle", "other pickle", "lacks a part", "overlapping", "elsewhere", "cut file", "no tensor"]
)
def test_a_distributed_checkpoint_that_is_wrong(tmp_path: Path, fault: str) -> None:
    described, first = parts(tmp_path / "old"), tmp_path / "old" / "__0_0.distcp"
    tensor = described.state_dict_metadata["model.w"]
    assert isinstance(tensor, TensorStorageMetadata)
    if fault == "lacks a part":
        tensor.chunks.pop()
    elif fault == "overlapping":
        tensor.chunks[1] = tensor.chunks[0]
    elif fault == "elsewhere":
        for place in described.storage_data.values():
            place.relative_path = "../old/__0_0.distcp"
    elif fault == "cut file":
        os.truncate(first, 100)
    elif fault == "no tensor":
        first.write_bytes(bytes(first.stat().st_size))
    data = pickle.dumps({"a": 1} if fault == "other pickle" else described)
    (tmp_path / "old" / ".metadata").write_bytes(data[: len(data) // 2] if fault == "cut pickle" else data)
    with pytest.raises(CheckpointError):
        persona.convert(tmp_path / "old", tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def gguf_file(path: Path, *, quantized: bool, without: str = "") -> Path:
    """A small Llama with a tied head, by the format's own writer."""
    random, kind = np.random.default_rng(0), gguf.GGMLQuantizationType.Q8_0
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(40)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(37))])
    writer.add_token_scores([0.0] * 40)
    writer.add_token_types([2, 3, 3, *[6] * 37])
    shapes = {
        "token_embd": (40, 32), "output_norm": (32,), "blk.0.attn_norm": (32,), "blk.0.ffn_norm": (32,),
        "blk.0.attn_q": (32, 32), "blk.0.attn_k": (16, 32), "blk.0.attn_v": (16, 32), "blk.0.attn_output": (32, 32),
        "blk.0.ffn_gate": (64, 32), "blk.0.ffn_up": (64, 32), "blk.0.ffn_down": (32, 64),
    }  # fmt: skip
    shapes.pop(without, None)
    for name, shape in shapes.items():
        values = random.normal(size=shape).astype(np.float32)
        if quantized and len(shape) == 2:
            writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.filterwarnings("ignore")  # transformers' own
@pytest.mark.parametrize("quantized", [True, False])
def test_a_gguf_file(tmp_path: Path, quantized: bool) -> None:
    (tmp_path / "old").mkdir()
    file = gguf_file(tmp_path / "old" / "tiny.gguf", quantized=quantized)
    done = persona.convert(file if quantized else file.parent, tmp_path / "new")
    assert "dequantized to fp32" in done.notes[0]
    assert {"config.json", "tokenizer.json"} <= set(done.files)
    wanted = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "new", dtype="auto")
    assert_same(dict(model.named_parameters()), dict(wanted.named_parameters()))
    assert "lm_head.weight" not in load(tmp_path / "new")
    persona.init(tmp_path / "r", tmp_path / "new")


@pytest.mark.filterwarnings("ignore")  # transformers' own
def test_a_gguf_file_without_a_weight(tmp_path: Path) -> None:
    """transformers makes up its values."""
    file = gguf_file(tmp_path / "x.gguf", quantized=False, without="output_norm")
    with pytest.raises(CheckpointError, match=r"x\.gguf has no values for model\.norm\.weight"):
        persona.convert(file, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(CheckpointError, match=r"x\.gguf"):
        persona.convert(tmp_path / "x.gguf", tmp_path / "new")
