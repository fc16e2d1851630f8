"""How many random inputs a test draws: all with ``--slow``, as continuous integration runs it, a fifth otherwise."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

WHOLE = "PERSONA_TESTS_WHOLE"
"""Set by ``--slow``, also for the processes that share the work."""


def fuzzed(count: int) -> Callable[[Any], Any]:
    """Decorate a test that draws ``count`` random inputs, which is much of what it takes."""
    part = count if WHOLE in os.environ else max(count // 5, 10)

    def decorate(test: Any) -> Any:
        checks = [HealthCheck.function_scoped_fixture]
        return pytest.mark.fuzz(settings(max_examples=part, deadline=None, suppress_health_check=checks)(test))

    return decorate
