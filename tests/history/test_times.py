"""Times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from persona.errors import UsageError
from persona.history.times import parse_time

NOW = datetime(2026, 11, 24, 15, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("now", "2026-11-24T15:30:00+00:00"), ("yesterday", "2026-11-23T15:30:00+00:00"),
        ("today", "2026-11-24T00:00:00+00:00"), ("2 hours ago", "2026-11-24T13:30:00+00:00"),
        ("2.hours.ago", "2026-11-24T13:30:00+00:00"), ("an hour ago", "2026-11-24T14:30:00+00:00"),
        ("last week", "2026-11-17T15:30:00+00:00"), ("3 weeks ago", "2026-11-03T15:30:00+00:00"),
        ("2026-11-20", "2026-11-20T00:00:00+00:00"), ("2026-11-20 14:00", "2026-11-20T14:00:00+00:00"),
        ("2026-11-20T14:00:00+02:00", "2026-11-20T14:00:00+02:00"),
    ],
)  # fmt: skip
def test_times(text: str, wanted: str) -> None:
    assert parse_time(text, NOW).isoformat() == wanted


@pytest.mark.parametrize(
    "text", ["", "soon", "ago", "last 3 weeks", "999999 years ago", "2026-13-01", "3 fortnights ago"]
)
def test_no_times(text: str) -> None:
    with pytest.raises(UsageError):
        parse_time(text, NOW)
