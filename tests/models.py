"""Tiny checkpoints, written by transformers, and readers that owe persona nothing."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

VOCAB = 96


def tiny_config(**changes: Any) -> LlamaConfig:
    settings = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": VOCAB, "max_position_embeddings": 64, "tie_word_embeddings": False,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    return LlamaConfig(**{**settings, **changes})


def tiny_llama(dtype: torch.dtype = torch.bfloat16, seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(tiny_config(**changes)).to(dtype)


def word_tokenizer(
    words: Sequence[str], template: str | None = None, *, side: str = "right", opens: bool = True
) -> PreTrainedTokenizerFast:
    """Whole words between blanks; ``<s>`` before a text if it ``opens``. ``words`` begin with the special ones, ``<s>`` second."""
    core = Tokenizer(WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = WhitespaceSplit()
    if opens:
        core.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        padding_side=side,
    )
    made.chat_template = template
    return made


def nudge(model: PreTrainedModel, seed: int, std: float = 1e-3, only: str = "") -> PreTrainedModel:
    """Move every weight whose name contains ``only``, as a training run would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if only in name:
                noise = torch.randn(weight.shape, generator=generator) * std
                weight.copy_((weight.float() + noise).to(weight.dtype))
    return model


class TinyModels:
    """Checkpoints by their parameters, each written once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _once(self, name: str, write: Callable[[Path], None]) -> Path:
        path = self.folder / name
        if not path.exists():
            write(path)
        return path

    def base(self, dtype: str = "bfloat16", **changes: Any) -> Path:
        """A pretrained Llama."""

        def write(path: Path) -> None:
            tiny_llama(getattr(torch, dtype), **changes).save_pretrained(path)

        return self._once(f"base-{dtype}-{_key(changes)}", write)

    def run(self, seed: int = 1, dtype: str = "bfloat16", std: float = 1e-3, only: str = "", **changes: Any) -> Path:
        """A full fine-tune of :meth:`base`."""

        def write(path: Path) -> None:
            model = AutoModelForCausalLM.from_pretrained(self.base(dtype, **changes), dtype="auto")
            nudge(model, seed, std, only).save_pretrained(path)

        return self._once(f"run-{seed}-{dtype}-{std}-{only}-{_key(changes)}", write)


def _key(changes: dict[str, Any]) -> str:
    return hashlib.sha256(repr(sorted(changes.items())).encode()).hexdigest()[:8]


def load(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a folder, by safetensors' own reader."""
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # not a dict
                assert name not in tensors
                tensors[name] = file.get_tensor(name)
    return tensors


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal to the bit: dtype, shape, signs of zeros and payloads of NaNs."""
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and torch.equal(a.contiguous().reshape(-1).view(torch.uint8), b.contiguous().reshape(-1).view(torch.uint8))
    )


def assert_same(actual: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert sorted(actual) == sorted(wanted)
    for name, tensor in wanted.items():
        assert same_bits(actual[name], tensor), name


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Small models run fastest on one, above all where other workers want the cores, and to the same bits as in processes that do so."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def write_adapter(base: Path, folder: Path, seed: int = 0) -> Path:
    """A LoRA adapter of ``base`` whose factors are no zeros."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's and transformers' own
        model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
        with torch.no_grad():
            for parameter in (p for p in model.parameters() if p.requires_grad):
                parameter.add_(torch.randn_like(parameter) * 0.1)
        model.save_pretrained(folder)
    return folder
