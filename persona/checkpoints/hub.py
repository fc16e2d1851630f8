"""Models of the Hugging Face Hub that were downloaded already."""

from __future__ import annotations

import re
from pathlib import Path

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
"""The id of a model: its owner and its name."""


def cached(name: Path) -> Path | None:
    """The folder of a model in the hub's cache, by its id such as ``Qwen/Qwen2.5-0.5B``; None if it is not there."""
    if not ID.fullmatch(str(name)):
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(name), local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError, OSError):
        return None
