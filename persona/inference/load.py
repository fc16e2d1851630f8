"""Loading a transformers model from a folder, or from tensors in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona import files
from persona.checkpoints.dtypes import TORCH_NAMES, named_dtype
from persona.errors import CheckpointError, UsageError, did_you_mean

if TYPE_CHECKING:
    import torch

    from persona.checkpoints.dtypes import Bits

_TORCH = {
    **TORCH_NAMES, "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"
}  # fmt: skip


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model in evaluation mode, without gradients. ``tokenizer`` is None if there is none.

    ``label`` names it in messages. ``base`` and ``revision`` are ids, None if unknown.
    """

    model: Any
    tokenizer: Any
    label: str
    base: str | None = None
    revision: str | None = None

    @property
    def device(self) -> torch.device:
        """The device that its inputs must be on."""
        device: torch.device = self.model.get_input_embeddings().weight.device
        return device

    @property
    def dtype(self) -> str:
        """The dtype that it runs in, by torch's name: ``bfloat16``."""
        return str(self.model.dtype).removeprefix("torch.")

    def need_tokenizer(self) -> Any:
        """The tokenizer.

        Raises:
            CheckpointError: there is none.
        """
        if self.tokenizer is None:
            raise CheckpointError(
                f"{self.label} has no tokenizer that can be loaded",
                "Save one in the base's folder with tokenizer.save_pretrained.",
            )
        return self.tokenizer


def from_folder(
    folder: Path, label: str, dtype: str | None = None, device: str = "cpu", **known: str | None
) -> LoadedModel:
    """Load a folder that ``save_pretrained`` or ``persona build`` wrote.

    Nothing is downloaded, no code from the folder is run, and nothing is unpickled.

    Args:
        label: Its name in messages.
        dtype: Data type to run in. By default that of the weights.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        **known: ``base`` and ``revision`` of the model, if known.

    Raises:
        UsageError: the dtype or device is not available.
        CheckpointError: transformers cannot load it.
    """
    from transformers import AutoModelForCausalLM

    wanted, place = _dtype(dtype), checked_device(device)
    with quiet(), _translated(folder):
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=wanted or "auto", local_files_only=True, use_safetensors=True
        )
        return _ready(model, _tokenizer(folder), place, label, known)


def from_tensors(
    small: Mapping[str, bytes],
    tensors: Mapping[str, tuple[Bits, str, tuple[int, ...]]],
    label: str,
    dtype: str | None = None,
    device: str = "cpu",
    **known: str | None,
) -> LoadedModel:
    """Load a model from what a build would write.

    Args:
        small: The small files by name.
        tensors: (bits, dtype, shape) by name. Where the dtype fits, the arrays themselves become the model's weights:
            do not use them afterwards.
        label: Its name in messages.
        dtype: Data type to run in. By default that of the largest tensor.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        **known: ``base`` and ``revision`` of the model, if known.

    Raises:
        UsageError: the dtype or device is not available.
        CheckpointError: transformers cannot load it.
    """
    from transformers import AutoConfig, GenerationConfig

    wanted, place = _dtype(dtype), checked_device(device)
    state = {name: as_tensor(*held) for name, held in tensors.items()}
    with _unpacked(small, label) as folder:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        kind = _class_for(config)
        stored = max(state.values(), key=lambda tensor: tensor.numel()).dtype
        model = kind.from_pretrained(None, config=config, state_dict=state, dtype=wanted or stored)
        if "generation_config.json" in small:
            model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
        return _ready(model, _tokenizer(folder), place, label, known)


