"""`persona commit`: record a training run, or an edited recipe."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from persona.checkpoints.adapters.ties import CHOICES
from persona.checkpoints.folder import locate
from persona.checkpoints.provenance.dataset import fingerprint
from persona.errors import UsageError
from persona.files import read_bytes, storage_error
from persona.history import refs as refs_
from persona.ids import CommitId, VectorId
from persona.notebook import Shown
from persona.progress import SILENT, Progress
from persona.recipe import edit
from persona.recipe.alphas import Alpha
from persona.recipe.changes import changes
from persona.recipe.model import Entry
from persona.recipe.parse import checked_vector_name, parse
from persona.recipe.resolve import resolve
from persona.repository import Repository, Transaction
from persona.store.ingest import Ingested
from persona.store.objects import canonical
from persona.workspace.amending import amend as amended
from persona.workspace.ingest import check_alpha, entry_for, ingest_folder, name_of, run_metadata
from persona.workspace.merging import end_merge, merge_message
from persona.workspace.record import RecordedCommit, record, refuse_while_merging, worktree_text
from persona.workspace.vectors import kept_bytes

DEEPEST = 64
"""Maximum nesting of metrics."""


@dataclass(frozen=True, repr=False)
class CommitResult(Shown):
    """A committed run; without a run, only `recorded` is set.

    `recorded` is None if the recipe already had the same vector. `form` says how the vector is stored. `total_bytes` is
    the size of the run's weights, `kept_bytes` what they take up in the store. `relative_norm` is the vector's length
    divided by that of the base's weights, null if unknown.
    """

    recorded: RecordedCommit | None
    name: str | None = None
    alpha: Alpha | None = None
    vector: VectorId | None = None
    form: str | None = None
    tensors: int = 0
    total_bytes: int = 0
    kept_bytes: int = 0
    relative_norm: float | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)


def commit(
    repo: Repository,
    run: Path | str | None = None,
    *,
    name: str | None = None,
    alpha: float | None = None,
    node: str | None = None,
    tied: str | None = None,
    message: str | None = None,
    author: str = "",
    metrics: Path | str | None = None,
    meta: Mapping[str, str] | None = None,
    data: Sequence[Path | str] = (),
    code: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
    also: Callable[[], Mapping[str, Any]] | None = None,
    amend: bool = False,
    command: str = "commit",
    progress: Progress = SILENT,
) -> CommitResult:
    """Record a run as a vector of the recipe; without a run, record `persona.toml`.

    Facts that the run's folder contains (losses, hyperparameters, …) are stored with the commit.

    Args:
        run: Folder with a full fine-tune or a PEFT adapter.
        name: Name of the vector. The default is the name of the folder.
        alpha: Alpha of the vector. By default it is unchanged, and 1 for a new vector.
        node: Memory-graph node, or `NODE#SECTION`, that the run implements.
        tied: What to do with an adapter that changes one of embedding and head, which the base ties: `"untie"` gives the
            head its own weights, as when PEFT loads the adapter; `"merge"` changes both, as `merge_and_unload` does.
        metrics: JSON file to store with the commit.
        meta: Further facts to store with the commit.
        data: Files and folders with training data; their hashes are stored with the commit.
        code: Git state of the training code.
        more: Further facts of the run, as JSON tables by topic. Facts from the folder take precedence.
        also: Called while the lock is held, to store what else belongs to the run; returns facts like `more`.
        amend: Replace the newest commit by one with `persona.toml` as it is, and with `message` if it is given.

    Raises:
        UsageError: The name or alpha is invalid, `metrics` is not JSON, or an option needs a run.
        CheckpointError: The folder contains no usable weights.
        WrongBase: The run belongs to another base.
        Refusal: Nothing would change, or a merge is unfinished.
    """
    facts = _given(metrics, meta, data, code, progress)
    if tied not in (None, *CHOICES):
        raise UsageError(f"--tied {tied} is neither 'untie' nor 'merge'", "Pass --tied untie or --tied merge.")
    if run is not None and amend:
        raise UsageError(
            "--amend takes no run", "Replace the vector in a new commit, or take the last one back: persona undo"
        )
    if run is None:
        if any(option is not None for option in (name, alpha, node, tied)):
            raise UsageError(
                "--as, --alpha, --node and --tied need a run", "Pass the run's folder: persona commit RUN --as NAME"
            )
        with repo.transaction(command) as change:
            if amend:
                return CommitResult(amended(repo, change, worktree_text(repo), message, facts))
            return CommitResult(_commit_worktree(repo, change, message, author, facts))
    found = locate(Path(run))
    name = checked_vector_name(name or name_of(Path(run)))
    if alpha is not None:
        check_alpha(alpha)
    with repo.transaction(command) as change:
        refuse_while_merging(repo)
        text = worktree_text(repo)
        recipe = resolve(parse(text), repo.objects, repo.recipe(repo.head()), text)
        ingested = ingest_folder(repo, recipe.base_id, found.folder, progress, tied=tied)
        vector = ingested.vector.put(repo.objects)
        before = recipe.entry(name)
        entry = entry_for(before, name, vector, alpha, node)
        result = _result(entry, vector, ingested, kept_bytes(repo, ingested.vector))
        if entry == before:
            return replace(result, notes=(*found.notes, f"'{name}' is already this vector; nothing was recorded"))
        from_folder, notes = run_metadata(Path(run), found.folder, name, ingested, result.kept_bytes)
        text = edit.put_vector(text, entry)
        verb = "retrain" if before and before.id != vector else "change" if before else "add"
        facts = {**(more or {}), **(also() if also else {}), **from_folder, **facts}
        recorded = record(repo, change, text, message or f"{verb} {name}", author, facts)
        return replace(result, recorded=recorded, notes=(*found.notes, *result.notes, *notes))


def _given(
    metrics: Path | str | None,
    meta: Mapping[str, str] | None,
    data: Sequence[Path | str],
    code: Mapping[str, Any] | None,
    progress: Progress,
) -> dict[str, Any]:
    """The facts that the caller gives, rather than the run's folder."""
    facts: dict[str, Any] = {} if metrics is None else {"metrics": _metrics(Path(metrics))}
    if meta:
        facts["meta"] = dict(meta)
    if data:
        facts["data"] = [fingerprint(Path(path), progress) for path in data]
    if code:
        facts["code"] = dict(code)
    return facts


