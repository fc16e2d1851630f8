"""Parse times as users type them: ``yesterday``, ``2 hours ago``, ``last week``, ``2026-11-20``, ``2026-11-20 14:00``."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from persona.errors import UsageError

_UNITS = {
    "second": timedelta(seconds=1), "sec": timedelta(seconds=1), "minute": timedelta(minutes=1),
    "min": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1),
    "month": timedelta(days=30), "year": timedelta(days=365),
}  # fmt: skip
"""Months of 30 days and years of 365: close enough for times given in words."""

_AGO = re.compile(rf"(\d{{1,6}}|an?|last)\s+({'|'.join(_UNITS)})s?(\s+ago)?")


def parse_time(text: str, now: datetime) -> datetime:
    """Parse a time.

    Args:
        now: What relative times are relative to. It must have a time zone, which is also that of dates without one.

    Raises:
        UsageError: ``text`` is not a time.
    """
    words = re.sub(r"[._\s]+", " ", text.strip().lower()) if not text[:4].isdigit() else text.strip()
    if words == "now":
        return now
    if words in ("today", "midnight"):
        return _midnight(now)
    if words == "yesterday":
        return now - timedelta(days=1)
    if match := _AGO.fullmatch(words):
        count = 1 if not match[1].isdigit() else int(match[1])
        if (match[1] == "last") != (match[3] is not None):
            return _back(now, count * _UNITS[match[2]], text)
    return _date(words, text, now)


def _back(now: datetime, span: timedelta, text: str) -> datetime:
    try:
        return now - span
    except OverflowError:
        raise UsageError(f"'{text}' is too far in the past", "Give a time such as '2 weeks ago'.") from None


def _midnight(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def _date(words: str, text: str, now: datetime) -> datetime:
    try:
        parsed = datetime.fromisoformat(words)
    except ValueError:
        raise UsageError(
            f"'{text}' is not a time",
            "Write 'yesterday', '2 hours ago', 'last week', '2026-11-20' or '2026-11-20 14:00'.",
        ) from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=now.tzinfo)
