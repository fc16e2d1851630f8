"""Imports that talk. transformers and peft import bitsandbytes wherever it is installed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Keep bitsandbytes from saying, on a CPU, that it could not fetch a faster kernel from the hub; errors are said."""
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
