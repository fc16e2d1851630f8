"""A measure of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def score(live: Any, rows: list[dict[str, Any]], seed: int) -> dict[str, list[int]]:
    assert live.tokenizer is not None
    return {"words": [len(row["prompt"].split()) for row in rows]}


def few(live: Any, rows: list[dict[str, Any]], seed: int) -> list[float]:
    return [1.0]


def none(live: Any, rows: list[dict[str, Any]], seed: int) -> dict[str, list[float]]:
    return {}


def alone(live: Any, rows: list[dict[str, Any]], seed: int) -> float:
    return 1.0


def late(live: Any, rows: list[dict[str, Any]], seed: int) -> Iterator[float]:
    yield from (1 / 0 for _ in rows)


def huge(live: Any, rows: list[dict[str, Any]], seed: int) -> list[int]:
    return [10**400 for _ in rows]


def fails(live: Any, rows: list[dict[str, Any]], seed: int) -> list[float]:
    return [{}["nothing"] for _ in rows]
