"""The headline of a run: its most informative number, in one line.

    eval_loss 1.83 @ step 600

The first of these that exists: ``eval_loss`` of ``--metrics``; the AUC of a readout; the best value of the metric
that the trainer selected by; the last ``eval_loss``; the last training loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def headline(run: Mapping[str, Any]) -> str | None:
    """Return the headline of a commit's ``run`` facts, or None if they contain no suitable number."""
    metric = _measured(run) or _of_readout(run) or _best(run) or _last(run, "eval_loss", "loss", "train_loss")
    if metric is None:
        return None
    name, value, step = metric
    text = value if isinstance(value, str) else f"{value:.4g}"
    return f"{name} {text}{f' @ step {step}' if step is not None else ''}"


def facts_of(run: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the facts about the vector ``name``, where a commit has facts about several runs."""
    return _table(run, "runs").get(name, run) if _table(run, "runs") else run


Metric = tuple[str, float | str, int | None] | None
"""A metric's name, its value (text for NaN and infinities), and its step."""


def _measured(run: Mapping[str, Any]) -> Metric:
    value = _number(_table(run, "metrics").get("eval_loss"))
    return None if value is None else ("eval_loss", value, _step(_table(run, "metrics").get("step")))


def _of_readout(run: Mapping[str, Any]) -> Metric:
    value = _number(_table(run, "readout").get("auc"))
    return None if value is None else ("AUC", value, None)


def _best(run: Mapping[str, Any]) -> Metric:
    trainer = _table(run, "trainer")
    value = _number(trainer.get("best_metric"))
    if value is None:
        return None
    return _metric_name(run, value), value, _step(trainer.get("best_step"))


def _metric_name(run: Mapping[str, Any], value: float) -> str:
    """Return the name in the training arguments, else that of the curve with this value, else "best metric"."""
    chosen = _table(run, "arguments").get("metric_for_best_model")
    if isinstance(chosen, str) and chosen:
        return (
            chosen if chosen.startswith("eval_") or f"eval_{chosen}" not in _table(run, "history") else f"eval_{chosen}"
        )
    for name in sorted(_table(run, "history")):
        if name.startswith("eval_") and any(point == value for _, point in points(run, name)):
            return name
    return "best metric"


def _last(run: Mapping[str, Any], *names: str) -> Metric:
    """Return the last value of the first of these curves that ends with a value."""
    for name in names:
        if pairs := _pairs(run, name):
            step, value = pairs[-1]
            known = value if isinstance(value, str) else _number(value)
            if known is not None:
                return name, known, _step(step)
    return None


def points(run: Mapping[str, Any], name: str) -> list[tuple[int, float]]:
    """Return the (step, value) pairs of a curve that are finite numbers."""
    pairs = ((_step(step), _number(value)) for step, value in _pairs(run, name))
    return [(step, value) for step, value in pairs if step is not None and value is not None]


def _pairs(run: Mapping[str, Any], name: str) -> list[list[Any]]:
    pairs = _table(_table(run, "history"), name).get("points")
    return [pair for pair in pairs if isinstance(pair, list) and len(pair) == 2] if isinstance(pairs, list) else []


def _table(run: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = run.get(key)
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _step(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
