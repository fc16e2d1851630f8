"""From an adapter's keys to changes of the base's tensors."""

from __future__ import annotations

from persona.checkpoints.adapters import experts, split_experts
from persona.checkpoints.adapters.collector import AdapterChanges, Collector
from persona.checkpoints.adapters.config import AdapterConfig
from persona.checkpoints.adapters.keys import Keys
from persona.checkpoints.adapters.layers import check_halves, place
from persona.checkpoints.adapters.model import BaseView
from persona.checkpoints.tensorfile import TensorFile


def collect(file: TensorFile, keys: Keys, config: AdapterConfig, base: BaseView) -> AdapterChanges:
    """Convert every key of the adapter to a change of a base tensor.

    Raises:
        CheckpointError: a key does not fit the base.
    """
    collector = Collector(file, keys, config, base)
    collector.add_full()
    _add_modules(collector)
    collector.add_tokens()
    collector.add_copies()
    return collector.changes


def _add_modules(collector: Collector) -> None:
    """Linear, Conv1D, Embedding, ConvNd and parameter adapters."""
    lora = collector.keys.lora
    for path, parts in lora.items():
        check_halves(collector.file, path, parts)
    wrapped = experts.group(collector)
    for path, parts in lora.items():
        if path not in wrapped.paths:
            place(collector, path, parts)
    for module, pairs in wrapped.modules.items():
        experts.place(collector, module, pairs, wrapped.targets[module])
    for key, by_expert in wrapped.experts.items():
        split_experts.place(collector, key, by_expert)
