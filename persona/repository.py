"""A repository: the ``.persona`` folder and its parts. One transaction is one operation in its log.

.persona/
  format        one line with the format version
  config.toml   settings
  objects/      bases, vectors, recipes, commits, operations, texts
  packs/        tensors and blobs
  refs/ HEAD    branches, tags, the current branch or commit
  op/           head, applied
  evaluations/  results measured on builds
  .gitignore    "*", if it was made in a git work tree
  lock  tmp/    the writer's lock; unfinished files
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never

from persona import files, sharing
from persona.checkpoints.groups import TOKENIZER
from persona.errors import Damaged, Locked, NoRepository, Refusal, UsageError
from persona.history import commits, revisions
from persona.history import refs as refs_
from persona.history.operations import Change, Operation, OperationLog
from persona.ids import BaseId, CommitId, FisherId, ObjectId, OperationId, VectorId, is_id
from persona.recipe.choices import TOKENS
from persona.recipe.model import Recipe
from persona.settings import parse_toml
from persona.store.nouns import Base, Vector
from persona.store.objects import ObjectStore

if TYPE_CHECKING:
    from persona.building.prepare import Prepared
    from persona.history.ancestry import Ancestry
    from persona.history.evaluations import Evaluations
    from persona.maintenance.check import RepositoryFiles
    from persona.store.fishers import Fisher
    from persona.store.tensors import TensorStore

FOLDER = ".persona"
RECIPE = "persona.toml"
FORMAT = 1
ENTRIES = ("format", "config.toml", "objects", "packs", "refs", refs_.HEAD, "op", "evaluations", "lock", "tmp")
"""Everything that is read in ``.persona``."""
LOCK_PATIENCE = 2.0
"""Seconds to wait for another writer before giving up."""


class Repository:
    """One personality's history, and the ``persona.toml`` beside it."""

    def __init__(self, root: Path, folder: Path | None = None) -> None:
        self.root = root
        self.folder = folder or root / FOLDER
        self.objects = ObjectStore(self.folder / "objects")
        self.log = OperationLog(self.folder, self.objects)
        self._agreed: set[CommitId] = set()
        sharing.declare(self.folder, self.folder)
        sharing.declare(self.recipe_path, root / FOLDER)

    @cached_property
    def tensors(self) -> TensorStore:
        """The store of tensors and blobs."""
        from persona.store.tensors import TensorStore  # imported here because most commands read no weights

        return TensorStore(self.folder / "packs", self.folder / "tmp")

    @cached_property
    def ancestry(self) -> Ancestry:
        """The commit graph. Each commit is read once, as commits never change."""
        from persona.history.ancestry import Ancestry  # imported here because few commands need it

        return Ancestry(self.objects)

    @cached_property
    def evaluations(self) -> Evaluations:
        """Results measured on builds."""
        from persona.history.evaluations import Evaluations

        return Evaluations(self.folder, self.objects)

    @property
    def recipe_path(self) -> Path:
        """The path of ``persona.toml``."""
        return self.root / RECIPE

    def on_disk(self) -> RepositoryFiles:
        """Its files as ``fsck`` and ``gc`` read them, however damaged."""
        from persona.maintenance.check import RepositoryFiles

        try:
            text = files.read_bytes(self.recipe_path).decode(errors="replace")
        except OSError:
            text = None
        return RepositoryFiles(self.folder, f"persona {FORMAT}", text)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The parsed ``config.toml``."""
        path = self.folder / sharing.CONFIG
        try:
            return parse_toml(files.read_bytes(path, files.LARGEST_TOML).decode())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: {error}", "Fix the line: the file must be valid TOML.") from None

    @property
    def user(self) -> dict[str, str]:
        """``name`` and ``email`` from ``[user]`` of ``config.toml``, as far as they are set.

        Raises:
            UsageError: they are not strings.
        """
        path, user = self.folder / sharing.CONFIG, self.config.get("user", {})
        if not isinstance(user, dict):
            raise UsageError(f"{path}: user is not a table", "Write [user], with name and email below it.")
        fields = {key: user[key] for key in ("name", "email") if key in user}
        for key, value in fields.items():
            if not isinstance(value, str):
                raise UsageError(f"{path}: user.{key} is not a string", f'Put it in quotes: {key} = "…"')
        return fields

    @property
    def author(self) -> str:
        """The author of new commits: from ``config.toml``, else git's configuration, else the login name."""
        from persona.authors import author_of

        return author_of(self.user)

    def refs(self) -> refs_.RefMap:
        """All refs, as of the newest operation."""
        while True:  # if a writer finished meanwhile, what was read may be inconsistent: read again
            newest, pending = self.log.head(), self.log.pending()
            refs = refs_.read_all(self.folder)
            if self.log.head() == newest:
                break
        for name, (_, after) in (pending.refs if pending else {}).items():
            refs.pop(name, None)
            if after is not None:
                refs[name] = after
        return refs

    def head(self) -> CommitId:
        """The current commit."""
        return refs_.head_commit(self.refs())

    def resolve(self, rev: str) -> CommitId:
        """Find the commit that a revision names: ``HEAD~1``, ``main``, ``@{yesterday}``, a tag, a short id.

        Raises:
            UsageError: there is none, or a short id is ambiguous.
        """
        return revisions.resolve(rev, self.refs(), self.objects, self.log)

    def commit(self, name: CommitId, /, **options: Never) -> commits.Commit:
        """Read a commit. To make one: ``persona.commit(repo, "runs/x")``.

        Raises:
            UsageError: ``name`` is not an id, or there are options, which making a commit takes.
        """
        if options or not is_id(name):
            what = f"has no option '{min(options)}'" if options else f"takes a commit's id, not {str(name)!r}"
            raise UsageError(
                f"repo.commit reads a commit, and {what}",
                f'To commit a run: persona.commit(repo, "{name}"). To read a revision: repo.commit(repo.resolve("HEAD")).',
            )
        return commits.Commit.get(self.objects, name)

    def recipe(self, commit: CommitId) -> Recipe:
        """Read a commit's resolved recipe.

        Raises:
            Damaged: it cannot be read, or the commit's text says something else.
        """
        recipe = Recipe.get(self.objects, self.commit(commit).recipe)
        self._check_agreement(commit, recipe=recipe)
        return recipe

    def text(self, commit: CommitId) -> str:
        """Read a commit's ``persona.toml``.

        Raises:
            Damaged: it cannot be read, or the commit's recipe says something else.
        """
        text = commits.get_text(self.objects, self.commit(commit).text)
        self._check_agreement(commit, text=text)
        return text

    def _check_agreement(self, name: CommitId, text: str | None = None, recipe: Recipe | None = None) -> None:
        """Raise Damaged if a commit's text and recipe contradict each other; if one is lost, they cannot.

        The one that is not given is read.
        """
        from persona.recipe.agreement import disagreement  # imported here because 'log' reads neither

        if name in self._agreed:
            return
        commit = self.commit(name)
        try:
            text = commits.get_text(self.objects, commit.text) if text is None else text
            recipe = recipe or Recipe.get(self.objects, commit.recipe)
        except Damaged:
            return
        problem = disagreement(name, text, recipe)
        if problem is not None:
            raise problem
        self._agreed.add(name)

    def base(self, name: BaseId) -> Base:
        """Read a base."""
        return Base.get(self.objects, name)

    def vector(self, name: VectorId) -> Vector:
        """Read a vector and, if it is derived, its terms."""
        return Vector.whole(self.objects, name)

    def vectors(self, recipe: Recipe) -> dict[str, Vector]:
        """Read the vectors of a resolved recipe, by their names in it."""
        return {entry.name: self.vector(VectorId(entry.id)) for entry in recipe.vectors}

    def prepare(self, recipe: Recipe, dtype: str | None = None) -> Prepared:
        """Plan the build of a resolved recipe; see :func:`persona.building.prepare.prepare`.

        Weights are read only to rearrange the rows of added tokens: see :mod:`persona.building.union`.

        ``dtype`` is the safetensors name of the dtype for every float tensor. By default each keeps its own.
        """
        from persona.building.prepare import prepare

        base, vectors = self.base(recipe.base_id), self.vectors(recipe)
        if {TOKENIZER, TOKENS} & set(recipe.choices.files):
            from persona.building.union import united

            recipe, vectors = united(recipe, base, vectors, self.tensors)
        return prepare(recipe, base, vectors, dtype, self.diagonals(recipe))

    def model_config(self, base: Base) -> dict[str, Any]:
        """A base's ``config.json``; empty if it has none."""
        from persona.store.ingest_files import base_config

        return base_config(base, self.tensors)

    def diagonals(self, recipe: Recipe) -> dict[str, Fisher]:
        """Fisher diagonals of a resolved recipe by vector name; empty unless its method weighs entries."""
        from persona import methods

        if not methods.weighs(methods.load(recipe.method)):
            return {}
        from persona.store.fishers import Fisher

        named = {entry.name: entry.fisher for entry in recipe.vectors if entry.fisher}
        return {name: Fisher.get(self.objects, FisherId(fisher)) for name, fisher in named.items()}

    def head_text(self) -> str:
        """``persona.toml`` as committed in HEAD."""
        return self.text(self.head())

    def recipe_bytes(self) -> bytes | None:
        """The bytes of ``persona.toml``, as of the newest operation; None if there is none."""
        found = self._recipe_on_disk()
        pending = self.log.pending()
        if pending is not None and pending.recipe is not None and self._is_before(pending, found):
            return commits.get_text(self.objects, pending.recipe[1]).encode()
        return found

    def _recipe_on_disk(self) -> bytes | None:
        try:
            return files.read_bytes(self.recipe_path, files.LARGEST_TOML)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise files.storage_error(error, self.recipe_path) from error

    def _is_before(self, operation: Operation, found: bytes | None) -> bool:
        """Whether ``persona.toml`` is what an operation began with: neither what it ends with, nor edited."""
        before = operation.recipe[0] if operation.recipe else None
        return found == (commits.get_text(self.objects, before).encode() if before else None)

    def recipe_text(self) -> str | None:
        """The text of ``persona.toml``; None if there is none."""
        data = self.recipe_bytes()
        try:
            return None if data is None else data.decode()
        except UnicodeDecodeError:
            raise UsageError(f"{self.recipe_path} is not UTF-8", "Save it as UTF-8, or: persona restore") from None

    def write_recipe(self, text: str) -> None:
        """Replace ``persona.toml``; Refusal if it is a link."""
        self.refuse_link()
        files.write_over(self.recipe_path, text.encode())

    def refuse_link(self) -> None:
        """Raise Refusal if ``persona.toml`` is a link, which in somebody else's repository could lead anywhere."""
        if self.recipe_path.is_symlink():
            raise Refusal(
                f"{self.recipe_path} is a link, which persona does not write through",
                "Replace the link by the file itself.",
            )

    def is_edited(self) -> bool:
        """Whether ``persona.toml`` differs from HEAD."""
        return self.recipe_bytes() != self.head_text().encode()

    @contextlib.contextmanager
    def transaction(self, command: str) -> Iterator[Transaction]:
        """Hold the lock and yield a transaction; at the end of the block, its changes are applied as one operation.

        Raises:
            Locked: another process is writing.
            Refusal: ``persona.toml`` was edited meanwhile.
        """
        with self.exclusive(command):
            change = Transaction(self, command)
            yield change
            change.apply()

    @contextlib.contextmanager
    def exclusive(self, command: str) -> Iterator[None]:
        """Hold the lock without making an operation, after finishing one that a crash left half applied."""
        with self._lock(command):
            self.finish_interrupted()
            yield

    @contextlib.contextmanager
    def _lock(self, command: str) -> Iterator[None]:
        path = self.folder / "lock"
        fd = _acquire(path)
        if fd is None:
            raise Locked(
                f"another process holds {path}: {_holder(path)}",
                "Wait until it is done; the lock is released when that process ends.",
            )
        try:
            files.write_lock_holder(fd, f"pid {os.getpid()} on {os.uname().nodename}, {command}, since {now()}\n")
            yield
        finally:
            files.close_lock(fd)

    def finish_interrupted(self) -> None:
        """Finish an operation that a crash left half applied. The caller must hold the lock."""
        pending = self.log.pending()
        if pending is not None:
            self.follow(pending)

    def follow(self, operation: Operation) -> None:
        """Update refs and ``persona.toml`` to what the newest operation says.

        An edited ``persona.toml`` is kept, and so is one that is a link, which could lead anywhere.
        """
        if operation.recipe is not None and self._is_before(operation, self._recipe_on_disk()):
            with contextlib.suppress(Refusal):
                self.write_recipe(commits.get_text(self.objects, operation.recipe[1]))
        self.log.apply_refs(operation)
        self.log.mark_applied()


