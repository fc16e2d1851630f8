"""The one number that is said of a run."""

from __future__ import annotations

from typing import Any

import pytest

from persona.history.headline import facts_of, headline

LOSSES = {"loss": {"count": 2, "points": [[10, 2.5], [20, 2.25]]}}
EVALS = {"eval_loss": {"count": 2, "points": [[10, 2.0], [20, 1.831]]}}
BEST = {"best_metric": 0.75, "best_step": 10}


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ({}, None),
        ({"form": "dense"}, None),
        ({"history": LOSSES}, "loss 2.25 @ step 20"),
        ({"history": LOSSES | EVALS}, "eval_loss 1.831 @ step 20"),
        ({"history": {"loss": {"points": [[1, 3.0], [2, "NaN"]]}}}, "loss NaN @ step 2"),
        ({"history": {"train_loss": {"points": [[9, 1.5]]}}}, "train_loss 1.5 @ step 9"),
        ({"history": LOSSES | EVALS, "trainer": BEST}, "best metric 0.75 @ step 10"),
        ({"history": EVALS, "trainer": {"best_metric": 1.831}}, "eval_loss 1.831"),
        ({"trainer": BEST, "arguments": {"metric_for_best_model": "accuracy"}}, "accuracy 0.75 @ step 10"),
        ({"trainer": {"best_metric": "NaN"}, "history": LOSSES}, "loss 2.25 @ step 20"),
        ({"metrics": {"eval_loss": 1.5}, "trainer": BEST, "history": EVALS}, "eval_loss 1.5"),
        ({"metrics": {"accuracy": 1.5}}, None),
        ({"metrics": [1], "history": [2], "trainer": "x"}, None),
        ({"history": {"loss": {"points": "none"}, "eval_loss": {"points": [[1], "x", [None, None]]}}}, None),
    ],
)
def test_headline(run: dict[str, Any], said: str | None) -> None:
    assert headline(run) == said


def test_of_several_runs_each_has_its_own() -> None:
    run = {"runs": {"a": {"form": "lora"}, "b": {"form": "dense"}}}
    assert facts_of(run, "a") == {"form": "lora"}
    assert facts_of(run, "c") == run
    assert facts_of({"form": "dense"}, "a") == {"form": "dense"}
