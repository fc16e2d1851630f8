"""Parts of tensor names that wrappers of training libraries leave behind.

_orig_mod                       torch.compile
module                          DistributedDataParallel, DeepSpeed
_fsdp_wrapped_module            FSDP (its first version)
_checkpoint_wrapped_module      activation checkpointing
_forward_module                 Lightning Fabric
"""

from __future__ import annotations

from typing import Final

WRAPPERS: Final = frozenset(
    {"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
)


def unwrapped(name: str) -> str:
    """A tensor's name without the parts that wrappers add, wherever they are."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)
