"""A run under other names than its base: what it becomes must be what ``save_pretrained`` writes under the base's names."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from persona.checkpoints.alignment import Aligned, aligned
from persona.checkpoints.folder import open_checkpoint
from persona.checkpoints.ties import tied_names
from persona.errors import CheckpointError
from tests.families import FAMILIES, tiny

Tensors = dict[str, torch.Tensor]
RENAMED = ["GPT-2", "BLOOM", "OPT", "BERT", "LLaVA", "Qwen2-VL", "Qwen2.5-VL", "PaliGemma", "ViT"]
STACKED = [
    "Mixtral",
    "Qwen2-MoE",
    "Qwen3-MoE",
    "OLMoE",
    "DeepSeek-V3",
    "GLM 4 MoE",
    "Granite MoE",
    "Jamba",
    "Qwen3-Next",
]


def hub_names(family: str, folder: Path, seed: int) -> Tensors:
    """The model as ``save_pretrained`` writes it."""
    tiny(family, seed).save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def module_names(family: str, folder: Path, seed: int) -> None:
    """The model as a training loop writes its state dict: tied tensors once, everything under the modules' names."""
    model = tiny(family, seed)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    once = {id(weight): name for name, weight in reversed(list(model.state_dict(keep_vars=True).items()))}
    state = {name: weight for name, weight in model.state_dict(keep_vars=True).items() if once[id(weight)] == name}
    save_file({name: weight.detach().contiguous() for name, weight in state.items()}, folder / "model.safetensors")


def names_of(folder: Path) -> dict[str, tuple[int, ...]]:
    return {name: info.shape for name, info in open_checkpoint(folder).tensors.items()}


def align(run: Path, base: Path) -> Aligned:
    config = json.loads((base / "config.json").read_text())
    names = names_of(base)
    return aligned(open_checkpoint(run), names, tied_names(config, names), config)


def tensors_of(run: Aligned, like: Mapping[str, torch.Tensor]) -> Tensors:
    found = {}
    for name, info in run.checkpoint.tensors.items():
        data = torch.from_numpy(run.checkpoint.owner[name].data(info).copy())
        found[name] = data.view(like[name].dtype).reshape(info.shape)
    return found


def check_same(found: Tensors, wanted: Tensors) -> None:
    assert sorted(found) == sorted(wanted)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_state_dict_gets_the_names_of_a_saved_base(family: str, tmp_path: Path) -> None:
    hub_names(family, tmp_path / "base", 1)
    wanted = hub_names(family, tmp_path / "wanted", 2)
    module_names(family, tmp_path / "run", 2)
    check_same(tensors_of(align(tmp_path / "run", tmp_path / "base"), wanted), wanted)


@pytest.mark.parametrize("family", [*RENAMED, *STACKED])
def test_a_saved_run_gets_the_names_of_a_base_that_is_a_state_dict(family: str, tmp_path: Path) -> None:
    module_names(family, tmp_path / "base", 1)
    hub_names(family, tmp_path / "run", 2)
    module_names(family, tmp_path / "wanted", 2)
    wanted = load_file(tmp_path / "wanted/model.safetensors")
    check_same(tensors_of(align(tmp_path / "run", tmp_path / "base"), wanted), wanted)


