"""How the readout verbs load and run models: options that travel together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from persona.progress import Progress
from persona.readout.model import Readout
from persona.repository import Repository
from persona.workspace.loading import load_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from persona.checkpoints.dtypes import Float32
    from persona.inference.load import LoadedModel


@dataclass(frozen=True)
class RunOptions:
    """How to load and run a model.

    Args:
        cwd: Folder that relative paths start from.
        dtype: Data type to run in; None as stored.
        blocks: Where the list of blocks is in the model, such as "model.layers"; None to find it.
        batch_size: Number of texts per batch.
    """

    cwd: Path
    dtype: str | None
    device: str
    blocks: str | None
    batch_size: int
    progress: Progress

    def load(self, repo: Repository | None, spec: str | Path | None) -> LoadedModel:
        """Load the model that `spec` names (see `load_model`)."""
        return load_model(repo, spec, self.cwd, dtype=self.dtype, device=self.device, progress=self.progress)

    def project(self, model: LoadedModel, readout: Readout, texts: Sequence[str]) -> Float32:
        """Project texts; fp32 [texts, concepts, layers] in raw units."""
        from persona.readout.score import projections

        return projections(
            model, readout, texts, blocks=self.blocks, batch_size=self.batch_size, progress=self.progress
        )
