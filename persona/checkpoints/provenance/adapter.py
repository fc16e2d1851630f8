"""``adapter_config.json``: the settings of an adapter, by PEFT or mlx-lm."""

from __future__ import annotations

from typing import Any

from persona.checkpoints.provenance.reading import chosen, json_object

FILE = "adapter_config.json"

_KEYS = (
    "peft_type", "task_type", "base_model_name_or_path", "revision", "r", "lora_alpha", "lora_dropout", "bias",
    "target_modules", "exclude_modules", "layers_to_transform", "modules_to_save", "target_parameters",
    "use_rslora", "use_dora", "init_lora_weights", "fine_tune_type", "lora_parameters", "num_layers", "model",
)  # fmt: skip


def read(data: bytes) -> dict[str, Any]:
    """The facts in the file, without settings that are off or empty."""
    table = json_object(data)
    if isinstance(table.get("target_modules"), list):  # PEFT writes a set, in arbitrary order
        table["target_modules"] = sorted(name for name in table["target_modules"] if isinstance(name, str))
    settings = {key: value for key, value in chosen(table, _KEYS).items() if value not in (False, "none")}
    versions = chosen({"peft": table.get("peft_version")}, ("peft",))
    return {topic: value for topic, value in (("adapter", settings), ("versions", versions)) if value}
