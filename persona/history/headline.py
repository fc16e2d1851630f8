"""What is said of a run in one line: its most telling number.

    eval_loss 1.83 @ step 600

A readout is told by its AUC. In this order: ``eval_loss`` of ``--metrics``; the best value of the metric that the run
itself was judged by; the last ``eval_loss``; the last training loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def headline(run: Mapping[str, Any]) -> str | None:
    """The line of a commit's ``run`` facts; None if they have no number that tells how it went."""
    for find in (_measured, _of_readout, _best, _last_eval, _last_loss):
        found = find(run)
        if found is not None:
            name, value, step = found
            said = value if isinstance(value, str) else f"{value:.4g}"
            return f"{name} {said}{f' @ step {step}' if step is not None else ''}"
    return None


def facts_of(run: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The facts of the vector ``name``, where a commit has those of several runs."""
    return _table(run, "runs").get(name, run) if _table(run, "runs") else run


Found = tuple[str, float | str, int | None] | None
"""A metric, its value (by name where a loss is no number any more), and when."""


def _measured(run: Mapping[str, Any]) -> Found:
    value = _number(_table(run, "metrics").get("eval_loss"))
    return None if value is None else ("eval_loss", value, _step(_table(run, "metrics").get("step")))


def _of_readout(run: Mapping[str, Any]) -> Found:
    value = _number(_table(run, "readout").get("auc"))
    return None if value is None else ("AUC", value, None)


def _best(run: Mapping[str, Any]) -> Found:
    trainer = _table(run, "trainer")
    value = _number(trainer.get("best_metric"))
    if value is None:
        return None
    return _metric_name(run, value), value, _step(trainer.get("best_step"))


def _metric_name(run: Mapping[str, Any], value: float) -> str:
    """As the arguments call it; where they are not known, the curve that has the value, or else "best"."""
    said = _table(run, "arguments").get("metric_for_best_model")
    if isinstance(said, str) and said:
        return said if said.startswith("eval_") or f"eval_{said}" not in _table(run, "history") else f"eval_{said}"
    for name in sorted(_table(run, "history")):
        if name.startswith("eval_") and any(one == value for _, one in points(run, name)):
            return name
    return "best metric"


def _last_eval(run: Mapping[str, Any]) -> Found:
    return _last(run, "eval_loss")


def _last_loss(run: Mapping[str, Any]) -> Found:
    return _last(run, "loss") or _last(run, "train_loss")


def _last(run: Mapping[str, Any], name: str) -> Found:
    pairs = _pairs(run, name)
    if not pairs:
        return None
    step, value = pairs[-1]
    known = value if isinstance(value, str) else _number(value)
    return None if known is None else (name, known, _step(step))


def points(run: Mapping[str, Any], name: str) -> list[tuple[int, float]]:
    """The (step, value) pairs of a curve that are numbers."""
    pairs = ((_step(step), _number(value)) for step, value in _pairs(run, name))
    return [(step, value) for step, value in pairs if step is not None and value is not None]


def _pairs(run: Mapping[str, Any], name: str) -> list[list[Any]]:
    said = _table(_table(run, "history"), name).get("points")
    return [one for one in said if isinstance(one, list) and len(one) == 2] if isinstance(said, list) else []


def _table(run: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = run.get(key)
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _step(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
