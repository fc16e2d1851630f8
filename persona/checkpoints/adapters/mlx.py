"""Reading an adapter of mlx-lm: ``adapters.safetensors`` and the arguments of its training in ``adapter_config.json``.

    linear       ΔW = s · (lora_a · lora_b)ᵀ         ``lora_a`` [in, r], ``lora_b`` [r, out]
    embedding    ΔW = s · lora_a · lora_b            ``lora_a`` [vocabulary, r], ``lora_b`` [r, dim]
    experts      ΔW[e] = s · lora_b[e] · lora_a[e]   ``switch_mlp``: ``lora_a`` [E, r, in], ``lora_b`` [E, out, r]
    DoRA         W' = m · (W + ΔW) / ‖W + ΔW‖        one ``m`` and one norm per row, also for embeddings
    s = ``lora_parameters.scale``, whatever the rank; other keys are whole tensors (``fine_tune_type`` full)

Source: mlx-lm, tuner/lora.py, tuner/dora.py, tuner/utils.py. Names are those of the base's files.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from persona.checkpoints.adapters import dense, ties
from persona.checkpoints.adapters.collector import Collector
from persona.checkpoints.adapters.config import OTHER_BASE, AdapterConfig
from persona.checkpoints.adapters.keys import Keys
from persona.checkpoints.adapters.layers import check_base
from persona.checkpoints.adapters.model import Adapter, BaseView, Factor, LowRank
from persona.checkpoints.dtypes import ARITHMETIC
from persona.checkpoints.tensorfile import TensorFile, TensorInfo
from persona.checkpoints.ties import is_embedding
from persona.errors import CheckpointError
from persona.files import read_bytes, translated

WEIGHTS: Final = "adapters.safetensors"
KINDS: Final = ("lora", "dora", "full")
EXPERTS: Final = {"gate_proj": ("gate_proj", "w1"), "up_proj": ("up_proj", "w3"), "down_proj": ("down_proj", "w2")}
"""A layer of ``switch_mlp`` → the names of an expert's layer in the base's files."""
FUSE: Final = "Merge it with mlx_lm.fuse and commit the merged folder."

Parts = dict[str, TensorInfo]


@dataclass
class _Sorted:
    """Factors by module path, and whole tensors by name."""

    lora: dict[str, Parts] = field(default_factory=dict)
    full: dict[str, TensorInfo] = field(default_factory=dict)


def is_mlx(folder: Path) -> bool:
    """Whether a folder has mlx-lm's weights and not PEFT's."""
    return (folder / WEIGHTS).is_file() and not any(
        (folder / f"adapter_model.{end}").is_file() for end in ("safetensors", "bin")
    )


def open_mlx(folder: Path, config_file: str, base: BaseView, tied: str | None = None) -> Adapter:
    """Open the adapter in ``folder`` and express it as changes to the tensors of ``base``.

    Raises:
        CheckpointError: its configuration is not mlx-lm's, or it does not fit ``base``.
    """
    path = folder / config_file
    raw = _read(path)
    config = _config(path, raw)
    file = TensorFile(folder / WEIGHTS)
    collector = Collector(file, Keys(), config, base)
    found = _sort(collector)
    for module, parts in sorted(found.lora.items()):
        _check_parts(collector, module, parts)
        if ".switch_mlp." in module:
            _add_experts(collector, module, parts)
        else:
            _add(collector, module, parts)
    collector.add_whole(found.full)
    return ties.settle(file, config, base, collector.changes, tied)


def _read(path: Path) -> dict[str, Any]:
    with translated(path):
        text = read_bytes(path)
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error})", "Copy the adapter again.") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} is not a JSON object", "Copy the adapter again.")
    return raw


def _config(path: Path, raw: dict[str, Any]) -> AdapterConfig:
    """The settings as the adapter readers' configuration; ``alpha`` is the scale for rank 1."""
    kind = raw.get("fine_tune_type", "lora")
    if kind not in KINDS:
        raise CheckpointError(f"{path}: unknown fine_tune_type {kind!r}", f"Supported are {', '.join(KINDS)}. {FUSE}")
    parameters = raw.get("lora_parameters")
    scale = parameters.get("scale") if isinstance(parameters, Mapping) else None
    if kind != "full" and (not isinstance(scale, int | float) or isinstance(scale, bool)):
        raise CheckpointError(
            f"{path} has no number for lora_parameters.scale, without which the adapter's strength is unknown",
            "Copy the adapter_config.json that mlx_lm.lora wrote. " + FUSE,
        )
    return AdapterConfig(
        path=path,
        raw={**raw, "base_model_name_or_path": raw.get("model")},
        rank=1,
        alpha=float(scale) if isinstance(scale, int | float) else 1.0,
        rank_pattern={},
        alpha_pattern={},
        rslora=False,
        dora=kind == "dora",
        lora_bias=False,
        fan_in_fan_out=False,
        modules_to_save=(),
        target_parameters=(),
        tokens=(),
        headless=False,
    )


