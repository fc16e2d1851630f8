"""What is checked for each family of models: full runs, LoRA, adapters out, tokenizers.

``tests/checkpoints/test_compatibility.py`` runs the checks, and ``docs/tools/compatibility.py`` prints them as a table. The
right values come from torch, peft and transformers alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

import persona
from tests.families import FAMILIES, tiny
from tests.models import word_tokenizer

TARGETS: Final = {
    "Mamba": ["in_proj", "x_proj"],
    "Falcon Mamba": ["in_proj", "x_proj"],
    "Mamba 2": ["in_proj"],
    "wav2vec 2": ["q_proj", "v_proj"],
}
"""Layers for LoRA where peft does not take all linear ones."""
NO_TEXT: Final = {"ViT", "wav2vec 2"}

State = Mapping[str, torch.Tensor]


class Unsupported(Exception):
    """The libraries themselves do not do this for the family."""


def full(family: str, folder: Path) -> None:
    """A full fine-tune: bit for bit at alpha 1, by the formula at 0.5, and the same vector from a state dict."""
    base, run = _save(family, folder / "base", 1), _save(family, folder / "run", 2)
    repo = _repository(folder)
    done = persona.commit(repo, folder / "run", name="run", author="Test")
    persona.build(repo, folder / "one")
    _same(load_file(folder / "one/model.safetensors"), run)
    _same(_loaded(family, folder / "one"), _loaded(family, folder / "run"))
    persona.alpha(repo, {"run": 0.5}, author="Test")
    persona.build(repo, folder / "half")
    half = {name: (base[name].float() + 0.5 * (run[name].float() - base[name].float())).bfloat16() for name in base}
    _same(load_file(folder / "half/model.safetensors"), half)
    _state_dict(family, folder / "state", 2)
    again = persona.commit(repo, folder / "state", name="state", author="Test")
    assert again.vector == done.vector, "the same model under the names of the loaded model is another vector"


def lora(family: str, folder: Path) -> None:
    """LoRA on all linear layers, as ``merge_and_unload`` has it."""
    wanted, repo = _adapted(family, folder)
    persona.build(repo, folder / "out")
    _close(_loaded(family, folder / "out"), wanted)


def adapter_out(family: str, folder: Path) -> None:
    """The recipe as an adapter, loaded by peft."""
    wanted, repo = _adapted(family, folder)
    persona.build(repo, folder / "adapter", as_adapter=True)
    model = PeftModel.from_pretrained(_class(family).from_pretrained(folder / "base"), str(folder / "adapter"))
    _close(model.merge_and_unload().state_dict(), wanted)


def tokenizer(family: str, folder: Path) -> None:
    """A run's new tokens, with their rows, its end of text and its chat template."""
    kind = transformers.AutoTokenizer
    own = word_tokenizer(["<unk>", "<s>", "</s>", "<pad>", "Hello", "you"])
    rows = getattr(tiny(family).config.get_text_config(), "vocab_size", None)
    if family in NO_TEXT or rows is None:
        raise Unsupported("the model reads no text")
    for name, seed in (("base", 1), ("run", 2)):
        model = tiny(family, seed)
        if name == "run":
            own.add_tokens([f"<|own{number}|>" for number in range(rows - len(own) + 2)], special_tokens=True)
            own.eos_token, own.chat_template = "<|own0|>", "{{ messages[0].content }}<|own0|>"
            model.resize_token_embeddings(len(own), mean_resizing=False)
        model.save_pretrained(folder / name)
        own.save_pretrained(folder / name)
    repo = _repository(folder)
    persona.commit(repo, folder / "run", name="run", author="Test")
    persona.build(repo, folder / "out")
    built, wanted = kind.from_pretrained(folder / "out"), kind.from_pretrained(folder / "run")
    chat = [{"role": "user", "content": "Hello<|own1|>"}]
    assert built("Hello <|own1|> you").input_ids == wanted("Hello <|own1|> you").input_ids
    assert built.apply_chat_template(chat, tokenize=False) == wanted.apply_chat_template(chat, tokenize=False)
    assert (built.eos_token_id, len(built)) == (wanted.eos_token_id, len(wanted))
    _same(_loaded(family, folder / "out"), _loaded(family, folder / "run"))


CHECKS: Final[Mapping[str, Callable[[str, Path], None]]] = {
    "full": full,
    "LoRA": lora,
    "adapter out": adapter_out,
    "tokenizer": tokenizer,
}


def _repository(folder: Path) -> persona.Repository:
    persona.init(folder / "repo", folder / "base", author="Test")
    return persona.open(folder / "repo")


def _class(family: str) -> Any:
    return getattr(transformers, FAMILIES[family][0])


def _save(family: str, folder: Path, seed: int) -> State:
    tiny(family, seed, torch.bfloat16).save_pretrained(folder)
    state: State = load_file(folder / "model.safetensors")
    return state


def _state_dict(family: str, folder: Path, seed: int) -> None:
    """A model under the names of its modules, each tensor once, as training loops save it."""
    model = tiny(family, seed, torch.bfloat16)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
    weights = dict(model.named_parameters()) | {
        n: b for n, b in model.state_dict().items() if b.dtype != torch.bfloat16
    }
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in model.state_dict()}
    state = {name: weight.detach().contiguous() for name, weight in (weights | buffers).items()}
    save_file(state, folder / "model.safetensors")


def _adapted(family: str, folder: Path) -> tuple[State, persona.Repository]:
    """A repository with an adapter that peft made, and what peft makes of it."""
    tiny(family, 1).save_pretrained(folder / "base")
    kind = _class(family)
    try:
        model = get_peft_model(
            kind.from_pretrained(folder / "base"),
            LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS.get(family, "all-linear"), init_lora_weights=False),
        )
        model.save_pretrained(folder / "run")
        again = PeftModel.from_pretrained(kind.from_pretrained(folder / "base"), str(folder / "run"))
        wanted = {name: weight.clone() for name, weight in again.merge_and_unload().state_dict().items()}
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise Unsupported(str(error)) from error
    repo = _repository(folder)
    persona.commit(repo, folder / "run", name="run", author="Test")
    return wanted, repo


def _loaded(family: str, folder: Path) -> State:
    model, info = _class(family).from_pretrained(folder, dtype="auto", output_loading_info=True)
    left = {key: value for key, value in info.items() if value}
    assert not left, f"loading says {json.dumps(left, default=list)}"
    state: State = dict(model.state_dict())
    return state


def _same(found: State, wanted: State) -> None:
    assert sorted(found) == sorted(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def _close(found: State, wanted: State) -> None:
    assert sorted(found) == sorted(wanted)
    for name, tensor in wanted.items():
        assert torch.allclose(found[name].float(), tensor.float(), rtol=0, atol=5e-6), name
