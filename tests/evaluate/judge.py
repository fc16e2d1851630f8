"""A measure of one's own."""

from __future__ import annotations

from typing import Any


def score(live: Any, rows: list[dict[str, Any]], seed: int) -> dict[str, list[int]]:
    assert live.tokenizer is not None
    return {"words": [len(row["prompt"].split()) for row in rows]}


def few(live: Any, rows: list[dict[str, Any]], seed: int) -> list[float]:
    return [1.0]


def fails(live: Any, rows: list[dict[str, Any]], seed: int) -> list[float]:
    return [{}["nothing"] for _ in rows]
