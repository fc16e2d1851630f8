"""What the commands that read a model share: the readout that a person named, texts, and what is worth a remark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from persona.errors import UsageError
from persona.jsonlines import json_in, lines_of, read_text
from persona.readout.model import Readout
from persona.repository import Repository
from persona.workspace.readouts import open_readout
from persona.workspace.record import worktree_recipe

if TYPE_CHECKING:
    from persona.inference.load import LoadedModel

Table = tuple[tuple[float, ...], ...]
"""Numbers by concept and layer."""


def readout_named(repo: Repository | None, said: str | Path | None, cwd: Path) -> tuple[Readout, str]:
    """The readout that ``said`` means, and what to call it: ``NAME``, ``NAME@REV`` or a folder relative to ``within``; the
    recipe's only one if nothing is said.
    """
    if said is None:
        names = [entry.name for entry in worktree_recipe(repo).readouts] if repo is not None else []
        if len(names) != 1:
            hint = f"Give --readout and one of: {', '.join(names)}." if names else "Give --readout and a folder of one."
            raise UsageError("which readout?", hint)
        said = names[0]
    _, readout = open_readout(repo, said, cwd)
    return readout, str(said)


def texts_in(path: Path, *, whole: bool = False) -> tuple[str, ...]:
    """The texts of a file: of a ``.jsonl`` file the ``text`` of each line, else each line that is not blank.

    With ``whole``, another file than ``.jsonl`` is one text.
    """
    text = read_text(path)
    found = tuple(_of_lines(path, text)) if path.suffix == ".jsonl" else (text,) if whole else tuple(text.splitlines())
    found = tuple(one for one in found if one.strip())
    if not found:
        raise UsageError(f"{path} has no text", 'Write one on each line, or as JSON: {"text": …}.')
    return found


def _of_lines(path: Path, text: str) -> Iterator[str]:
    for where, line in lines_of(path, text):
        fields = json_in(where, line)
        if not isinstance(fields, dict) or not isinstance(fields.get("text"), str):
            raise UsageError(f"{where} has no 'text'", 'Write {"text": …} on each line.')
        yield fields["text"]


def remarks(readout: Readout, lives: Sequence[LoadedModel]) -> tuple[str, ...]:
    """What a reader of the numbers should know."""
    base = readout.about.get("base")
    others = [live.label for live in lives if base is not None and live.base is not None and live.base != base]
    notes = [f"the readout was trained on another base than that of {name}" for name in dict.fromkeys(others)]
    if readout.about.get("pooling") == "assistant":
        notes.append("the readout was trained on the assistant's turns; here all of a text is read")
    return tuple(notes)


def as_table(values: object) -> Table:
    """An array [concepts, layers] as a result has it."""
    return tuple(tuple(float(one) for one in row) for row in values)  # type: ignore[attr-defined]
