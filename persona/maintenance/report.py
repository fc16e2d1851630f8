"""What ``fsck`` and ``gc`` found and did, as data."""

from __future__ import annotations

from dataclasses import dataclass

from persona.ids import CommitId


@dataclass(frozen=True)
class AffectedCommit:
    """A commit that suffers; the subject is empty where the commit itself cannot be read."""

    commit: CommitId
    subject: str


@dataclass(frozen=True)
class LostObject:
    """One object, tensor or blob that something needs and that cannot be read.

    ``files`` hold a damaged copy: names in the packs folder, or whole paths of files outside that it refers to. There are
    none where it is missing.
    """

    kind: str
    id: str
    why: str
    files: tuple[str, ...] = ()
    commits: tuple[AffectedCommit, ...] = ()
    vectors: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckCounts:
    """How much was looked at; bytes are of plain tensors and blobs."""

    refs: int = 0
    operations: int = 0
    objects: int = 0
    files: int = 0
    tensors: int = 0
    tensors_read: int = 0
    blobs: int = 0
    bytes_read: int = 0
    bytes_all: int = 0


@dataclass(frozen=True)
class CheckReport:
    """What an examination found. ``problems`` are faults that lose nothing yet; ``notes`` are no faults.

    ``outside`` are files that the repository needs and of which it keeps no bytes; without any it is self-contained.
    """

    counts: CheckCounts
    lost: tuple[LostObject, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sample: float = 1.0
    seed: int = 0
    healed: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    self_contained: bool = True

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged or missing."""
        return not self.lost and not self.problems


@dataclass(frozen=True)
class GcReport:
    """What a collection removed, or would remove. ``freed`` is in bytes of file lengths."""

    dry_run: bool
    objects: int
    files: int
    repacked: int
    unfinished: int
    freed: int
    kept_objects: int
    kept_bytes: int
    notes: tuple[str, ...] = ()