class Transaction:
    """The changes that one command makes to refs and ``persona.toml``."""

    def __init__(self, repo: Repository, command: str) -> None:
        self._repo = repo
        self._command = command
        self._refs: dict[str, str | None] = {}
        self._text: str | None = None
        self._seen = repo.recipe_bytes()
        self._undoes: OperationId | None = None
        self._redoes: OperationId | None = None

    def takes_back(self, operation: OperationId) -> None:
        """Record that this undoes ``operation``."""
        self._undoes = operation

    def makes_again(self, operation: OperationId) -> None:
        """Record that this redoes ``operation``."""
        self._redoes = operation

    def set_ref(self, name: str, value: str | None) -> None:
        """Point a ref at ``value``; None removes it."""
        self._refs[name] = value

    def advance(self, commit: CommitId) -> None:
        """Move the current branch (or a detached HEAD) to a new commit."""
        head = self._repo.refs()[refs_.HEAD]
        self.set_ref(head.removeprefix(refs_.SYMBOLIC) if head.startswith(refs_.SYMBOLIC) else refs_.HEAD, commit)

    def set_recipe_text(self, text: str) -> None:
        """Replace ``persona.toml``; :meth:`apply` refuses if it has been edited since the transaction began."""
        self._text = text

    def apply(self) -> None:
        """Write the operation, which commits it, and then update refs and ``persona.toml``."""
        repo = self._repo
        before = repo.refs()
        changes: dict[str, Change] = {
            name: (before.get(name), after) for name, after in self._refs.items() if before.get(name) != after
        }
        for name in changes:
            if before.get(name) is None:
                refs_.check_no_overlap((other for other in before if self._refs.get(other, "") is not None), name)
        recipe = self._recipe_change()
        if not changes and recipe is None:
            return
        operation = Operation(repo.log.head(), now(), self._command, changes, recipe, self._undoes, self._redoes)
        repo.log.commit(operation.put(repo.objects))
        repo.follow(operation)

    def _recipe_change(self) -> tuple[ObjectId | None, ObjectId] | None:
        repo = self._repo
        if self._text is None or self._text.encode() == self._seen:
            return None
        repo.refuse_link()
        if repo.recipe_bytes() != self._seen:
            raise Refusal(f"{repo.recipe_path} was edited while this command ran", "Nothing was changed: run it again.")
        before = None if self._seen is None else commits.put_text(repo.objects, self._seen.decode())
        return before, commits.put_text(repo.objects, self._text)


