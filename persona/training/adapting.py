"""What of a model is trained: low-rank factors beside its weights, or the weights themselves."""

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
    """Raise before any work if the method cannot run here."""
    if settings.method != "qlora":
        return
    if settings.ewc:
        raise UsageError("ewc needs gradients of the weights, and qlora keeps them in 4 bits", "Give --method lora")
    try:
        with quiet_imports():
            import bitsandbytes  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        raise UsageError(
            f"qlora needs bitsandbytes, which cannot be imported: {error}",
            "Install it: pip install 'persona-vcs[qlora]', or: --method lora",
        ) from None


def trainable(model: Any, settings: Settings, device: str = "cpu") -> tuple[Any, Mapping[str, torch.dtype]]:
    """The model with what is trained of it, on ``device``, and the dtypes that weights have where they are kept.

    With ``qlora`` the model that was given is empty afterwards: what is trained is another, in 4 bits.
    """
    if settings.method == "qlora":
        return _with_factors(_quantised(model, settings, device), settings), {}
    model = model.to(device)
    kept = {name: weight.dtype for name, weight in model.named_parameters()}
    wanted = _dtype(settings, device)
    model = model.to(wanted) if wanted is not None else model
    if settings.method == "full":
        return model.requires_grad_(True), kept
    return _with_factors(model, settings), {}


def _dtype(settings: Settings, device: str) -> torch.dtype | None:
    """What the model runs in. ``auto`` leaves its weights as they are on an accelerator; a CPU takes fp32, because few can do
    sums in 16 bits, and the others take several times as long."""
    if settings.dtype == "auto" and settings.method != "full" and device != "cpu":
        return None
    return torch.bfloat16 if settings.dtype == "bf16" else torch.float32


def _quantised(model: Any, settings: Settings, device: str) -> Any:
    """The model with its matrices in 4 bits (NF4, its scales quantised again: Dettmers et al. 2023), sums in ``settings.dtype``.

    One tensor after another goes to the device, so that never more than the small model is there.
    """
    with quiet_imports():
        from peft import prepare_model_for_kbit_training
    from transformers import BitsAndBytesConfig

    sums = _dtype(settings, device) or torch.bfloat16
    how = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=sums
    )
    small = type(model).from_pretrained(
        None,
        config=copy.deepcopy(model.config),
        state_dict=model.state_dict(),
        dtype=sums,
        quantization_config=how,
        device_map={"": device},
    )
    model.to("meta")
    for module in small.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # Measuring would turn its weights, for good, into a layout without gradients (bitsandbytes 0.50, on some CPUs).
            module.support_avx512bf16_for_cpu = False
    with warnings.catch_warnings():
        # peft still asks transformers by names that go away in its next major version.
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
