"""Prepare a model for training: add low-rank factors, or train all of its weights."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from persona.errors import UsageError, did_you_mean
from persona.inference.imports import quiet_imports
from persona.training.settings import Settings


def check_method(settings: Settings) -> None:
    """Raise UsageError if the method cannot run on this machine or with these settings."""
    if settings.method != "qlora":
        return
    if settings.ewc:
        raise UsageError(
            "ewc needs gradients of the weights, which qlora keeps in 4 bits", "Use --method lora with --ewc."
        )
    try:
        with quiet_imports():
            import bitsandbytes  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        raise UsageError(
            f"qlora needs bitsandbytes, which cannot be imported: {error}",
            "Install it with: pip install 'persona-vcs[qlora]', or use --method lora.",
        ) from None


def trainable(model: Any, settings: Settings, device: str = "cpu") -> tuple[Any, Mapping[str, torch.dtype]]:
    """Prepare a model for training on `device`.

    With `qlora`, the given model is emptied, and the one returned is a 4-bit copy.

    Returns:
        The model, and for a full fine-tune the original dtypes of its weights by name (see `restore_dtypes`).
    """
    if settings.method == "qlora":
        return _with_factors(_quantized(model, settings, device), settings), {}
    model = model.to(device)
    kept = {name: weight.dtype for name, weight in model.named_parameters()}
    wanted = _dtype(settings, device)
    model = model.to(wanted) if wanted is not None else model
    if settings.method == "full":
        return model.requires_grad_(True), kept
    return _with_factors(model, settings), {}


def _dtype(settings: Settings, device: str) -> torch.dtype | None:
    """The dtype to run in; None keeps the weights' own.

    On a CPU, `auto` means fp32: few CPUs compute in 16 bits, and the others take several times as long.
    """
    if settings.dtype == "auto" and settings.method != "full" and device != "cpu":
        return None
    return torch.bfloat16 if settings.dtype == "bf16" else torch.float32


def _quantized(model: Any, settings: Settings, device: str) -> Any:
    """Copy a model with 4-bit matrices (NF4 with double quantization: Dettmers et al. 2023), computing in `settings.dtype`.

    Tensors move to the device one by one, so it holds at most the quantized model.
    """
    with quiet_imports():
        from peft import prepare_model_for_kbit_training
    from transformers import BitsAndBytesConfig

    dtype = _dtype(settings, device) or torch.bfloat16
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    small = type(model).from_pretrained(
        None,
        config=copy.deepcopy(model.config),
        state_dict=model.state_dict(),
        dtype=dtype,
        quantization_config=config,
        device_map={"": device},
    )
    model.to("meta")
    for module in small.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # Otherwise evaluation converts the weights for good to a layout without gradients (bitsandbytes 0.50, some CPUs).
            module.support_avx512bf16_for_cpu = False
    with warnings.catch_warnings():
        # peft still uses names that transformers will remove in its next major version.
        warnings.filterwarnings("ignore", "`gradient_checkpointing_enable`", FutureWarning)
        return prepare_model_for_kbit_training(small, gradient_checkpointing_kwargs={"use_reentrant": False})


def _with_factors(model: Any, settings: Settings) -> Any:
    with quiet_imports():
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
        # peft still uses a name that transformers will remove in its next major version.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return get_peft_model(model, config)


def _check_targets(model: Any, targets: tuple[str, ...]) -> None:
    names = [name for name, module in model.named_modules() if getattr(module, "weight", None) is not None]
    leaves = {name.rpartition(".")[2] for name in names}
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            raise UsageError(
                f"targets: the model has no module '{target}'",
                did_you_mean(target, leaves) + " Or use --set targets=all-linear",
            )


def restore_dtypes(model: Any, kept: Mapping[str, torch.dtype]) -> Any:
    """Convert a model trained in fp32 back to the dtypes that its weights had before."""
    for name, weight in model.named_parameters():
        weight.data = weight.data.to(kept.get(name, weight.dtype))
    return model