def find(start: Path) -> Path:
    """Find the folder at or above ``start`` that has a ``.persona``.

    Raises:
        NoRepository: there is none.
    """
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / FOLDER / "format").is_file():
            return folder
    raise NoRepository(f"no persona repository in {start} or above it", "Create one here: persona init --base PATH")


def open_at(start: Path) -> Repository:
    """Open the repository at or above ``start``. Nothing is written, and an operation that a crash left half applied reads
    as if it were finished; the next command that writes finishes it.

    Raises:
        NoRepository: there is none.
        Damaged: its format is unknown, or part of it is a link.
    """
    root = find(start)
    path = root / FOLDER / "format"
    text = files.read_line(path)
    if text != f"persona {FORMAT}":
        raise Damaged(f"{path} says '{text}'; this version reads 'persona {FORMAT}'", "Upgrade persona.")
    refuse_links(root / FOLDER)
    return Repository(root)


def refuse_links(folder: Path) -> None:
    """Raise Damaged if an entry of ``.persona`` is a link: what is written or deleted there would be somewhere else."""
    for name in ENTRIES:
        if (folder / name).is_symlink():
            raise Damaged(
                f"{folder / name} is a link", "persona keeps its files in one folder: move what it points to there."
            )


def _acquire(path: Path) -> int | None:
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        fd = files.open_lock(path)
        if fd is not None or time.monotonic() > deadline:
            return fd
        time.sleep(0.05)


def _holder(path: Path) -> str:
    """What the lock's holder wrote into the file about itself."""
    with contextlib.suppress(OSError):
        return files.read_bytes(path, files.LARGEST_TOML).decode(errors="replace").strip() or "unknown process"
    return "unknown process"


def now() -> str:
    """The current time as RFC 3339 with the local offset, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
