"""What of a model is trained: low-rank factors beside its weights, or the weights themselves."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch

from persona import files
from persona.errors import UsageError, did_you_mean
from persona.training.settings import Settings


def check_method(settings: Settings, device: str) -> None:
    """Raise before any work if the method cannot run here."""
    if settings.method != "qlora":
        return
    if settings.ewc:
        raise UsageError("ewc needs gradients of the weights, and qlora keeps them in 4 bits", "Give --method lora")
    import importlib.util

    if importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(
            "qlora needs bitsandbytes, which is not installed", "pip install bitsandbytes, or: --method lora"
        )
    if not device.startswith("cuda"):
        raise UsageError(f"qlora needs a CUDA device, not {device}", "Give --device cuda, or: --method lora")


def trainable(model: Any, settings: Settings) -> tuple[Any, Mapping[str, torch.dtype]]:
    """The model with what is trained of it, and the dtypes that weights have where they are kept."""
    if settings.method == "qlora":
        return _with_factors(_quantised(model), settings), {}
    kept = {name: weight.dtype for name, weight in model.named_parameters()}
    wanted = _dtype(model, settings)
    model = model.to(wanted) if wanted is not None else model
    if settings.method == "full":
        return model.requires_grad_(True), kept
    return _with_factors(model, settings), {}


def _dtype(model: Any, settings: Settings) -> torch.dtype | None:
    """What the model runs in. ``auto`` leaves its weights as they are on an accelerator; a CPU takes fp32, because few can do
    sums in 16 bits, and the others take several times as long."""
    if (
        settings.dtype == "auto"
        and settings.method != "full"
        and model.get_input_embeddings().weight.device.type != "cpu"
    ):
        return None
    return torch.bfloat16 if settings.dtype == "bf16" else torch.float32


def _quantised(model: Any) -> Any:
    """The model with its matrices in 4 bits (NF4), by way of a folder, as that is what bitsandbytes loads from."""
    from peft import prepare_model_for_kbit_training
    from transformers import BitsAndBytesConfig

    place = model.get_input_embeddings().weight.device
    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    with files.temporary_folder() as folder:
        model.save_pretrained(folder)
        small = type(model).from_pretrained(folder, quantization_config=how, device_map={"": place})
    return prepare_model_for_kbit_training(small)


def _with_factors(model: Any, settings: Settings) -> Any:
    from peft import LoraConfig, get_peft_model

    targets = settings.targets
    if targets != "all-linear":
        targets = (targets,) if isinstance(targets, str) else targets
        _check_targets(model, targets)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # peft still asks transformers by a name that goes away in its next major version.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return get_peft_model(model, config)


def _check_targets(model: Any, targets: tuple[str, ...]) -> None:
    names = [name for name, module in model.named_modules() if getattr(module, "weight", None) is not None]
    leaves = {name.rpartition(".")[2] for name in names}
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            raise UsageError(
                f"the model has no module '{target}' to put factors beside",
                did_you_mean(target, leaves) + " Or: --set targets=all-linear",
            )


def restore_dtypes(model: Any, kept: Mapping[str, torch.dtype]) -> Any:
    """A model that was trained in fp32, in the dtypes of the weights that it began with."""
    for name, weight in model.named_parameters():
        weight.data = weight.data.to(kept.get(name, weight.dtype))
    return model
