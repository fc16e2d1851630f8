"""The pack file: many tensors and blobs, written once, with an index at the end. All numbers are little-endian.

    head     b"persona pack", version (4 bytes)                                                    16 bytes
    frames   back to back, nothing between them
    index    canonical JSON, in one zstd frame if that is shorter
    footer   offset of the index (8), its stored size (8), its size as JSON (8),
             BLAKE3 of the index as stored (32), b"pack end"                                       64 bytes

    index    {block, codecs: [name], tensors: [tensor], blobs: [blob]}
    tensor   {id, dtype, shape, base: id or null, at, codecs: [number], sizes: [bytes]}
    blob     {id, at, length, stored, zstd: bool}

A tensor's entries (bytes, for formats narrower than one) are split into blocks of ``block``; frame k holds
block k in codec ``codecs[number]`` and takes ``sizes[k]`` bytes, the first at offset ``at``. A tensor without
entries has one empty frame. A frame whose codec needs a base is decoded against the entries at the same
positions of the tensor ``base``. The file is named ``<BLAKE3 of the file>.pack``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.checkpoints.dtypes import BITS, byte_size
from persona.checkpoints.tensorfile import MAX_DIMENSIONS
from persona.errors import Damaged
from persona.files import opened, storage_error, translated
from persona.ids import BlobId, TensorId, file_digest
from persona.reading import OpenFile
from persona.store import codecs, compression, openfiles
from persona.store.lists import PUT_BACK
from persona.store.objects import COPY_BACK, canonical, too_new

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Bits

VERSION = 1
"""Version of the pack format; newer versions are refused."""

BLOCK = 1 << 18
"""Entries per block in new packs; each pack states its own."""

HEAD_SIZE, FOOTER_SIZE = 16, 64
MAX_BLOCK = 1 << 24
MAX_INDEX, MAX_BLOB = 1 << 28, 1 << 30
_MAGIC, _END = b"persona pack", b"pack end"
RESTORE = f"{COPY_BACK} Run 'persona fsck' to see what is affected."


@dataclass(frozen=True)
class StoredTensor:
    """A tensor and the place of its frames in a file."""

    id: TensorId
    dtype: str
    shape: tuple[int, ...]
    base: TensorId | None
    block: int
    at: int
    codecs: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def units(self) -> int:
        """Number of unsigned integers that hold its bits: entries, or bytes for formats narrower than one."""
        return units(self.dtype, self.shape)

    @property
    def width(self) -> int:
        """Bytes per unit."""
        return max(BITS[self.dtype], 8) // 8

    @property
    def stored(self) -> int:
        """Bytes of all frames."""
        return sum(self.sizes)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Offset of each frame."""
        return tuple(accumulate(self.sizes[:-1], initial=self.at))

    def frame_units(self, number: int) -> int:
        """Units in a frame."""
        return min(self.block, self.units - number * self.block)


@dataclass(frozen=True)
class StoredBlob:
    """A blob and its place in a file; ``length`` is its plain size, ``stored`` its size in the file."""

    id: BlobId
    at: int
    length: int
    stored: int
    zstd: bool


def units(dtype: str, shape: tuple[int, ...]) -> int:
    """Entries of a tensor, or bytes if its entries are narrower than one."""
    entries = math.prod(shape)
    return entries if BITS[dtype] >= 8 else byte_size(dtype, entries)


