"""Reports of ``fsck`` and ``gc``, as data."""

from __future__ import annotations

from dataclasses import dataclass

from persona.ids import CommitId


@dataclass(frozen=True)
class AffectedCommit:
    """A commit that needs a lost object; its subject is empty if the commit itself cannot be read."""

    commit: CommitId
    subject: str


@dataclass(frozen=True)
class LostObject:
    """An object, tensor or blob that is needed and cannot be read.

    ``why`` is the reason. ``files`` contain a damaged copy: names in the packs folder, or full paths of files outside the
    repository; there are none if it is missing. ``commits`` and ``vectors`` (and readouts) need it.
    """

    kind: str
    id: str
    why: str
    files: tuple[str, ...] = ()
    commits: tuple[AffectedCommit, ...] = ()
    vectors: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckCounts:
    """How much was checked. Bytes are those of decoded tensors and blobs; ``_read`` counts what a sample read of them."""

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
    """The result of a check.

    ``lost`` is needed and cannot be read; ``problems`` are faults that have not lost anything yet; ``notes`` are not
    faults. ``sample`` is the share of the tensors' bytes that was read, chosen by ``seed``. ``healed`` says what was
    repaired. ``outside`` are files that the repository needs but does not store; ``self_contained`` means that there
    are none.
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
    """What was deleted, or with ``dry_run`` would be.

    ``objects`` and ``files`` (packs and safetensors files) are counts, ``repacked`` the packs that were rewritten without
    unused parts, ``joined`` small packs that became part of larger ones, ``unfinished`` the temporary files of killed commands. ``freed`` and ``kept_bytes`` are in bytes on disk.
    """

    dry_run: bool
    objects: int
    files: int
    repacked: int
    joined: int
    unfinished: int
    freed: int
    kept_objects: int
    kept_bytes: int
    notes: tuple[str, ...] = ()