WRAPPERS: dict[str, Callable[[str], str]] = {
    "compiled": lambda name: f"_orig_mod.{name}",
    "distributed": lambda name: f"module.{name}",
    "both": lambda name: f"module._orig_mod.{name}",
    "FSDP": lambda name: name.replace("layers.", "layers.", 1).replace(".self_attn", "._fsdp_wrapped_module.self_attn"),
    "checkpointed": lambda name: name.replace(".mlp.", "._checkpoint_wrapped_module.mlp."),
    "Lightning": lambda name: f"model.{name}",
    "PEFT": lambda name: f"base_model.model.{name}",
    "bare": lambda name: name.removeprefix("model."),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_and_prefixes(wrapper: str, tmp_path: Path) -> None:
    hub_names("Llama", tmp_path / "base", 1)
    wanted = hub_names("Llama", tmp_path / "run", 2)
    save_file({WRAPPERS[wrapper](name): t for name, t in wanted.items()}, tmp_path / "run/model.safetensors")
    check_same(tensors_of(align(tmp_path / "run", tmp_path / "base"), wanted), wanted)


@pytest.mark.parametrize("wrapper", [*WRAPPERS, "other", "half"])
@pytest.mark.parametrize("family", ["Qwen2-VL", "Mixtral"])
def test_wrappers_around_the_names_of_the_loaded_model(family: str, wrapper: str, tmp_path: Path) -> None:
    hub_names(family, tmp_path / "base", 1)
    wanted = hub_names(family, tmp_path / "wanted", 2)
    module_names(family, tmp_path / "run", 2)
    own = load_file(tmp_path / "run/model.safetensors")
    half = {name: f"module.{name}" if at % 2 else name for at, name in enumerate(own)}
    rename = {**WRAPPERS, "other": lambda name: f"net.{name}", "half": half.__getitem__}[wrapper]
    save_file({rename(name): t for name, t in own.items()}, tmp_path / "run/model.safetensors")
    check_same(tensors_of(align(tmp_path / "run", tmp_path / "base"), wanted), wanted)


def test_a_new_tensor_loses_the_wrapper_that_the_others_had(tmp_path: Path) -> None:
    hub_names("Llama", tmp_path / "base", 1)
    wanted = hub_names("Llama", tmp_path / "run", 2) | {"score.weight": torch.ones(2, 32)}
    save_file({f"module.{name}": t for name, t in wanted.items()}, tmp_path / "run/model.safetensors")
    check_same(tensors_of(align(tmp_path / "run", tmp_path / "base"), wanted), wanted)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod."])
def test_a_new_head_in_a_wrapper_on_a_base_without_its_prefix(wrapper: str, tmp_path: Path) -> None:
    tensors = hub_names("Llama", tmp_path / "base", 1)
    bare = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    save_file(bare, tmp_path / "base/model.safetensors")
    wanted = hub_names("Llama", tmp_path / "run", 2)
    del wanted["lm_head.weight"]
    wanted["score.weight"] = torch.ones(2, 32)
    save_file({wrapper + name: t for name, t in wanted.items()}, tmp_path / "run/model.safetensors")
    named = {name.removeprefix("model."): t for name, t in wanted.items()}
    check_same(tensors_of(align(tmp_path / "run", tmp_path / "base"), named), named)


def test_one_tensor_under_two_names(tmp_path: Path) -> None:
    hub_names("Llama", tmp_path / "base", 1)
    tensors = hub_names("Llama", tmp_path / "run", 2)
    tensors["module.model.norm.weight"] = tensors["model.norm.weight"] + 1
    save_file(tensors, tmp_path / "run/model.safetensors")
    with pytest.raises(CheckpointError, match=r"'module\.model\.norm\.weight'"):
        align(tmp_path / "run", tmp_path / "base")


def held() -> int:
    """Bytes of all tensors that live."""
    gc.collect()
    return sum(t.numel() * t.element_size() for t in gc.get_objects() if type(t) is torch.Tensor)


def test_one_conversion_is_in_memory_at_a_time(tmp_path: Path) -> None:
    wanted = hub_names("Mixtral", tmp_path / "base", 1)
    module_names("Mixtral", tmp_path / "run", 2)
    run, before = align(tmp_path / "run", tmp_path / "base").checkpoint, held()
    for name, info in run.tensors.items():
        run.owner[name].data(info)
    one = sum(t.numel() * t.element_size() for name, t in wanted.items() if "layers.0" in name and "expert" in name)
    assert held() - before <= 2 * one, "experts of more than one layer"


def test_a_tied_tensor_that_the_run_saved_under_its_other_name(tmp_path: Path) -> None:
    hub_names("T5", tmp_path / "base", 1)
    wanted = hub_names("T5", tmp_path / "run", 2)
    saved = {name: t for name, t in wanted.items() if name != "shared.weight"}
    save_file(saved | {"decoder.embed_tokens.weight": wanted["shared.weight"]}, tmp_path / "run/model.safetensors")
    check_same(tensors_of(align(tmp_path / "run", tmp_path / "base"), wanted), wanted)


def test_tensors_that_the_class_does_not_load(tmp_path: Path) -> None:
    tensors = hub_names("Llama", tmp_path / "base", 1)
    extra = {"mtp.layers.0.weight": torch.ones(3, 4)}
    save_file(tensors | extra, tmp_path / "base/model.safetensors")
    hub_names("Llama", tmp_path / "run", 2)
    run = align(tmp_path / "run", tmp_path / "base")
    assert run.ignored == ("mtp.layers.0.weight",)


def test_a_class_that_transformers_does_not_have_is_left_alone(tmp_path: Path) -> None:
    hub_names("Qwen3-MoE", tmp_path / "base", 1)
    module_names("Qwen3-MoE", tmp_path / "run", 2)
    for folder in (tmp_path / "base", tmp_path / "run"):
        config = json.loads((folder / "config.json").read_text()) | {"architectures": ["OwnForCausalLM"]}
        (folder / "config.json").write_text(json.dumps(config))
    assert align(tmp_path / "run", tmp_path / "base").checkpoint.infos == open_checkpoint(tmp_path / "run").infos
