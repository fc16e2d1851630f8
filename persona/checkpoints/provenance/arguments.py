"""``training_args.bin``: the hyperparameters of a Trainer, read from the pickle without running it.

The file is a ``TrainingArguments`` saved by ``torch.save``: a zip with one pickle, ``data.pkl``. ``pickletools`` decodes
the pickle's instructions, and ``inert`` executes those that move plain values. So no code runs, and the result contains
only numbers and strings from the file. Only the keys below are kept, since arguments may also contain tokens and addresses.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Any

from persona.checkpoints import inert
from persona.checkpoints.inert import Placeholder
from persona.checkpoints.provenance.reading import Unreadable, chosen

FILE = "training_args.bin"

LARGEST = 4 << 20
"""Maximum size of the pickle in bytes."""
STEPS = 200_000
"""Maximum number of instructions."""

_KEYS = (
    "learning_rate", "lr_scheduler_type", "warmup_steps", "warmup_ratio", "num_train_epochs", "max_steps",
    "per_device_train_batch_size", "gradient_accumulation_steps", "optim", "weight_decay", "max_grad_norm",
    "adam_beta1", "adam_beta2", "adam_epsilon", "label_smoothing_factor", "neftune_noise_alpha", "seed", "data_seed",
    "bf16", "fp16", "gradient_checkpointing", "metric_for_best_model", "greater_is_better", "load_best_model_at_end",
    "max_length", "packing", "completion_only_loss", "assistant_only_loss", "loss_type", "beta", "max_prompt_length",
    "max_completion_length", "num_generations", "temperature",
)  # fmt: skip
_NAMED = ("transformers.", "trl.", "peft.")
"""Modules whose enumerations are kept; an enumeration's only argument is its value."""


def read(data: bytes) -> dict[str, Any]:
    """The facts in the file."""
    try:
        saved = inert.load(_pickle(data), STEPS)
    except ValueError as error:
        raise Unreadable(f"contains {error}") from None
    facts = {}
    if isinstance(saved, Placeholder) and isinstance(saved.state, dict):
        values = {key: _word(value) if isinstance(value, Placeholder) else value for key, value in saved.state.items()}
        facts = facts_of(saved.name.rpartition(".")[2], values)
    if not facts:
        raise Unreadable("contains no arguments of a Trainer")
    return {"arguments": facts}


def _word(value: Placeholder) -> Any:
    """The value of an enumeration, which is its only argument; None for anything else."""
    arguments = value.arguments
    single = isinstance(arguments, tuple) and len(arguments) == 1 and value.name.startswith(_NAMED)
    return arguments[0] if single and isinstance(arguments[0], str) else None


def facts_of(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    """The arguments to keep, with the name of their class ``kind``; empty if there are none to keep."""
    facts = {key: value for key, value in chosen(values, _KEYS).items() if value is not False}
    return {"class": kind[:80]} | facts if facts else {}


def _pickle(data: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            inside = [info for info in archive.infolist() if info.filename.endswith("/data.pkl")]
            if len(inside) != 1 or inside[0].file_size > LARGEST:
                raise Unreadable("is not a file that torch.save wrote")
            with archive.open(inside[0]) as file:
                return file.read(LARGEST + 1)
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError, ValueError, EOFError):
        raise Unreadable("is not a file that torch.save wrote") from None
