"""``adapter_config.json``: settings that affect the arithmetic, and settings that are refused.

Every key is either read, known not to affect the weights, or refused when it is set, so a setting of a newer PEFT is
never ignored silently. Sources: peft/tuners/lora/config.py, layer.py,
variants.py of PEFT 0.21.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from persona.errors import CheckpointError
from persona.files import read_bytes, translated

MERGE: Final = "Merge the adapter with peft's merge_and_unload and commit the merged folder."
OTHER_BASE: Final = "The adapter was trained on another base."
SAVE_AGAIN: Final = "Save the adapter again with peft's save_pretrained."

READ: Final = frozenset({
    "peft_type", "task_type", "auto_mapping", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern",
    "fan_in_fan_out", "modules_to_save", "init_lora_weights", "trainable_token_indices", "use_dora",
    "lora_bias", "target_parameters",
})  # fmt: skip
HARMLESS: Final = frozenset({
    # origin
    "base_model_name_or_path", "revision", "peft_version", "inference_mode", "runtime_config", "megatron_core",
    # which modules and biases were trained: the tensors show it
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "bias", "ensure_weight_tying",
    # training only
    "lora_dropout", "velora_config",
    # details of other settings in this list or below
    "eva_config", "corda_config", "lora_ga_config", "loftq_config", "qalora_group_size",
})  # fmt: skip
REFUSED: Final = {
    "use_qalora": ("pools its inputs (QA-LoRA)", MERGE),
    "alora_invocation_tokens": (
        "acts only after its invocation tokens (aLoRA)",
        "No change of weights is equivalent to it, so it cannot be a task vector.",
    ),
    "layer_replication": (
        "repeats layers of its base (layer_replication)",
        "Merge it with peft's merge_and_unload and use the larger model as a base.",
    ),
    "arrow_config": (
        "routes each token among several adapters (Arrow)",
        "No change of weights is equivalent to it. Commit the adapters that it routes to instead.",
    ),
    "monteclora_config": ("samples its weights (MonteCLoRA)", MERGE),
    "use_bdlora": ("stores block-diagonal factors (BD-LoRA)", MERGE),
    "kasa_config": ("was trained on a base whose smallest singular values were cut off (KaSA)", MERGE),
    "megatron_config": ("was trained on layers split across devices by Megatron", MERGE),
}  # fmt: skip
"""Keys with an effect that scale · L · R cannot express → (what the adapter does, hint)."""

PLAIN_INITS: Final = frozenset({"gaussian", "eva", "orthogonal", "mica"})
"""Initializations that do not change the base."""
BASE_CHANGING: Final = {"pissa": "PiSSA", "corda": "CorDA", "olora": "OLoRA", "lora_ga": "LoRA-GA"}
"""Initializations that subtract the adapter's initial weights from the base."""
HEADLESS: Final = frozenset({"SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"})
"""Tasks whose models have no output embedding."""
TASK_HEADS: Final = {
    "SEQ_CLS": ("classifier", "score"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}
"""Modules that peft saves for a task even if the config does not list them."""


@dataclass(frozen=True)
class AdapterConfig:
    """The settings that affect the weights."""

    path: Path
    raw: dict[str, Any]
    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    rslora: bool
    dora: bool
    lora_bias: bool
    fan_in_fan_out: bool
    modules_to_save: tuple[str, ...]
    target_parameters: tuple[str, ...]
    tokens: Mapping[str, tuple[int, ...]] | tuple[int, ...]
    headless: bool

    def rank_of(self, module: str) -> int:
        """The rank of a module, given by its path below ``base_model.model.``."""
        return self.rank_pattern.get(_pattern(self.rank_pattern, module), self.rank)

    def scale_of(self, module: str) -> float:
        """The scale of a module: alpha / r, or alpha / √r for rsLoRA, with the module's alpha and r."""
        alpha = self.alpha_pattern.get(_pattern(self.alpha_pattern, module), self.alpha)
        rank = self.rank_of(module)
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank

    def saves(self, module: str) -> bool:
        """Whether ``modules_to_save`` lists a module (like peft, by any suffix of its path)."""
        return any(module.endswith(name) for name in self.modules_to_save)


def _pattern(patterns: Mapping[str, float], module: str) -> str:
    """The first key that matches a path or its end, like peft.utils.other.get_pattern_key."""
    return next((key for key in patterns if re.match(rf"(.*\.)?({key})$", module)), module)


def read_config(path: Path) -> AdapterConfig:
    """Read and check an adapter's config.

    Raises:
        CheckpointError: a setting is invalid, unsupported or unknown.
    """
    with translated(path):
        text = read_bytes(path)
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong(path, f"is not JSON ({error})") from error
    if not isinstance(raw, dict):
        raise _wrong(path, "is not a JSON object")
    _check_kind(path, raw)
    _check_init(path, raw.get("init_lora_weights", True))
    _check_keys(path, raw)
    return _parse(path, raw)


def _check_kind(path: Path, raw: dict[str, Any]) -> None:
    kind = raw.get("peft_type")
    if kind != "LORA":
        raise CheckpointError(f"{path}: peft_type is {kind!r}; only LORA is supported", MERGE)


def _check_init(path: Path, init: Any) -> None:
    if init is None or isinstance(init, bool):
        return
    if not isinstance(init, str):
        raise _wrong(path, f"gives init_lora_weights as {_shown(init)}")
    if init in PLAIN_INITS:
        return
    name = next((BASE_CHANGING[start] for start in BASE_CHANGING if init.lower().startswith(start)), None)
    if name is not None:
        raise CheckpointError(
            f"{path}: init_lora_weights is {init!r}: {name} subtracts the adapter's initial weights from the base, so the "
            "adapter was trained on a modified base",
            "Save it with peft's save_pretrained(folder, path_initial_model_for_weight_conversion=<the folder of "
            "the adapter before training>), which converts it to a plain LoRA of the original base.",
        )
    if init == "loftq":
        raise CheckpointError(
            f"{path}: init_lora_weights is 'loftq': LoftQ replaces the base by a quantized one, so the adapter was trained "
            "on a modified base",
            "Merge it with peft's merge_and_unload into the base that it was trained on, and commit the merged folder.",
        )
    raise CheckpointError(f"{path}: unknown init_lora_weights {init!r}, which may have changed the base", MERGE)


def _check_keys(path: Path, raw: dict[str, Any]) -> None:
    for key, value in raw.items():
        unset = value is None or value is False or value in ("", [], {})
        if unset or key in READ or key in HARMLESS:
            continue
        if key in REFUSED:
            does, hint = REFUSED[key]
            raise CheckpointError(f"{path}: {key} is set: the adapter {does}", hint)
        raise CheckpointError(
            f"{path}: unknown setting {key} = {value!r}, which may affect the weights",
            f"It is from a newer or modified PEFT. {MERGE}",
        )


def _parse(path: Path, raw: dict[str, Any]) -> AdapterConfig:
    for key, check in (("r", _whole), ("lora_alpha", _number)):
        if not check(raw.get(key)):
            raise _wrong(path, f"gives {key} as {_shown(raw.get(key))}")
    for key in ("use_rslora", "use_dora", "lora_bias", "fan_in_fan_out"):
        if not isinstance(raw.get(key), bool | None):
            raise _wrong(path, f"gives {key} as {raw[key]!r}")
    task = raw.get("task_type")
    heads = TASK_HEADS.get(task, ()) if isinstance(task, str) else ()
    return AdapterConfig(
        path=path,
        raw=raw,
        rank=raw["r"],
        alpha=raw["lora_alpha"],
        rank_pattern=_patterns(path, raw, "rank_pattern", _whole),
        alpha_pattern=_patterns(path, raw, "alpha_pattern", _number),
        rslora=raw.get("use_rslora") is True,
        dora=raw.get("use_dora") is True,
        lora_bias=raw.get("lora_bias") is True,
        fan_in_fan_out=raw.get("fan_in_fan_out") is True,
        modules_to_save=(*_strings(path, raw, "modules_to_save"), *heads),
        target_parameters=_strings(path, raw, "target_parameters"),
        tokens=_tokens(path, raw.get("trainable_token_indices")),
        headless=_headless(task, raw.get("auto_mapping")),
    )


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 3.4028235e38


def _patterns(path: Path, raw: dict[str, Any], key: str, check: Any) -> dict[str, Any]:
    patterns = raw.get(key) or {}
    if not isinstance(patterns, dict):
        raise _wrong(path, f"has a {key} that is not a table")
    for pattern, value in patterns.items():
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise _wrong(path, f"has a {key} that is not a regular expression: {pattern!r} ({error})") from error
        if not check(value):
            raise _wrong(path, f"has the value {_shown(value)} for {pattern!r} in {key}")
    return patterns


def _strings(path: Path, raw: dict[str, Any], key: str) -> tuple[str, ...]:
    names = raw.get(key) or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _wrong(path, f"has a {key} that is not a list of names")
    return tuple(names)


def _tokens(path: Path, tokens: Any) -> Mapping[str, tuple[int, ...]] | tuple[int, ...]:
    lists = tokens if isinstance(tokens, dict) else {"": tokens or []}
    for indices in lists.values():
        good = isinstance(indices, list) and all(_whole(i) or (i == 0 and i is not False) for i in indices)
        if not good or len(set(indices)) < len(indices):
            raise _wrong(path, "has trainable_token_indices that are not lists of distinct token numbers")
    parsed = {name: tuple(indices) for name, indices in lists.items()}
    return parsed if isinstance(tokens, dict) else parsed[""]


def _headless(task: Any, auto_mapping: Any) -> bool:
    """Whether the trained model has no output embedding: a classifier, or a bare ``AutoModel``."""
    if task is not None:
        return isinstance(task, str) and task in HEADLESS
    name = auto_mapping.get("base_model_class") if isinstance(auto_mapping, dict) else None
    return isinstance(name, str) and not re.search("LM|Conditional|Pretraining|PreTraining", name)


def _shown(value: Any) -> str:
    """A value for an error message, shortened."""
    try:
        text = repr(value)
    except ValueError:  # an integer that is too long to print
        return "an integer with thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}…"


def _wrong(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{path} {what}", "Copy the adapter again, or save it again with peft's save_pretrained.")
