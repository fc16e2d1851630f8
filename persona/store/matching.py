"""Whether a checkpoint on disk is a base that the store has: by the hashes of its tensors, the small ones first."""

from __future__ import annotations

from persona.checkpoints.folder import Checkpoint
from persona.errors import CheckpointError
from persona.files import translated
from persona.ids import tensor_id
from persona.store.nouns import Base


def first_difference(checkpoint: Checkpoint, base: Base) -> str | None:
    """A tensor that is not the base's, or that only one of them has; None if the weights are the base's own."""
    theirs = checkpoint.tensors
    wanted = {**base.tensors, **{alias: base.tensors[name] for alias, name in base.tied.items() if alias in theirs}}
    for name in sorted({*theirs, *wanted}):
        if name not in theirs or name not in wanted:
            return name
        if (theirs[name].dtype, theirs[name].shape) != (wanted[name].dtype, wanted[name].shape):
            return name
    for name, spec in sorted(wanted.items(), key=lambda item: (item[1].entries, item[0])):
        file = checkpoint.owner[name]
        with translated(file.path):
            if tensor_id(spec.dtype, spec.shape, file.chunks(theirs[name]), threads=True) != spec.id:
                return name
    return None


def check_is_base(checkpoint: Checkpoint, base: Base, base_name: str) -> None:
    """Raise unless the checkpoint's weights are the base's."""
    name = first_difference(checkpoint, base)
    if name is not None:
        raise CheckpointError(
            f"{checkpoint.folder} is not this repository's base ({base_name or 'unnamed'}): {name} differs",
            "Give the folder of that very checkpoint.",
        )
