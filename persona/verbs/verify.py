"""``persona verify``: from a built folder alone, which commit it is and whether a byte has changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from persona.building.receipt import ReceiptDifference, differences, read_receipt
from persona.progress import SILENT, Progress
from persona.recipe.model import Recipe


@dataclass(frozen=True)
class VerifyResult:
    """What a folder says it is, and every way in which it is not; ``ok`` when there is none."""

    folder: Path
    commit: str
    edited: bool
    id: str
    recipe: Recipe
    tensors: int
    differences: tuple[ReceiptDifference, ...]

    @property
    def ok(self) -> bool:
        """Whether every byte is as it was built."""
        return not self.differences


def verify(folder: Path | str, *, progress: Progress = SILENT) -> VerifyResult:
    """Check a folder against the receipt inside it; needs no repository."""
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
