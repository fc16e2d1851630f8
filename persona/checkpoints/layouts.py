"""What a folder without weights that persona can read is, and what to do with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from persona.checkpoints import hub
from persona.checkpoints.sidefiles import ADAPTER_CONFIG
from persona.errors import CheckpointError

ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "adapters.safetensors")
"""Names of an adapter's weights in PEFT's and mlx-lm's folders."""

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_NOT_WEIGHTS = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state.*|.*optim_states)\.(bin|pt|pth)")

Answer = tuple[str, str]
"""What a folder is, after its name, and what to do."""


def pickles(folder: Path) -> list[Path]:
    """The pickled weight files in a folder."""
    found = (path for pattern in _PICKLES for path in folder.glob(pattern))
    return sorted(path for path in found if path.is_file() and not _NOT_WEIGHTS.fullmatch(path.name))


def missing(path: Path) -> CheckpointError:
    """The error for a path that does not exist."""
    hint = "Give the folder with the weights."
    if hub.ID.fullmatch(str(path)):
        hint += f" To use a model of the Hugging Face Hub, download it first: hf download {path}"
    return CheckpointError(f"{path} does not exist", hint)


def incomplete(name: Path, snapshot: Path) -> CheckpointError:
    """The error for a model of the hub whose folder in the cache has no weights that persona can read."""
    if pickles(snapshot) or any(snapshot.glob("*.gguf")):
        return CheckpointError(
            f"{name} has no safetensors file", f"Convert it: persona convert {snapshot} -o {name.name}"
        )
    return CheckpointError(f"the hub's cache has {name} without its weights", f"Download them: hf download {name}")


def not_a_folder(path: Path) -> CheckpointError:
    """The error for a file."""
    if path.suffix == ".gguf":
        return CheckpointError(f"{path} is a GGUF file, not a checkpoint", _convert(path))
    if path.suffix == ".safetensors":
        return CheckpointError(f"{path} is a file", f"Give its folder: {path.parent}")
    if any(path.match(pattern) for pattern in _PICKLES):
        return CheckpointError(f"{path} is a pickle, which persona does not read", _convert(path))
    return CheckpointError(f"{path} is a file", "Give its folder, as save_pretrained or a Trainer wrote it.")


def no_weights(folder: Path) -> CheckpointError:
    """The error for a folder without weights."""
    for explain in _KINDS:
        answer = explain(folder)
        if answer is not None:
            return CheckpointError(f"{folder} {answer[0]}", answer[1])
    return CheckpointError(
        f"{folder} is not a checkpoint: it contains no safetensors file and no {ADAPTER_CONFIG}",
        "Give a folder that save_pretrained or a Trainer wrote.",
    )


def two_in_one(folder: Path, weights: str) -> CheckpointError:
    """The error for a folder that has both full weights and an adapter."""
    return CheckpointError(
        f"{folder} has full weights ({weights}) and an adapter ({ADAPTER_CONFIG}): either could be meant",
        f"To commit the adapter: persona import-adapter {folder}. To use the full weights, move {ADAPTER_CONFIG} and "
        "the adapter's weights to another folder.",
    )


def _pickled(folder: Path) -> Answer | None:
    found = pickles(folder)
    if not found:
        return None
    return f"contains {found[0].name} but no safetensors file, and persona does not read pickles", (
        f"Convert it to safetensors first: {_command(folder)}"
    )


def _fsdp(folder: Path) -> Answer | None:
    """What accelerate, torch.distributed.checkpoint and torchtune write: each process its own part."""
    for place in (folder, *sorted(folder.glob("*/"))):
        if not any(place.glob("*.distcp")) or place.name.startswith("optimizer"):
            continue
        what = "has sharded FSDP weights" if place == folder else f"has sharded FSDP weights in {place.name}"
        if not (place / ".metadata").is_file():
            return (
                f"{what}, but no .metadata, which is written last",
                "The save was interrupted: use another checkpoint.",
            )
        return f"{what}, which have to be merged", f"Merge them: {_command(folder)}"
    return None


def _deepspeed(folder: Path) -> Answer | None:
    """What DeepSpeed's engine saves: the parts of each process, and a script that merges them."""
    steps = sorted(folder.glob("global_step*/"))
    if not steps and not (folder / "zero_to_fp32.py").is_file():
        return None
    return "has sharded DeepSpeed weights, which have to be merged", (
        f"Merge them with DeepSpeed's script: python {folder / 'zero_to_fp32.py'} {folder} {folder}-fp32 "
        f"--safe_serialization, copy config.json to {folder}-fp32, then give that folder."
    )


def _adapters(folder: Path) -> Answer | None:
    """PEFT saves adapters that are not called "default" in folders of their names."""
    inner = sorted(path.parent.name for path in folder.glob(f"*/{ADAPTER_CONFIG}"))
    if not inner:
        return None
    many = f"To commit all of them: persona import-adapter {folder}" if len(inner) > 1 else ""
    what = "adapters in its folders" if len(inner) > 1 else "an adapter in its folder"
    return f"is not a checkpoint, but has {what} {', '.join(inner)}", (
        f"{'Give one of them, such as' if many else 'Give that folder:'} {folder / inner[0]}{'. ' if many else ''}{many}"
    )


def _gguf(folder: Path) -> Answer | None:
    found = sorted(folder.glob("*.gguf"))
    return (f"contains {found[0].name} but no safetensors file", _convert(found[0])) if found else None


def _hub_cache(folder: Path) -> Answer | None:
    snapshots = sorted(folder.glob("snapshots/*"))
    if not snapshots:
        return None
    return "is a folder of the hub cache, not a checkpoint", f"Give the folder of a revision: {snapshots[-1]}"


def _inner(folder: Path) -> Answer | None:
    """A folder around the checkpoint, or around several."""
    inner = sorted(path.parent for path in folder.glob("*/*.safetensors"))
    if not inner:
        return None
    return "is not a checkpoint, but folders in it have weights", f"Give one of them, such as {inner[0]}"


_KINDS: tuple[Callable[[Path], Answer | None], ...] = (
    _fsdp, _deepspeed, _pickled, _adapters, _gguf, _hub_cache, _inner,
)  # fmt: skip


def _command(folder: Path) -> str:
    return f"persona convert {folder} -o {folder}-safe"


def _convert(file: Path) -> str:
    return f"Convert it first: persona convert {file} -o {file.with_suffix('')}"