def _commit_worktree(
    repo: Repository, change: Transaction, message: str | None, author: str, facts: Mapping[str, Any]
) -> RecordedCommit:
    """Record `persona.toml`, which also concludes an unfinished merge."""
    text = worktree_text(repo)
    heads = refs_.merge_heads(repo.refs())
    parse(text)  # before anything else, as conflict markers may be left
    recorded = record(repo, change, text, message or _summary(repo, text, heads), author, facts, merging=heads)
    end_merge(repo, change)
    return recorded


def _result(entry: Entry, vector: VectorId, ingested: Ingested, kept: int) -> CommitResult:
    empty = not (ingested.vector.names or ingested.vector.gone)
    return CommitResult(
        recorded=None,
        name=entry.name,
        alpha=entry.alpha,
        vector=vector,
        form=ingested.vector.form,
        tensors=len(ingested.vector.names),
        total_bytes=ingested.total_bytes,
        kept_bytes=kept,
        relative_norm=ingested.relative_norm,
        notes=(*ingested.notes, *(["the run has the same weights as the base: the vector is empty"] if empty else [])),
    )


def _summary(repo: Repository, text: str, merging: Sequence[CommitId] = ()) -> str:
    """Default message for an edited recipe: what it merges, or its changes."""
    if merging:
        return merge_message(repo, merging)
    before = repo.recipe(repo.head())
    after = resolve(parse(text), repo.objects, before, text)
    return "; ".join(change.text for change in changes(before, after, repo.objects)) or "edit comments"


def _metrics(path: Path) -> Any:
    """Read a JSON file that a commit can store."""
    try:
        metrics = _shallow(json.loads(read_bytes(path)))
        canonical(metrics)
        return metrics
    except FileNotFoundError:
        raise UsageError(f"metrics file {path} does not exist", "Pass a JSON file with the results.") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder", "Pass a JSON file with the results.") from None
    except OSError as error:
        raise storage_error(error, path) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not plain JSON: {error}", "Write the metrics as a JSON object.") from None


def _shallow(value: Any, room: int = DEEPEST) -> Any:
    """Return `value` if it is nested at most `room` levels deep."""
    if room == 0:
        raise ValueError(f"nested deeper than {DEEPEST} levels")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _shallow(item, room - 1)
    return value