def frames(units: int, block: int) -> int:
    """Number of frames for ``units`` entries in blocks of ``block``."""
    return max(1, -(-units // block))


class Volume:
    """A file with tensors and blobs, opened when it is read.

    ``index`` is the file in the packs folder that lists the content: the pack itself, or the list of ids next to it.
    """

    def __init__(
        self,
        path: Path,
        tensors: Mapping[TensorId, StoredTensor],
        blobs: Mapping[BlobId, StoredBlob],
        index: Path | None = None,
    ) -> None:
        self.path = path
        self.tensors = tensors
        self.blobs = blobs
        self.index = index or path
        self.held: OpenFile | None = None

    @property
    def is_outside(self) -> bool:
        """Whether the file is outside the repository and only referenced."""
        return self.path.parent != self.index.parent

    @property
    def label(self) -> str:
        """The file as shown to the user."""
        return str(self.path) if self.is_outside else f"packs/{self.path.name}"

    @property
    def hint(self) -> str:
        """What to do if the file is damaged."""
        return PUT_BACK if self.is_outside else RESTORE

    @property
    def file(self) -> OpenFile:
        """The open file; it may have been closed since it was read last.

        Raises:
            FileNotFoundError: the file was deleted after it was listed.
        """
        if (held := self.held) is not None:
            return held
        try:
            return openfiles.opened(self, self.path)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise storage_error(error, self.path) from error

    def part(self, at: int, length: int) -> bytes:
        """``length`` bytes of the file from offset ``at``; Damaged if the file is shorter."""
        part = self.file.read(at, length)
        self._check_length(len(part), length)
        return part

    def fill(self, out: Bits, at: int) -> None:
        """Fill ``out`` with the bytes from offset ``at``; Damaged if the file is shorter."""
        self._check_length(self.file.read_into(out, at), out.nbytes)

    def _check_length(self, length: int, wanted: int) -> None:
        if length != wanted:
            raise Damaged(f"{self.path} is shorter than it was when it was opened", self.hint)


class Lent(Volume):
    """Tensors and blobs in memory."""

    def __init__(
        self, tensors: Mapping[TensorId, StoredTensor], blobs: Mapping[BlobId, StoredBlob], data: memoryview
    ) -> None:
        super().__init__(Path("memory"), tensors, blobs)
        self._data = data.cast("B")

    def part(self, at: int, length: int) -> bytes:
        """``length`` bytes from offset ``at``."""
        return bytes(self._data[at : at + length])

    def fill(self, out: Bits, at: int) -> None:
        """Fill ``out`` with the bytes from offset ``at``."""
        room = out.reshape(-1).view("u1").data
        room[:] = self._data[at : at + len(room)]


def damaged(path: Path, what: str) -> Damaged:
    """An error about a file in the packs folder."""
    return Damaged(f"{path} {what}", RESTORE)


def head() -> bytes:
    """The first bytes of a new pack."""
    return _MAGIC + VERSION.to_bytes(4, "little")


def tail(tensors: list[StoredTensor], blobs: list[StoredBlob], at: int, block: int = BLOCK) -> bytes:
    """Index and footer of a new pack.

    Args:
        at: Offset at which the frames end.
        block: Entries per block.
    """
    text = _encode_index(tensors, blobs, block)
    index = min(compression.compress(text), text, key=len)
    numbers = b"".join(n.to_bytes(8, "little") for n in (at, len(index), len(text)))
    return index + numbers + bytes.fromhex(file_digest([index])) + _END


def _encode_index(tensors: list[StoredTensor], blobs: list[StoredBlob], block: int) -> bytes:
    known = sorted({name for tensor in tensors for name in tensor.codecs})
    rows = [
        {
            "id": t.id, "dtype": t.dtype, "shape": list(t.shape), "base": t.base, "at": t.at,
            "codecs": [known.index(name) for name in t.codecs], "sizes": list(t.sizes),
        }
        for t in tensors
    ]  # fmt: skip
    parts = [{"id": b.id, "at": b.at, "length": b.length, "stored": b.stored, "zstd": b.zstd} for b in blobs]
    return canonical({"block": block, "codecs": known, "tensors": rows, "blobs": parts})


def open_pack(path: Path) -> Volume:
    """Open a pack and check its index.

    Raises:
        Damaged: the file is not a pack, is damaged, or has a newer version.
    """
    with translated(path), opened(path) as file:
        first = file.read(HEAD_SIZE)
        size = file.seek(0, 2)
        _check_head(path, first, size)
        file.seek(size - FOOTER_SIZE)
        at, stored, plain, digest = _parse_footer(path, file.read(FOOTER_SIZE), size)
        file.seek(at)
        index = file.read(stored)
    if file_digest([index]) != digest:
        raise damaged(path, "is damaged: its index does not match the hash in its footer")
    try:
        fields = json.loads(index if stored == plain else compression.expand(index, plain))
        tensors, blobs = _Index(at).parse(fields)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise damaged(path, f"has an invalid index: {error}") from error
    return Volume(path, tensors, blobs)


def _check_head(path: Path, first: bytes, size: int) -> None:
    if size < HEAD_SIZE + FOOTER_SIZE or not first.startswith(_MAGIC):
        raise damaged(path, "is not a pack, or is truncated")
    version = int.from_bytes(first[len(_MAGIC) :], "little")
    if version > VERSION:
        raise too_new(path, f"pack version {version}")
    if version != VERSION:
        raise damaged(path, f"has the invalid version {version}")


def _parse_footer(path: Path, footer: bytes, size: int) -> tuple[int, int, int, str]:
    at, stored, plain = (int.from_bytes(footer[k : k + 8], "little") for k in (0, 8, 16))
    if footer[56:] != _END or at < HEAD_SIZE or at + stored != size - FOOTER_SIZE:
        raise damaged(path, "is damaged or truncated: its footer does not match the file")
    if plain < stored or plain > min(MAX_INDEX, (1 << 20) + 64 * size):  # every row lists bytes of the file
        raise damaged(path, "is damaged: its footer states an impossible size of the index")
    return at, stored, plain, footer[24:56].hex()


class _Index:
    """Checks an index against a file whose frames end at ``end``; raises ValueError if something is wrong."""

    def __init__(self, end: int) -> None:
        self.end = end

    def parse(self, fields: Any) -> tuple[dict[TensorId, StoredTensor], dict[BlobId, StoredBlob]]:
        """The tensors and blobs that the index lists, by id."""
        block = _count(fields["block"], "block")
        if not 1 <= block <= MAX_BLOCK:
            raise ValueError(f"block is {block}")
        known = [_codec(name) for name in fields["codecs"]]
        tensors = [self._tensor(row, block, known) for row in fields["tensors"]]
        blobs = [self._blob(row) for row in fields["blobs"]]
        self._check_layout([(t.at, t.stored) for t in tensors] + [(b.at, b.stored) for b in blobs])
        return _unique(tensors), _unique(blobs)

    def _tensor(self, row: Any, block: int, known: list[str]) -> StoredTensor:
        name, dtype = TensorId(row["id"]), row["dtype"]
        if not isinstance(dtype, str) or dtype not in BITS:
            raise ValueError(f"tensor {name.short} has the unknown dtype {dtype!r}")
        shape = tuple(_count(n, "shape") for n in row["shape"])
        if len(shape) > MAX_DIMENSIONS:
            raise ValueError(f"tensor {name.short} has {len(shape)} dimensions")
        sizes = tuple(_count(n, "sizes") for n in row["sizes"])
        used = tuple(known[_count(n, "codecs")] for n in row["codecs"] if n < len(known))
        if not len(used) == len(row["codecs"]) == len(sizes) == frames(units(dtype, shape), block):
            raise ValueError(f"tensor {name.short} has a number of frames that does not match its shape")
        if 0 in sizes and units(dtype, shape):
            raise ValueError(f"tensor {name.short} has an empty frame")
        base = None if row["base"] is None else TensorId(row["base"])
        if base == name:
            raise ValueError(f"tensor {name.short} is its own base")
        return StoredTensor(name, dtype, shape, base, block, _count(row["at"], "at"), used, sizes)

    def _blob(self, row: Any) -> StoredBlob:
        name, packed = BlobId(row["id"]), row["zstd"]
        at, length, stored = (_count(row[key], key) for key in ("at", "length", "stored"))
        if not isinstance(packed, bool) or (stored != length and not packed):
            raise ValueError(f"blob {name.short} has contradictory lengths")
        if length > MAX_BLOB:
            raise ValueError(f"blob {name.short} has {length:,} bytes")
        return StoredBlob(name, at, length, stored, packed)

    def _check_layout(self, parts: list[tuple[int, int]]) -> None:
        """Check that frames cover the file exactly once."""
        at = HEAD_SIZE
        for start, size in sorted(parts):
            if start != at:
                raise ValueError(f"frames overlap or leave a gap at offset {at}")
            at += size
        if at != self.end:
            raise ValueError(f"frames end at offset {at} but the index starts at {self.end}")


def _unique(rows: list[Any]) -> dict[Any, Any]:
    table = {row.id: row for row in rows}
    if len(table) != len(rows):
        raise ValueError("duplicate id")
    return table


def _count(value: object, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise ValueError(f"{what} is {value!r}")
    return value


def _codec(name: object) -> str:
    if name not in codecs.names():
        raise ValueError(f"unknown codec {name!r}; a newer version of persona may have it")
    return str(name)
