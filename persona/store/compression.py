"""Zstandard frames that state their content size, which is checked on reading."""

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
"""For weights, which hardly ever repeat: long matches only, from a tiny table; the gain is from Huffman coding."""

_local = threading.local()


def compress(data: Buffer) -> bytes:
    """Compress text, JSON or other general data into one frame."""
    return zstd.ZstdCompressor(options=_GENERAL).compress(data, zstd.ZstdCompressor.FLUSH_FRAME)


def squeeze(data: Buffer) -> bytes:
    """Compress data with skewed byte frequencies but no repetition into one frame, fast."""
    compressor = getattr(_local, "entropy", None)
    if compressor is None:
        compressor = _local.entropy = zstd.ZstdCompressor(options=_ENTROPY)
    return bytes(compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME))


def expand(data: Buffer, size: int) -> bytes:
    """Decompress exactly one frame.

    Raises:
        ValueError: ``data`` is not one whole frame of ``size`` bytes.
    """
    try:
        if zstd.get_frame_info(data).decompressed_size != size:
            raise ValueError("a compressed part states another size")
        decompressor = zstd.ZstdDecompressor()
        plain = decompressor.decompress(data, size)
    except zstd.ZstdError as error:
        raise ValueError(f"a compressed part cannot be decompressed: {error}") from error
    if len(plain) != size or decompressor.unused_data:
        raise ValueError("a compressed part does not have the size that it states")
    return plain
