"""``persona commit``: record a training run, or the recipe as it was edited."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from persona.checkpoints.folder import find_run
from persona.checkpoints.provenance.dataset import fingerprint
from persona.errors import UsageError
from persona.files import storage_error
from persona.history import refs as refs_
from persona.ids import CommitId, VectorId
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
from persona.workspace.ingest import check_alpha, entry_for, ingest_folder, name_of, run_metadata
from persona.workspace.merging import end_merge, merge_message
from persona.workspace.record import RecordedCommit, record, refuse_while_merging, worktree_text
from persona.workspace.vectors import kept_bytes

DEEPEST = 64
"""Levels of tables and lists that metrics may have."""


@dataclass(frozen=True)
class CommitResult:
    """What ``commit`` did. ``recorded`` is None when the very same vector was there already."""

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
    message: str | None = None,
    author: str = "",
    metrics: Path | str | None = None,
    meta: Mapping[str, str] | None = None,
    data: Sequence[Path | str] = (),
    code: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
    also: Callable[[], Mapping[str, Any]] | None = None,
    command: str = "commit",
    progress: Progress = SILENT,
) -> CommitResult:
    """Record ``run`` as the vector ``name`` of the recipe, or, without a run, the recipe as it stands.

    What the run's folder says of it is kept with the commit, and so are ``metrics`` (a JSON file), ``meta``, the
    fingerprints of ``data`` (files and folders) and ``code``, which says what the training code was. ``more`` is what else
    is known of the run, as tables of JSON by topic; of what the folder says it, too, the folder's word is kept.
    ``also`` keeps what else belongs to a run while the lock is held, and gives more such tables.
    """
    facts = _facts(metrics, meta)
    if data:
        facts["data"] = [fingerprint(Path(path), progress) for path in data]
    if code:
        facts["code"] = dict(code)
    if run is None:
        if name is not None or alpha is not None or node is not None:
            raise UsageError("a name, alpha or node needs a run", "Give the run's folder: persona commit RUN --as NAME")
        with repo.transaction(command) as change:
            return CommitResult(_as_it_stands(repo, change, message, author, facts))
    folder = find_run(Path(run))
    name = checked_vector_name(name or name_of(folder))
    if alpha is not None:
        check_alpha(alpha)
    with repo.transaction(command) as change:
        refuse_while_merging(repo)
        text = worktree_text(repo)
        recipe = resolve(parse(text), repo.objects, repo.recipe(repo.head()), text)
        ingested = ingest_folder(repo, recipe.base_id, folder, progress)
        vector = ingested.vector.put(repo.objects)
        before = recipe.entry(name)
        entry = entry_for(before, name, vector, alpha, node)
        done = _committed(entry, vector, ingested, kept_bytes(repo, ingested.vector))
        if entry == before:
            return replace(done, notes=(f"'{name}' has this very vector already; nothing new was recorded",))
        found, notes = run_metadata(Path(run), folder, name, ingested, done.kept_bytes)
        done = replace(done, notes=(*done.notes, *notes))
        text = edit.put_vector(text, entry)
        verb = "retrain" if before and before.id != vector else "change" if before else "add"
        known = {**(more or {}), **(also() if also else {}), **found, **facts}
        return replace(done, recorded=record(repo, change, text, message or f"{verb} {name}", author, known))


def _as_it_stands(
    repo: Repository, change: Transaction, message: str | None, author: str, facts: Mapping[str, Any]
) -> RecordedCommit:
    """Record ``persona.toml``; a merge that is under way is concluded by that."""
    text = worktree_text(repo)
    heads = refs_.merge_heads(repo.refs())
    parse(text)  # first of all: are there conflicts left?
    done = record(repo, change, text, message or _summary(repo, text, heads), author, facts, merging=heads)
    end_merge(repo, change)
    return done


def _committed(entry: Entry, vector: VectorId, ingested: Ingested, kept: int) -> CommitResult:
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
        notes=(*ingested.notes, *(["this run has the base's own weights: it changes nothing"] if empty else [])),
    )


def _summary(repo: Repository, text: str, merging: Sequence[CommitId] = ()) -> str:
    """A message for an edited recipe: what it merges, or its changes."""
    if merging:
        return merge_message(repo, merging)
    before = repo.recipe(repo.head())
    said = [change.text for change in changes(before, resolve(parse(text), repo.objects, before, text), repo.objects)]
    return "; ".join(said) or "edit comments"


def _facts(metrics: Path | str | None, meta: Mapping[str, str] | None) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if metrics is not None:
        path = Path(metrics)
        try:
            facts["metrics"] = _shallow(json.loads(path.read_bytes()))
            canonical(facts["metrics"])
        except FileNotFoundError:
            raise UsageError(f"there is no metrics file {path}", "Give the file that your evaluation wrote.") from None
        except IsADirectoryError:
            raise UsageError(f"{path} is a folder", "Give the metrics as a JSON file.") from None
        except OSError as error:
            raise storage_error(error, path) from error
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path} is not plain JSON: {error}", "Write the metrics as a JSON object.") from None
    if meta:
        facts["meta"] = dict(meta)
    return facts


def _shallow(value: Any, room: int = DEEPEST) -> Any:
    """``value`` if it is not nested too deep to be kept and shown."""
    if room == 0:
        raise ValueError(f"nested deeper than {DEEPEST} levels")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _shallow(item, room - 1)
    return value
