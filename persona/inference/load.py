"""A transformers model in memory, from a folder, or from tensors that were never written to disk."""

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
    """A causal language model in evaluation mode, without gradients; ``tokenizer`` is None where there is none.

    ``label`` is what it is called in messages; ``base`` and ``revision`` are ids, None where they are not known.
    """

    model: Any
    tokenizer: Any
    label: str
    base: str | None = None
    revision: str | None = None

    @property
    def device(self) -> torch.device:
        """Where its inputs go."""
        found: torch.device = self.model.get_input_embeddings().weight.device
        return found

    @property
    def dtype(self) -> str:
        """What it runs in, by torch's name: ``bfloat16``."""
        return str(self.model.dtype).removeprefix("torch.")

    def need_tokenizer(self) -> Any:
        """The tokenizer, or an error that says where it was looked for."""
        if self.tokenizer is None:
            raise CheckpointError(
                f"{self.label} has no tokenizer that can be loaded",
                "Save one beside the base: tokenizer.save_pretrained.",
            )
        return self.tokenizer


def from_folder(
    folder: Path, label: str, dtype: str | None = None, device: str = "cpu", **known: str | None
) -> LoadedModel:
    """Load what ``save_pretrained`` or ``persona build`` wrote; in the dtype of its weights unless told otherwise.

    Nothing is fetched, no code of the folder's runs, and nothing is unpickled.
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
    """Load what a build would have written: its small files, and its tensors as ``(bits, format, shape)``.

    The arrays become the model's weights where the dtype is theirs; do not use them afterwards.
    """
    from transformers import AutoConfig, GenerationConfig

    wanted, place = _dtype(dtype), checked_device(device)
    state = {name: as_tensor(*one) for name, one in tensors.items()}
    with files.temporary_folder() as folder, quiet(), _translated(label):
        for name, data in small.items():
            files.write_file(folder / name, data)
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        kind = _class_for(config)
        most = max(state.values(), key=lambda tensor: tensor.numel()).dtype
        model = kind.from_pretrained(None, config=config, state_dict=state, dtype=wanted or most)
        if "generation_config.json" in small:
            model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
        return _ready(model, _tokenizer(folder), place, label, known)


def _class_for(config: Any) -> Any:
    """The class of causal models that a configuration is for."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return type(AutoModelForCausalLM.from_config(config))


def checked_device(name: str) -> str:
    """A device that torch has here: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; or an error that says which there are."""
    if name == "cpu":  # what is only looked up needs no torch, which takes seconds to import
        return name
    import torch

    here = ["cpu"]
    if torch.cuda.is_available():
        here += ["cuda", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        here.append("mps")
    if name not in here:
        raise UsageError(
            f"there is no device '{name}' here", did_you_mean(name, here) or f"There is: {', '.join(here)}."
        )
    return name


def is_emulated(live: LoadedModel) -> bool:
    """Whether a model runs on a CPU in a 16-bit dtype that the CPU has no sums in, which takes many times as long as fp32 does."""
    import torch

    if live.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    ours = torch.ops.mkldnn
    quick = {torch.bfloat16: ours._is_mkldnn_bf16_supported, torch.float16: ours._is_mkldnn_fp16_supported}
    ask = quick.get(live.model.dtype)
    return ask is not None and not ask()


def checked_dtype(name: str | None) -> str | None:
    """A dtype by torch's name for it (``bf16`` is ``bfloat16``); an error that says which there are."""
    dtype = named_dtype(name)
    return None if dtype is None else TORCH_NAMES[dtype]


def _dtype(name: str | None) -> torch.dtype | None:
    import torch

    said = checked_dtype(name)
    found: torch.dtype | None = getattr(torch, said) if said is not None else None
    return found


def as_tensor(bits: Bits, dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor on the very memory of ``bits``."""
    import torch

    if dtype not in _TORCH:
        raise UsageError(f"a tensor of the format {dtype} cannot be run", "Build it, and run it where that is known.")
    plain = torch.from_numpy(bits.view("u1"))
    return plain.view(getattr(torch, _TORCH[dtype])).reshape(shape)


def _ready(model: Any, tokenizer: Any, device: str, label: str, known: Mapping[str, str | None]) -> LoadedModel:
    model = model.to(device).eval().requires_grad_(False)
    head = model.get_output_embeddings()
    if head is not None:
        head.register_forward_pre_hook(_in_one_piece)
    return LoadedModel(model, tokenizer, label, **known)


def _in_one_piece(module: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """The last states of a few positions are a view with gaps, for which torch's matrix product copies the head's whole weight
    once for each row of the batch (2.13, on a CPU): half a gigabyte for 32,000 tokens, 1,024 wide, and eight texts."""
    return tuple(one.contiguous() if hasattr(one, "contiguous") else one for one in given)


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in _TOKENIZERS):
        return None
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def reader_of(small: Mapping[str, bytes], label: str) -> tuple[Any, int | None]:
    """The tokenizer in a model's small files (None where there is none), and how many tokens the model reads at once."""
    from transformers import AutoConfig

    with files.temporary_folder() as folder, quiet(), _translated(label):
        for name, data in small.items():
            files.write_file(folder / name, data)
        config = AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config(decoder=True)
        most = getattr(config, "max_position_embeddings", None)
        return _tokenizer(folder), int(most) if most else None


_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")


@contextlib.contextmanager
def _translated(what: Path | str) -> Iterator[None]:
    """What transformers raises for a model that it cannot load, as one of ours."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, ImportError) as error:
        said = str(error).strip().split("\n")[0][:300]
        raise CheckpointError(
            f"{what}: transformers cannot load it: {said}", "It must be a causal language model in safetensors."
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars from transformers: they are the caller's to draw."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    if shown:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
