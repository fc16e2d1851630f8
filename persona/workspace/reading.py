"""What the commands that apply a readout share: finding the readout, reading texts, and remarks on the results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from persona.errors import UsageError
from persona.jsonlines import lines_of, objects_in, read_text, refuse_tables
from persona.readout.model import Readout
from persona.readout.sinks import EARLIER, is_earlier
from persona.repository import Repository
from persona.workspace.readouts import open_readout
from persona.workspace.record import worktree_recipe

if TYPE_CHECKING:
    from persona.inference.load import LoadedModel

_FORM = 'Write {"text": …} on each line.'

Table = tuple[tuple[float, ...], ...]
"""Numbers by concept and layer."""


def readout_named(repo: Repository | None, spec: str | Path | None, cwd: Path) -> tuple[Readout, str]:
    """Open a readout, and return it with its name.

    Args:
        repo: The repository; None outside of one.
        spec: ``NAME``, ``NAME@REV``, a folder, or None for the recipe's only readout.
        cwd: Folder that relative paths start from.

    Raises:
        UsageError: there is no such readout, or None was given and the recipe does not have exactly one.
    """
    if spec is None:
        names = [entry.name for entry in worktree_recipe(repo).readouts] if repo is not None else []
        if len(names) != 1:
            hint = f"Pass --readout with one of: {', '.join(names)}." if names else "Pass --readout FOLDER."
            raise UsageError("no readout given", hint)
        spec = names[0]
    _, readout = open_readout(repo, spec, cwd)
    return readout, str(spec)


def texts_in(path: Path, *, whole: bool = False) -> tuple[str, ...]:
    """Read texts from a file: the ``text`` of each line of a ``.jsonl`` file, else each non-blank line.

    With ``whole``, a file that is not ``.jsonl`` is a single text.

    Raises:
        UsageError: the file has no text, or a line is not valid.
    """
    refuse_tables(path)
    text = read_text(path)
    texts = tuple(_of_lines(path, text)) if path.suffix == ".jsonl" else (text,) if whole else tuple(lines_of(text))
    texts = tuple(text for text in texts if text.strip())
    if not texts:
        raise UsageError(f"{path} has no text", 'Write one per line, or as JSON: {"text": …}.')
    return texts


def _of_lines(path: Path, text: str) -> Iterator[str]:
    for where, fields in objects_in(path, text, _FORM):
        if not isinstance(fields.get("text"), str):
            raise UsageError(f"{where}: missing 'text'", _FORM)
        yield fields["text"]


def prompts_in(path: Path) -> tuple[str, ...]:
    """Read prompts from a file: the ``prompt`` or ``text`` of each line of a ``.jsonl`` file, else each non-blank line.

    Raises:
        UsageError: the file has no prompt, or a line is not valid.
    """
    if path.suffix != ".jsonl":
        return texts_in(path)
    form, prompts = 'Write {"prompt": …} on each line.', []
    for where, fields in objects_in(path, read_text(path), form):
        prompt = fields.get("prompt", fields.get("text"))
        if not isinstance(prompt, str) or not prompt.strip():
            raise UsageError(f"{where}: missing 'prompt'", form)
        prompts.append(prompt)
    if not prompts:
        raise UsageError(f"{path} has no prompt", form)
    return tuple(prompts)


def remarks(readout: Readout, models: Sequence[LoadedModel]) -> tuple[str, ...]:
    """Remarks on how a readout fits the models that it was applied to."""
    base = readout.about.get("base")
    others = [loaded.label for loaded in models if base is not None and loaded.base is not None and loaded.base != base]
    notes = [f"the readout was trained on a different base than {name}" for name in dict.fromkeys(others)]
    if readout.about.get("pooling") == "assistant":
        notes.append("the readout was trained on the assistant's turns; here it reads whole texts")
    if is_earlier(readout.about):
        notes.append(EARLIER)
    return tuple(notes)


def as_table(values: object) -> Table:
    """Convert an array [concepts, layers] to nested tuples."""
    return tuple(tuple(float(value) for value in row) for row in values)  # type: ignore[attr-defined]
