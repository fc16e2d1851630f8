"""Small models run fastest on one thread."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="module")
def _one_thread_each(one_thread: None) -> None:
    pass
