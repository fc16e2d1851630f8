"""Where a build may go: a free name, or an earlier build that holds nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from persona.building.publish import OutputFolder
from persona.building.receipt import MISSING, differences, entries_of, quick_differences, read_receipt
from persona.checkpoints.sidefiles import RECEIPT
from persona.errors import PersonaError, Refusal
from persona.files import translated

STORE = ".persona"
"""The folder that a repository keeps its files in."""


def check_target(target: Path, *, replace: bool) -> None:
    """Check that a build may be written to ``target``.

    Raises:
        Refusal: ``target`` is in use and is not an earlier build, or is one and ``replace`` is not set.
    """
    if target.resolve() == Path.cwd():
        raise Refusal(f"{target} is the current folder", "Give a new folder, such as -o build.")
    if STORE in target.resolve().parts:
        raise Refusal(
            f"{target} is in {STORE}, where persona keeps its own files", "Give another folder, such as -o build."
        )
    with translated(target):
        if not target.exists() or (target.is_dir() and not any(target.iterdir())):
            return
    if not (target / RECEIPT).is_file():
        raise Refusal(
            f"{target} exists and is not a persona build", "Choose another folder; persona will not touch it."
        )
    if not replace:
        raise Refusal(f"{target} holds an earlier build", "Choose another folder, or add --replace.")
    check_replaceable(target)


def check_replaceable(target: Path) -> None:
    """Check that everything in ``target`` is as a build wrote it, so that replacing it loses nothing.

    Small files and headers of weights are compared with the receipt. Tensors are, if their file is newer than the receipt.

    Raises:
        Refusal: a file was added or changed.
    """
    try:
        foreign = list(_foreign(target))
    except PersonaError as error:
        raise Refusal(
            f"{target} is not an intact build: {error.message}", "Choose another folder; this one was not touched."
        ) from None
    if foreign:
        raise Refusal(
            f"{target} holds {foreign[0]}, which is not as the build wrote it",
            f"Move it out, delete the folder (rm -r {target}), or choose another one; nothing was touched.",
        )


def publish(folder: OutputFolder, small: Mapping[str, bytes], receipt: bytes) -> None:
    """Add the small files and the receipt, and give a finished build its name."""
    for name, data in [*small.items(), (RECEIPT, receipt)]:
        folder.add_file(name, data)
    if folder.target.exists() and any(folder.target.iterdir()):
        check_replaceable(folder.target)  # checked before the build, but files may have been added since
    folder.publish()


def _foreign(target: Path) -> Iterator[str]:
    """Names in the folder that the build did not write, and files that were changed since."""
    receipt = read_receipt(target)
    own = {RECEIPT, *receipt["files"], *receipt["shards"]}
    with translated(target):
        names = dict(entries_of(target, own))
    yield from (name for name, path in names.items() if name not in own or path.is_symlink() or not path.is_file())
    # what is missing cannot be lost
    yield from (one.what for one in quick_differences(target, receipt) if one.how != MISSING)
    with translated(target):
        written = names[RECEIPT].stat().st_mtime_ns
        newer = [name for name in receipt["shards"] if name in names and names[name].stat().st_mtime_ns > written]
    if newer:
        yield from (one.what for one in differences(target, receipt) if one.how != MISSING)
