"""`persona verify`: check a built folder against the receipt in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from persona.building.receipt import ReceiptDifference, differences, read_receipt
from persona.progress import SILENT, Progress
from persona.recipe.model import Recipe


@dataclass(frozen=True)
class VerifyResult:
    """A built folder as its receipt describes it, and all differences from the receipt; `ok` if there are none.

    `edited` says that the build had uncommitted edits on top of `commit`. `id` is the id of the build.
    """

    folder: Path
    commit: str
    edited: bool
    id: str
    recipe: Recipe
    tensors: int
    differences: tuple[ReceiptDifference, ...]

    @property
    def ok(self) -> bool:
        """Whether every byte is unchanged since the build."""
        return not self.differences


def verify(folder: Path | str, *, progress: Progress = SILENT) -> VerifyResult:
    """Check a built folder against its receipt. Needs no repository.

    Raises:
        CheckpointError: The folder has no receipt.
        NotVerified: The receipt itself was changed.
    """
    path = Path(folder)
    receipt = read_receipt(path)
    return VerifyResult(
        folder=path,
        commit=receipt["commit"],
        edited=receipt["edited"],
        id=receipt["id"],
        recipe=Recipe.decode(receipt["recipe"]),
        tensors=len(receipt["tensors"]),
        differences=tuple(differences(path, receipt, progress)),
    )
