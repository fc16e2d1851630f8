"""The share of each vector's own effect that a recipe keeps: weights are measured by how far they are from each run's."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import save_file

import persona
from persona import SearchOptions
from persona.cli.main import invoke
from persona.errors import UsageError
from persona.evaluate import gain
from persona.evaluate.statistics import wilson
from persona.workspace.record import worktree_recipe
from tests.models import TinyModels, load

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = persona.MeasureOptions(allow_code=True)
ALPHAS = {"one": 0.5, "two": -0.2}
NAMES = [f"model.layers.{layer}.mlp.{part}_proj.weight" for layer in (0, 1) for part in ("up", "gate", "down")]

JUDGE = """
from pathlib import Path
from safetensors.torch import load_file

RUNS = {name: load_file(Path(__file__).parent / f"{name}.safetensors") for name in ("base", "one", "two")}

def near(live, rows, seed):
    weights = live.model.state_dict()
    return [-1e6 * float((weights[r["text"]].double() - RUNS[r["run"]][r["text"]].double()).square().mean()) for r in rows]

def moved(live, rows, seed):
    return [-value for value in near(live, rows, seed)]
"""
MEASURE = (
    '[[measures]]\nkind = "python"\nname = "{0}"\nfunction = "gain_judge:{1}"\nbetter = "{2}"\ndata = "{3}.jsonl"\n'
)


@pytest.fixture(scope="module")
def work(models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> persona.Repository:
    root = tmp_path_factory.mktemp("gain") / "work"
    folders = {"base": models.base("float32"), "one": models.run(1, "float32"), "two": models.run(2, "float32")}
    persona.init(root, folders["base"], author="Test")
    repo = persona.open(root)
    for name, alpha in ALPHAS.items():
        persona.commit(repo, folders[name], name=name, alpha=alpha, author="Test")
    evals = root / "evals"
    evals.mkdir()
    (evals / "gain_judge.py").write_text(JUDGE)
    for name, folder in folders.items():
        save_file(load(folder), evals / f"{name}.safetensors")
        (evals / f"{name}.jsonl").write_text("".join(json.dumps({"text": n, "run": name}) + "\n" for n in NAMES))
    own = MEASURE.format("one", "near", "higher", "one") + MEASURE.format("two", "near", "higher", "two")
    (evals / "own.toml").write_text(own + MEASURE.format("change", "moved", "lower", "base"))
    (evals / "none.toml").write_text(MEASURE.format("change", "moved", "lower", "base"))
    (evals / "part.toml").write_text(MEASURE.format("one", "near", "higher", "one"))
    return repo


def shares(models: TinyModels, scale: float) -> dict[str, float]:
    """(B − M) / (B − S) of each run in fp64, worked out from the checkpoints."""
    base = load(models.base("float32"))
    taus = {
        name: {key: run[key].double() - base[key].double() for key in NAMES}
        for name, run in (("one", load(models.run(1, "float32"))), ("two", load(models.run(2, "float32"))))
    }

    def far(name: str, strengths: dict[str, float]) -> float:
        return sum(
            float((sum(s * taus[v][key] for v, s in strengths.items()) - taus[name][key]).square().mean())
            for key in NAMES
        )

    merged = {name: scale * alpha for name, alpha in ALPHAS.items()}
    none = dict.fromkeys(ALPHAS, 0.0)
    return {
        name: (far(name, none) - far(name, merged)) / (far(name, none) - far(name, {**none, name: alpha}))
        for name, alpha in ALPHAS.items()
    }


def test_each_share_is_what_the_checkpoints_say(work: persona.Repository, models: TinyModels) -> None:
    found = persona.sweep(work, None, [1.5, 0.5, 1.0], suite="own", options=OPTIONS, by="gain")
    assert [stop.value for stop in found.stops] == [0.5, 1.0, 1.5]
    assert (found.vector, found.now, found.measure, found.name, found.better) == (None, 1.0, "gain", "mean", "higher")
    for stop in found.stops:
        value = {one.name: one.value for one in stop.reached if one.measure == "gain"}
        expected = shares(models, stop.value)
        assert {name: value[name] for name in ALPHAS} == pytest.approx(expected, rel=1e-4)
        assert value["least"] == min(value[name] for name in ALPHAS)
        assert value["mean"] == pytest.approx(sum(expected.values()) / 2, rel=1e-4)
    best = max(found.stops, key=lambda stop: sum(shares(models, stop.value).values()))
    assert found.best == best.value == 1.5
    assert ("change", "value") in {(cost.measure, cost.name) for cost in found.costs}
    assert all(cost.from_now is not None and cost.from_now.verdict == "worse" for cost in found.costs)


def test_the_scale_is_written_only_when_told_and_its_price_is_printed(
    work: persona.Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    before = work.recipe_bytes()
    assert (
        invoke(
            ["-C", str(work.root), "sweep", "--scale", "0.5:1.5:3", "--suite", "own", "--by", "gain", "--allow-code"]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert "Best scale: scale = 1.5 in [merge]: add --write" in printed
    assert "It makes worse: two value by " in printed  # the mean share rises although the second vector overshoots
    assert work.recipe_bytes() == before
    persona.sweep(work, None, [0.5, 1.0, 1.5], suite="own", options=OPTIONS, by="gain least", write=True)
    assert worktree_recipe(work).scale == 1.5
    persona.restore(work)
    assert work.recipe_bytes() == before


def test_a_value_that_is_clearly_worse_is_not_offered(
    work: persona.Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    found = persona.sweep(work, None, [0.1, 0.2], suite="own", options=OPTIONS, by="gain", write=True)
    assert (found.best, found.written, found.costs) == (None, False, ())
    assert (
        invoke(["-C", str(work.root), "sweep", "--scale", "0.1,0.2", "--suite", "own", "--by", "gain", "--allow-code"])
        == 0
    )
    printed = capsys.readouterr().out
    assert "None of these scales is as good as the current recipe." in printed
    assert "←" not in printed


def test_a_share_of_replies_has_wilsons_interval_in_either_direction() -> None:
    """Of a base that never replies so and a vector that always does, bᵢ − sᵢ is −1 where higher is better."""
    for sign in (1.0, -1.0):
        kept = gain._figure("v", (sign,) * 3 + (0.0,), (sign,) * 4, 0)
        assert (kept.value, kept.low, kept.high) == (0.75, *wilson(3, 4))


def test_what_has_no_gain_is_said(work: persona.Repository, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="no measure of none is named after a vector"):
        persona.sweep(work, None, [1.0], suite="none", options=OPTIONS, by="gain")
    found = persona.sweep(work, None, [1.0], suite="part", options=OPTIONS, by="gain")
    assert found.notes == ("two does not count for gain: no measure of part has its name",)
    for arguments in (
        ["one", "--scale", "1:2:2"],
        ["--alpha", "1:2:2"],
        ["one"],
        ["one", "--alpha", "1", "--scale", "1"],
    ):
        assert invoke(["-C", str(work.root), "sweep", "--suite", "own", *arguments]) == 2
        assert "give a vector and --alpha, or --scale alone" in capsys.readouterr().err


def test_a_search_varies_the_scale_within_what_the_base_allows(work: persona.Repository, models: TinyModels) -> None:
    pytest.importorskip("optuna")
    limits = {"change": 3.0}
    search = SearchOptions(vary={"one": (0.4999, 0.5)}, scale=(0.2, 2.0), by=["gain"], keep_base=limits, trials=6)
    found = persona.tune(work, suite="own", options=OPTIONS, search=search)
    assert [thing.kind for thing in found.varied] == ["alpha", "scale"]
    assert [(limit.measure, limit.slack, limit.since) for limit in found.limits] == [("change", 3.0, "base")]
    for trial in found.trials[1:]:
        value = {(one.measure, one.name): one.value for one in trial.reached}
        assert bool(trial.broken) == (value["change", "value"] > 3.0)
        expected = sum(shares(models, float(trial.settings[1])).values()) / 2
        assert value["gain", "mean"] == pytest.approx(expected, rel=1e-3)
    assert {name for trial in found.trials for name in trial.broken} <= {"change value (from the base)"}
