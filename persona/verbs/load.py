"""``persona.load``: a model and its tokenizer in memory, as objects of transformers."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from persona.ids import CommitId
from persona.progress import SILENT, Progress
from persona.repository import Repository
from persona.workspace.loading import load_operand, model_operand


class Model:
    """A model and its tokenizer; ``model, tokenizer = …`` unpacks it.

    As a context manager it frees the model's memory at the end of the block, even if other names refer to the model.

    Attributes:
        model: A causal language model of transformers, in evaluation mode and without gradients.
        tokenizer: Its tokenizer of transformers; None if it has none.
        label: What it is, such as ``main (3f2a1b4c5d6e)``.
        commit: The commit that it is the model of; None for a model that no commit has.
    """

    def __init__(self, model: Any, tokenizer: Any, label: str, commit: CommitId | None) -> None:
        self.model, self.tokenizer, self.label, self.commit = model, tokenizer, label, commit

    def __iter__(self) -> Iterator[Any]:
        yield self.model
        yield self.tokenizer

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *failure: object) -> None:
        self.free()

    def free(self) -> None:
        """Free the memory of the weights. The model can no longer be used."""
        if self.model is None:
            return
        import torch

        on_gpu = any(weight.is_cuda for weight in self.model.parameters())
        self.model.to("meta")
        self.model = self.tokenizer = None
        gc.collect()
        if on_gpu:
            torch.cuda.empty_cache()

    def __repr__(self) -> str:
        kind = "freed" if self.model is None else f"{type(self.model).__name__}, {_dtype(self.model)}"
        return f"Model({self.label!r}, {kind})"


def load(
    repo: Repository,
    rev: str | Path | None = None,
    *,
    device: str = "cpu",
    dtype: str | None = None,
    cwd: Path | str = ".",
    progress: Progress = SILENT,
) -> Model:
    """Build a model in memory and load it, without writing files.

    Args:
        rev: A revision, ``base`` for the base alone, a vector (alone on its base) or a folder. By default the current
            ``persona.toml``.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: ``bf16``, ``fp16`` or ``fp32`` to run in. By default as stored.
        cwd: Folder that a relative path in ``rev`` starts from.

    Raises:
        UsageError: ``rev`` names nothing, or the device or dtype is not available.
        CheckpointError: transformers cannot load the model.
    """
    operand = model_operand(repo, rev, Path(cwd))
    loaded = load_operand(repo, operand, dtype=dtype, device=device, progress=progress)
    return Model(loaded.model, loaded.tokenizer, loaded.label, operand.commit)


def _dtype(model: Any) -> str:
    return str(model.dtype).removeprefix("torch.")
