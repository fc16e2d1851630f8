"""Operands: the revision, working tree, vector, readout, build or checkpoint that an argument names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from persona.building.receipt import ReceiptDifference, quick_differences, read_receipt
from persona.checkpoints.folder import find_run
from persona.checkpoints.sidefiles import RECEIPT
from persona.errors import CheckpointError, NotVerified, UsageError, WrongBase, did_you_mean
from persona.history import refs as refs_
from persona.ids import SHORT, CommitId
from persona.recipe.model import Entry, ReadoutEntry, Recipe
from persona.repository import Repository
from persona.workspace.readouts import NamedReadout, readout_at
from persona.workspace.record import entry_of, worktree_recipe

REVISION, WORK_TREE, VECTOR, BUILD, CHECKPOINT = "revision", "work tree", "vector", "build", "checkpoint"
READOUT = "readout"


@dataclass(frozen=True)
class Operand:
    """What an argument names.

    ``recipe`` of a vector is its base with only this vector at alpha 1, that of a readout its base with only this
    readout; a checkpoint has none. ``unlike`` lists differences between a build and its receipt that show without
    reading tensors. ``commit`` is set for a revision, for a build without edits, and for the working tree if its model
    is that of HEAD.
    """

    kind: str
    label: str
    recipe: Recipe | None = None
    folder: Path | None = None
    vector: Entry | None = None
    unlike: tuple[ReceiptDifference, ...] = ()
    notes: tuple[str, ...] = ()
    commit: CommitId | None = None


def operand_of(repo: Repository | None, spec: str | Path, cwd: Path, *, readouts: bool = False) -> Operand:
    """Find what ``spec`` names: a revision, else a vector (``NAME``, ``NAME@REV``), else a folder.

    Args:
        repo: The repository; None outside of one.
        spec: What was typed. A ``Path``, and text that starts with ``.`` or ``/``, is always a folder.
        cwd: Folder that relative paths start from.
        readouts: Whether the name of a readout is accepted as well.

    Raises:
        UsageError: it names nothing.
    """
    text = str(spec)
    if isinstance(spec, Path) or text.startswith((".", "/")):
        return folder_operand(cwd / spec, text)
    is_path = (cwd / text).exists()
    operand, problem = (None, None) if repo is None else _named(repo, text, readouts)
    if operand is not None:
        note = f"'{text}' is also a folder; using the {operand.kind}. For the folder, write ./{text}"
        return replace(operand, notes=(note,) if is_path else ())
    if is_path:
        return folder_operand(cwd / text, text)
    if problem is not None and not problem.message.startswith("no revision") and "/" not in text:
        raise problem
    known = known_names(repo, readouts) if repo is not None else []
    hint = did_you_mean(text, known) if repo is not None else "Outside a repository, give folders."
    raise UsageError(f"'{text}' is not a revision, a vector of the recipe or a folder", hint)


def _named(repo: Repository, text: str, readouts: bool) -> tuple[Operand | None, UsageError | None]:
    """The revision, vector or readout of that name; or the error why it is not a revision."""
    try:
        return revision_operand(repo, text), None
    except UsageError as error:
        vector = vector_at(repo, text)
        if vector is not None:
            return vector_operand(*vector, text), None
        if readouts and (readout := readout_at(repo, text, usable_recipe(repo))) is not None:
            return readout_operand(readout, text), None
        return None, error


def is_known(repo: Repository, text: str) -> bool:
    """Whether ``text`` names a revision or a vector."""
    return _named(repo, text, readouts=False)[0] is not None


def revision_operand(repo: Repository, rev: str) -> Operand:
    """A commit."""
    commit = repo.resolve(rev)
    return Operand(REVISION, f"{rev} ({commit.short})", repo.recipe(commit), commit=commit)


def worktree_operand(repo: Repository) -> Operand:
    """The current ``persona.toml``."""
    recipe, head = worktree_recipe(repo), repo.head()
    as_committed = recipe.with_readouts(()) == repo.recipe(head).with_readouts(())  # readouts do not change the model
    return Operand(WORK_TREE, repo.recipe_path.name, recipe, commit=head if as_committed else None)


def vector_operand(entry: Entry, recipe: Recipe, label: str) -> Operand:
    """A vector of ``recipe``."""
    alone = Recipe(recipe.base, recipe.base_name, (Entry(entry.name, entry.id),))
    return Operand(VECTOR, f"{label} ({entry.id[:SHORT]})", alone, vector=alone.vectors[0])


def readout_operand(readout: NamedReadout, label: str) -> Operand:
    """A readout, under its name in the recipe."""
    recipe, entry = readout.recipe, ReadoutEntry(readout.name, readout.id)
    alone = Recipe(recipe.base, recipe.base_name).with_readouts([entry])
    return Operand(READOUT, f"{label} ({readout.id[:SHORT]})", alone)


def worktree_vector(repo: Repository, name: str) -> Operand:
    """A vector of the current ``persona.toml``."""
    recipe = worktree_recipe(repo)
    return vector_operand(entry_of(recipe, name), recipe, name)


def vector_at(repo: Repository, text: str) -> tuple[Entry, Recipe] | None:
    """Find ``NAME`` in the current recipe or ``NAME@REV`` in another; None if there is no such vector."""
    recipe = usable_recipe(repo)
    if (entry := recipe.entry(text)) is not None:
        return entry, recipe
    for at in (k for k in reversed(range(len(text))) if text[k] == "@"):  # REV may itself contain an @
        try:
            recipe = repo.recipe(repo.resolve(text[at + 1 :] or refs_.HEAD))
        except UsageError:
            continue
        if (entry := recipe.entry(text[:at])) is not None:
            return entry, recipe
    return None


def usable_recipe(repo: Repository) -> Recipe:
    """The recipe in ``persona.toml``, or HEAD's if the file has errors."""
    try:
        return worktree_recipe(repo)
    except (UsageError, WrongBase):
        return repo.recipe(repo.head())


def known_names(repo: Repository, readouts: bool) -> list[str]:
    """Names of vectors (and readouts) of the recipe, branches and tags, for suggestions."""
    refs = [name.removeprefix(refs_.BRANCHES).removeprefix(refs_.TAGS) for name in repo.refs()]
    recipe = usable_recipe(repo)
    return [*(recipe.names if readouts else (entry.name for entry in recipe.vectors)), *refs]


def folder_operand(path: Path, label: str) -> Operand:
    """A build or checkpoint on disk; in a folder with several ``checkpoint-N``, the newest."""
    folder = find_run(path)
    label = label if folder == path else f"{label.rstrip('/')}/{folder.name}"
    if not (folder / RECEIPT).is_file():
        return Operand(CHECKPOINT, label, folder=folder)
    try:
        receipt = read_receipt(folder)
    except (CheckpointError, NotVerified) as error:
        return Operand(CHECKPOINT, label, folder=folder, notes=(f"treated as a plain checkpoint: {error.message}",))
    commit = receipt["commit"][:SHORT]
    edited = ", with edits" if receipt["edited"] else ""
    return Operand(
        BUILD,
        f"{label} (built from {commit}{edited})",
        Recipe.decode(receipt["recipe"]),
        folder,
        unlike=tuple(quick_differences(folder, receipt)),
        commit=None if receipt["edited"] else CommitId(receipt["commit"]),
    )
