"""Where a build may go: a free name, or an earlier build with nothing of anyone else's in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from persona.building.receipt import entries_of, read_receipt
from persona.checkpoints.folder import RECEIPT
from persona.errors import PersonaError, Refusal
from persona.files import translated


def check_target(target: Path, *, replace: bool) -> None:
    """Raise unless ``target`` is free (or an empty folder), or is an earlier build that may be replaced."""
    if target.resolve() == Path.cwd():
        raise Refusal(f"{target} is the folder you are in", "Name a new folder, such as -o build.")
    with translated(target):
        if not target.exists() or (target.is_dir() and not any(target.iterdir())):
            return
    if not (target / RECEIPT).is_file():
        raise Refusal(f"{target} exists and is no persona build", "Choose another folder; persona will not touch it.")
    if not replace:
        raise Refusal(f"{target} holds an earlier build", "Choose another folder, or add --replace.")
    check_replaceable(target)


def check_replaceable(target: Path) -> None:
    """Raise unless everything in ``target`` is what a build wrote there."""
    try:
        foreign = list(_foreign(target))
    except PersonaError as error:
        raise Refusal(
            f"{target} is not a build as persona wrote it: {error.message}", "Choose another folder; it is left alone."
        ) from None
    if foreign:
        raise Refusal(
            f"{target} holds {foreign[0]}, which the build did not make as it is",
            "Move it out, or choose another folder; nothing was touched.",
        )


def _foreign(target: Path) -> Iterator[str]:
    """Names in the folder that are not the build's, and weight files of another size."""
    receipt = read_receipt(target)
    sizes = {name: said["size"] for name, said in receipt["shards"].items()}
    own = {RECEIPT, *receipt["files"], *sizes}
    with translated(target):
        for name, path in entries_of(target, own):
            plain = name in own and path.is_file() and not path.is_symlink()
            if not plain or path.stat().st_size != sizes.get(name, path.stat().st_size):
                yield name
