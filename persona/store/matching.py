"""Compare a checkpoint on disk with a stored base by tensor hashes, smallest tensors first."""

from __future__ import annotations

from persona.checkpoints.folder import Checkpoint
from persona.errors import CheckpointError
from persona.files import translated
from persona.ids import tensor_id
from persona.store.nouns import Base


def first_difference(checkpoint: Checkpoint, base: Base) -> str | None:
    """The name of a tensor that differs from the base or that only one of them has; None if all are equal."""
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
    """Raise CheckpointError unless the checkpoint's weights are the base's."""
    name = first_difference(checkpoint, base)
    if name is not None:
        raise CheckpointError(
            f"{checkpoint.folder} is not this repository's base ({base_name or 'unnamed'}): {name} differs",
            "Give the folder of the checkpoint that the repository was initialized with.",
        )