def _class_for(config: Any) -> Any:
    """The causal model class for a configuration."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return type(AutoModelForCausalLM.from_config(config))


def checked_device(name: str) -> str:
    """Check that torch has a device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        UsageError: it does not.
    """
    if name == "cpu":  # avoids importing torch, which takes seconds
        return name
    import torch

    available = ["cpu"]
    if torch.cuda.is_available():
        available += ["cuda", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        available.append("mps")
    if name not in available:
        hint = did_you_mean(name, available) or f"Available: {', '.join(available)}."
        raise UsageError(f"no device '{name}'", hint)
    return name


def is_emulated(loaded: LoadedModel) -> bool:
    """Whether a model runs on a CPU that emulates its 16-bit dtype, which is many times slower than fp32."""
    import torch

    if loaded.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    ours = torch.ops.mkldnn
    native = {torch.bfloat16: ours._is_mkldnn_bf16_supported, torch.float16: ours._is_mkldnn_fp16_supported}
    is_native = native.get(loaded.model.dtype)
    return is_native is not None and not is_native()


def checked_dtype(name: str | None) -> str | None:
    """Torch's name for a dtype: ``bfloat16`` for ``bf16``.

    Raises:
        UsageError: there is no such dtype.
    """
    dtype = named_dtype(name)
    return None if dtype is None else TORCH_NAMES[dtype]


def _dtype(name: str | None) -> torch.dtype | None:
    import torch

    known = checked_dtype(name)
    dtype: torch.dtype | None = getattr(torch, known) if known is not None else None
    return dtype


def as_tensor(bits: Bits, dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor that shares the memory of ``bits``.

    Args:
        bits: The entries as unsigned integers.
        dtype: safetensors name of their dtype.
        shape: The tensor's shape.

    Raises:
        UsageError: torch has no such dtype.
    """
    import torch

    if dtype not in _TORCH:
        raise UsageError(f"torch has no dtype {dtype}", "Build the model, and run it with software that has it.")
    plain = torch.from_numpy(bits.view("u1"))
    return plain.view(getattr(torch, _TORCH[dtype])).reshape(shape)


def _ready(model: Any, tokenizer: Any, device: str, label: str, known: Mapping[str, str | None]) -> LoadedModel:
    model = model.to(device).eval().requires_grad_(False)
    head = model.get_output_embeddings()
    if head is not None:
        head.register_forward_pre_hook(_in_one_piece)
    return LoadedModel(model, tokenizer, label, **known)


def _in_one_piece(module: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Make the head's input contiguous.

    The hidden states of a few positions are a strided view, for which torch's matrix product copies the head's whole
    weight once per row of the batch (2.13, on a CPU): half a gigabyte for 32,000 tokens, width 1,024 and eight texts.
    """
    return tuple(value.contiguous() if hasattr(value, "contiguous") else value for value in given)


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in _TOKENIZERS):
        return None
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def reader_of(small: Mapping[str, bytes], label: str) -> tuple[Any, int | None]:
    """Load the tokenizer from a model's small files, without its weights.

    Returns:
        The tokenizer and the length of the model's context, each None if there is none.
    """
    from transformers import AutoConfig

    with _unpacked(small, label) as folder:
        return _tokenizer(folder), context_length(AutoConfig.from_pretrained(folder, local_files_only=True))


def context_length(config: Any) -> int | None:
    """Length of the context of a transformers configuration in tokens; None if it does not say."""
    limit = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    return int(limit) if limit else None


@contextlib.contextmanager
def _unpacked(small: Mapping[str, bytes], label: str) -> Iterator[Path]:
    """Write small files to a temporary folder, where transformers can load them."""
    with files.temporary_folder() as folder, quiet(), _translated(label):
        for name, data in small.items():
            files.make_folder((folder / name).parent)
            files.write_file(folder / name, data)
        yield folder


_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")


@contextlib.contextmanager
def _translated(what: Path | str) -> Iterator[None]:
    """Turn an error of transformers into a CheckpointError."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, ImportError) as error:
        reason = str(error).strip().split("\n")[0][:300]
        raise CheckpointError(
            f"{what}: transformers cannot load it: {reason}", "It must be a causal language model in safetensors."
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide transformers' progress bars; the caller draws its own."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    if shown:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
