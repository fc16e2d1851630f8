"""`persona readout export`: write a readout for vLLM, llama.cpp or numpy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from persona import files
from persona.errors import Refusal, UsageError
from persona.ids import BaseId
from persona.repository import Repository
from persona.workspace.readouts import open_readout

if TYPE_CHECKING:
    from persona.readout.model import Readout

_OURS = (".gguf", "vectors.safetensors", "manifest.json")


@dataclass(frozen=True)
class ReadoutExportResult:
    """The files written. `paste` has the environment variables or arguments that make the program use them."""

    name: str
    format: str
    out: Path
    files: tuple[Path, ...]
    concepts: tuple[str, ...]
    layers: tuple[int, ...]
    scale: str
    paste: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def readout_export(
    repo: Repository | None,
    readout: str | Path,
    out: Path | str,
    *,
    format: str,
    concepts: Sequence[str] = (),
    layers: Sequence[int] = (),
    scale: str = "unit",
    replace: bool = False,
    cwd: Path | str = ".",
) -> ReadoutExportResult:
    """Export a readout, or some of its concepts and layers.

    Args:
        readout: Name, `NAME@REV` or folder.
        out: New folder for "vllm" (two files) and "gguf" (a control vector per concept), or new file for "npz".
        format: "vllm", "gguf" or "npz".
        concepts: Concepts to export; by default all.
        layers: Layers to export; by default all.
        scale: "unit" for directions of length 1, "raw" for their original length.
        replace: Replace an earlier export.
        cwd: Folder that a relative `readout` starts from.

    Raises:
        UsageError: an argument is invalid, or the format cannot hold the readout.
        Refusal: `out` exists.
    """
    from persona.readout import export
    from persona.readout.select import select

    for what, given, known in (("format", format, export.FORMATS), ("scale", scale, export.SCALES)):
        if given not in known:
            raise UsageError(f"unknown {what} '{given}'", f"Known: {', '.join(known)}.")
    target = Path(out)
    name, whole = open_readout(repo, readout, Path(cwd))
    chosen = select(whole, concepts, layers)
    if format == export.GGUF and 0 in layers:
        raise UsageError("llama.cpp cannot steer layer 0", "Remove layer 0 from --layers, or export npz.")
    contents = export.encoded(chosen, format, scale, _hint(repo, chosen))
    write = _write_file if format == export.NPZ else _write_folder
    written = write(target, contents, replace)
    notes = ["layer 0 is left out: llama.cpp cannot steer it"] if format == export.GGUF and 0 in chosen.layers else []
    kept = tuple(layer for layer in chosen.layers if layer != 0 or format != export.GGUF)
    return ReadoutExportResult(
        name, format, target, written, chosen.concepts, kept, scale, tuple(_paste(format, written)), tuple(notes)
    )


def _hint(repo: Repository | None, readout: Readout) -> str:
    """The base's model type, if known."""
    base = readout.about.get("base")
    if repo is not None and isinstance(base, str) and len(base) == 64 and BaseId(base) in repo.objects:
        return str(repo.model_config(repo.base(BaseId(base))).get("model_type", "unknown"))
    return "unknown"


def _paste(format: str, written: Sequence[Path]) -> Iterable[str]:
    if format == "vllm":
        for path, variable in zip(written, ("VLLM_READOUT_VECTORS", "VLLM_READOUT_MANIFEST"), strict=True):
            yield f"{variable}={path.resolve()}"
    if format == "gguf":
        yield from (f"--control-vector {path}" for path in written)


def _write_file(target: Path, contents: Mapping[str, bytes], replace: bool) -> tuple[Path, ...]:
    if target.is_dir() or (target.exists() and not replace):
        what = "is a folder" if target.is_dir() else "already exists"
        raise Refusal(f"{target} {what}", "Name a new file, such as -o readout.npz; --replace replaces a file.")
    files.make_folder(target.resolve().parent)
    [data] = contents.values()
    files.write_file(target, data)
    return (target,)


def _write_folder(target: Path, contents: Mapping[str, bytes], replace: bool) -> tuple[Path, ...]:
    """Write all files to a new folder, atomically."""
    _check_free(target, replace)
    with files.staged_folder(target.resolve(), replace=replace) as staging:
        for name, data in contents.items():
            files.write_file(staging / name, data)
    return tuple(target / name for name in contents)


def _check_free(target: Path, replace: bool) -> None:
    with files.translated(target):
        if not target.exists():
            return
        here = sorted(path.name for path in target.iterdir()) if target.is_dir() else [""]
    foreign = [name for name in here if not name.endswith(_OURS)]
    if foreign or (here and not replace):
        what = f"contains {foreign[0]}, which is not from an export" if foreign and foreign[0] else "already exists"
        raise Refusal(
            f"{target} {what}", "Choose another folder; --replace replaces an earlier export. Nothing was changed."
        )
