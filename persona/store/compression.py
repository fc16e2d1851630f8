"""Zstandard frames that say how long their content is, and are held to it when they are read."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from typing_extensions import Buffer

_GENERAL: dict[int, int] = {zstd.CompressionParameter.compression_level: 3}
_ENTROPY: dict[int, int] = {
    zstd.CompressionParameter.compression_level: 1,
    zstd.CompressionParameter.strategy: zstd.Strategy.fast,
    zstd.CompressionParameter.min_match: 7,
    zstd.CompressionParameter.hash_log: 6,
}
"""Weights hardly ever repeat: a search for long matches in a tiny table, and the rest is Huffman coding."""

_local = threading.local()


def compress(data: Buffer) -> bytes:
    """One frame of ``data``, which may be anything: text, JSON."""
    return zstd.ZstdCompressor(options=_GENERAL).compress(data, zstd.ZstdCompressor.FLUSH_FRAME)


def squeeze(data: Buffer) -> bytes:
    """One frame of ``data`` whose bytes are uneven but do not repeat, fast."""
    compressor = getattr(_local, "entropy", None)
    if compressor is None:
        compressor = _local.entropy = zstd.ZstdCompressor(options=_ENTROPY)
    return bytes(compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME))


def expand(data: Buffer, size: int) -> bytes:
    """The ``size`` bytes that one whole frame holds; ValueError for anything else."""
    try:
        if zstd.get_frame_info(data).decompressed_size != size:
            raise ValueError("a compressed part says that it has another size")
        decompressor = zstd.ZstdDecompressor()
        plain = decompressor.decompress(data, size)
    except zstd.ZstdError as error:
        raise ValueError(f"a compressed part cannot be expanded: {error}") from error
    if len(plain) != size or decompressor.unused_data:
        raise ValueError("a compressed part does not have the size it says")
    return plain
