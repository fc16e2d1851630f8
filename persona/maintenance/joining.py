"""Which small packs ``gc`` joins: each commit writes a pack, and after years there would be more of them than files can be open.

Joining is worth its reads and writes only when there are many, so each byte is copied a few times in the life of a repository.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from persona import files
from persona.maintenance.repack import block_of
from persona.store.packs import StoredBlob, StoredTensor, Volume

MANY, SMALL = 100, 16 << 20
"""Packs with fewer wanted bytes than ``SMALL`` are joined when there are more than ``MANY``."""

LARGE = 1 << 30
"""Bytes after which the next pack begins another one."""


@dataclass(frozen=True)
class Repack:
    """A pack to rewrite, the ids to keep, and the bytes that this frees."""

    volume: Volume
    wanted: frozenset[str]
    freed: int

    @property
    def alive(self) -> int:
        """The bytes of what is kept."""
        parts: list[StoredTensor | StoredBlob] = [*self.volume.tensors.values(), *self.volume.blobs.values()]
        return sum(part.stored for part in parts if part.id in self.wanted)


def groups(kept: Iterable[Repack]) -> tuple[tuple[Repack, ...], ...]:
    """Choose packs to join, in groups that become one pack each.

    Args:
        kept: All packs that stay, in order.
    """
    small = [pack for pack in kept if pack.alive < SMALL]
    if len(small) <= MANY:
        return ()
    found: list[list[Repack]] = []
    kinds: dict[tuple[int, int], list[Repack]] = {}
    for pack in small:
        kinds.setdefault(_kind(pack.volume), []).append(pack)
    for _, alike in sorted(kinds.items()):
        size, ids, group = 0, set[str](), list[Repack]()
        for pack in alike:
            if ids & pack.wanted:  # two copies of which none is good: both stay
                continue
            if not group or size >= LARGE:
                size, group = 0, []
                found.append(group)
            group.append(pack)
            size, ids = size + pack.alive, ids | pack.wanted
    return tuple(tuple(group) for group in found if len(group) > 1)


def _kind(volume: Volume) -> tuple[int, int]:
    """What packs that are joined have in common: entries per block, and who may read them."""
    with files.translated(volume.path):
        return block_of(volume), volume.path.stat().st_mode & 0o077
