"""Parts of names that training wrappers leave in a state dict.

``_orig_mod.``                     torch.compile
``_fsdp_wrapped_module.``          FSDP, also around each layer
``_checkpoint_wrapped_module.``    activation checkpointing
``_forward_module.``               Lightning Fabric
``module.``                        DistributedDataParallel, DataParallel, DeepSpeed: at the start
"""

from __future__ import annotations

from collections.abc import Iterator

WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
"""Modules that only wrap another; no model has modules with these names."""
OUTERMOST = "module"
"""The name under which data-parallel wrappers hold the model."""


def unwrapped(name: str) -> str:
    """The name of a tensor in the model, without the parts that wrappers added."""
    parts = [part for part in name.split(".") if part not in WRAPPERS]
    while len(parts) > 1 and parts[0] == OUTERMOST:
        del parts[0]
    return ".".join(parts)


def without_leading(name: str) -> Iterator[str]:
    """``name`` without one, two, … leading parts: at least a module and its tensor remain, and no layer number goes."""
    parts = name.split(".")
    for at in range(1, len(parts) - 1):
        if parts[at - 1].isdigit():
            return
        if not parts[at].isdigit():
            yield ".".join(parts[at:])