def _sort(collector: Collector) -> _Sorted:
    found = _Sorted()
    for key, info in sorted(collector.file.tensors.items()):
        module, _, part = key.rpartition(".")
        if part in ("lora_a", "lora_b", "m"):
            found.lora.setdefault(module, {})[part] = info
        else:
            found.full[key] = info
    if not collector.file.tensors:
        raise collector.error("it contains no tensors", "Copy the adapter again.")
    return found


def _check_parts(collector: Collector, module: str, parts: Parts) -> None:
    wanted = {"lora_a", "lora_b", "m"} if collector.config.dora else {"lora_a", "lora_b"}
    if set(parts) != wanted:
        what = f"lacks {', '.join(sorted(wanted - set(parts)))}" if wanted - set(parts) else "has an m, but is no DoRA"
        raise collector.error(f"'{module}' {what}", "Copy the adapter again, with its adapter_config.json.")
    for info in parts.values():
        if info.dtype not in ARITHMETIC:
            raise collector.error(f"'{info.name}' has the unsupported dtype {info.dtype}", FUSE)


def _add(collector: Collector, module: str, parts: Parts) -> None:
    """A linear layer or an embedding."""
    a, b = parts["lora_a"], parts["lora_b"]
    origin = collector.origin(collector.names.require(f"{module}.weight", a.name))
    check_base(collector, origin, a)
    collector.free(origin.name, a)
    shape = origin.shape
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[1] != b.shape[0] or 0 in (*a.shape, *b.shape):
        raise collector.misfit(a, origin.name, shape)
    scale, embedding = collector.config.alpha, (a.shape[0], b.shape[1]) == shape
    linear = (b.shape[1], a.shape[0]) == shape
    if not embedding and not linear:
        raise collector.misfit(a, origin.name, shape)
    if embedding and (is_embedding(origin.name) or not linear):
        delta = LowRank(Factor(a, False), Factor(b, False), scale)
    else:
        delta = LowRank(Factor(b, True), Factor(a, True), scale)
    if not collector.config.dora:
        collector.changes.low_rank[origin.name] = delta
        return
    magnitude = parts["m"]
    if magnitude.shape != shape[:1]:
        raise collector.misfit(magnitude, origin.name, shape)
    file = collector.file
    made = dense.made(origin, "DoRA", lambda: dense.dora(file, origin, delta, magnitude, axis=0))
    collector.changes.made[origin.name] = made


def _add_experts(collector: Collector, module: str, parts: Parts) -> None:
    """All experts of a layer, which the base has one by one."""
    a, b = parts["lora_a"], parts["lora_b"]
    around, _, layer = module.partition(".switch_mlp.")
    names = _experts(collector, around, layer, a)
    if not names:
        raise collector.error(
            f"'{a.name}' changes the experts of '{around}', which the base does not have one by one", FUSE
        )
    fits = len(a.shape) == len(b.shape) == 3 and a.shape[0] == b.shape[0] == len(names) and a.shape[1] == b.shape[2]
    for expert, name in enumerate(names):
        origin = collector.origin(name)
        if not fits or origin.shape != (b.shape[1], a.shape[2]):
            raise collector.error(
                f"'{a.name}' {list(a.shape)} and '{b.name}' {list(b.shape)} do not fit '{name}' {list(origin.shape)}, the "
                f"first of {len(names)} experts in the base",
                OTHER_BASE,
            )
        check_base(collector, origin, a)
        collector.free(name, a)
        pair = (Factor(b, False, expert=expert), Factor(a, False, expert=expert))
        collector.changes.low_rank[name] = LowRank(*pair, collector.config.alpha)


def _experts(collector: Collector, around: str, layer: str, a: TensorInfo) -> list[str]:
    for own in EXPERTS.get(layer, (layer,)):
        names = (collector.names.find(f"{around}.experts.{at}.{own}.weight", a.name) for at in itertools.count())
        if found := list(itertools.takewhile(lambda name: name is not None, names)):
            return [name for name in found if name is not None]
    return []
