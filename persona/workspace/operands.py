"""One side of a comparison: a revision, the work tree, a vector, a readout, a built folder, or a checkpoint on disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from persona.building.receipt import ReceiptDifference, quick_differences, read_receipt
from persona.checkpoints.folder import RECEIPT, find_run
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
    """What a person named. A checkpoint has no recipe; that of a vector is its base and it alone, at alpha 1; that of
    a readout is its base and it.

    ``unlike`` is what is no longer as a folder was built, as far as can be told at a glance; ``commit`` is the commit
    that a revision means, that a folder was built from without edits, or whose model ``persona.toml`` is as it stands.
    """

    kind: str
    label: str
    recipe: Recipe | None = None
    folder: Path | None = None
    vector: Entry | None = None
    unlike: tuple[ReceiptDifference, ...] = ()
    notes: tuple[str, ...] = ()
    commit: CommitId | None = None


def operand_of(repo: Repository | None, said: str | Path, cwd: Path, *, readouts: bool = False) -> Operand:
    """What ``said`` means: a revision, else a vector (``NAME``, ``NAME@REV``), else a folder, relative to ``within``.

    What begins with ``.`` or ``/`` and any ``Path`` is a folder. With ``readouts`` a name may be a readout's: it is no
    model, and of no use to those who ask for one.
    """
    text = str(said)
    if isinstance(said, Path) or text.startswith((".", "/")):
        return folder_operand(cwd / said, text)
    is_there = (cwd / text).exists()
    found, problem = (None, None) if repo is None else _named(repo, text, readouts)
    if found is not None:
        note = f"'{text}' is taken for a {found.kind}; write ./{text} for the folder of that name"
        return replace(found, notes=(note,) if is_there else ())
    if is_there:
        return folder_operand(cwd / text, text)
    if problem is not None and not problem.message.startswith("no revision") and "/" not in text:
        raise problem
    hint = (
        did_you_mean(text, known_names(repo, readouts))
        if repo is not None
        else "Outside of a repository, give two folders."
    )
    raise UsageError(f"'{text}' is no revision, no vector of the recipe and no folder", hint)


def _named(repo: Repository, text: str, readouts: bool) -> tuple[Operand | None, UsageError | None]:
    """A revision, a vector or a readout; or why it is no revision."""
    try:
        return revision_operand(repo, text), None
    except UsageError as error:
        entry = vector_at(repo, text)
        if entry is None and readouts and (found := readout_at(repo, text, usable_recipe(repo))) is not None:
            return readout_operand(found, text), None
        return (vector_operand(*entry, text), None) if entry is not None else (None, error)


def revision_operand(repo: Repository, rev: str) -> Operand:
    """A commit."""
    commit = repo.resolve(rev)
    return Operand(REVISION, f"{rev} ({commit.short})", repo.recipe(commit), commit=commit)


def worktree_operand(repo: Repository) -> Operand:
    """``persona.toml`` as it stands."""
    recipe, head = worktree_recipe(repo), repo.head()
    as_committed = recipe.with_readouts(()) == repo.recipe(head).with_readouts(())  # readouts make no other model
    return Operand(WORK_TREE, repo.recipe_path.name, recipe, commit=head if as_committed else None)


def vector_operand(entry: Entry, recipe: Recipe, label: str) -> Operand:
    """A vector of ``recipe``."""
    alone = Recipe(recipe.base, recipe.base_name, (Entry(entry.name, entry.id),))
    return Operand(VECTOR, f"{label} ({entry.id[:SHORT]})", alone, vector=alone.vectors[0])


def readout_operand(found: NamedReadout, label: str) -> Operand:
    """A readout, under the name that its recipe gives it."""
    alone = Recipe(found.recipe.base, found.recipe.base_name).with_readouts([ReadoutEntry(found.name, found.id)])
    return Operand(READOUT, f"{label} ({found.id[:SHORT]})", alone)


def worktree_vector(repo: Repository, name: str) -> Operand:
    """A vector as ``persona.toml`` has it now."""
    recipe = worktree_recipe(repo)
    return vector_operand(entry_of(recipe, name), recipe, name)


def vector_at(repo: Repository, text: str) -> tuple[Entry, Recipe] | None:
    """``NAME`` of the recipe as it stands (HEAD's where that cannot be used), or ``NAME@REV``; None if it is neither."""
    recipe = usable_recipe(repo)
    if (entry := recipe.entry(text)) is not None:
        return entry, recipe
    for at in (k for k in reversed(range(len(text))) if text[k] == "@"):  # REV may have an @ of its own
        try:
            recipe = repo.recipe(repo.resolve(text[at + 1 :] or refs_.HEAD))
        except UsageError:
            continue
        if (entry := recipe.entry(text[:at])) is not None:
            return entry, recipe
    return None


def usable_recipe(repo: Repository) -> Recipe:
    """The recipe as it stands, or HEAD's where that cannot be used."""
    try:
        return worktree_recipe(repo)
    except (UsageError, WrongBase):
        return repo.recipe(repo.head())


def known_names(repo: Repository, readouts: bool) -> list[str]:
    """Vectors (and readouts) of the recipe, branches and tags."""
    refs = [name.removeprefix(refs_.BRANCHES).removeprefix(refs_.TAGS) for name in repo.refs()]
    recipe = usable_recipe(repo)
    return [*(recipe.names if readouts else (entry.name for entry in recipe.vectors)), *refs]


def folder_operand(path: Path, label: str) -> Operand:
    """A folder that ``build`` wrote, or any other checkpoint; of several ``checkpoint-N`` in it the newest."""
    folder = find_run(path)
    label = label if folder == path else f"{label.rstrip('/')}/{folder.name}"
    if not (folder / RECEIPT).is_file():
        return Operand(CHECKPOINT, label, folder=folder)
    try:
        receipt = read_receipt(folder)
    except (CheckpointError, NotVerified) as error:
        return Operand(CHECKPOINT, label, folder=folder, notes=(f"taken for a plain checkpoint: {error.message}",))
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
