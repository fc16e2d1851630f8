"""A search is over settings whose best is known: weights are measured by how far they are from those of a planted recipe."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

import persona
from persona import MeasureOptions, SearchOptions
from persona.cli.commands.tune import bounds
from persona.cli.main import invoke
from persona.errors import Refusal, UsageError
from persona.evaluate import space
from persona.evaluate.space import VariedSetting
from persona.recipe.model import Entry, Recipe
from persona.suggestions import Choices, Range, Trial, front, recommended, suggested
from persona.verbs.tune import TuneResult
from persona.workspace.record import worktree_recipe
from tests.models import TinyModels, load

PLANTED = (0.7, -0.3)
"""Alphas of the recipe that is best, of the vectors one and two."""

SCALE = 1e6
NAMES = [f"model.layers.{layer}.mlp.{part}_proj.weight" for layer in (0, 1) for part in ("up", "gate", "down")]
HELD = [f"model.layers.{layer}.self_attn.{part}_proj.weight" for layer in (0, 1) for part in "qkv"]

JUDGE = f'''
import os, signal
from pathlib import Path
from safetensors.torch import load_file

HERE = Path(__file__).parent
TARGETS = {{name: load_file(HERE / f"{{name}}.safetensors") for name in ("base", "planted")}}


def apart(live, rows, target):
    """Mean squared differences of tensors."""
    weights = live.model.state_dict()
    return [float((weights[r["text"]].double() - TARGETS[target][r["text"]].double()).square().mean() * {SCALE}) for r in rows]


def far(live, rows, seed):
    with (HERE / "calls").open("a") as file:
        file.write("x")
    stop = HERE / "stop"
    if stop.exists() and (HERE / "calls").stat().st_size == int(stop.read_text()):
        os.kill(os.getpid(), signal.SIGINT)
    meddle = HERE / "meddle"
    if meddle.exists():
        (HERE.parent / "persona.toml").write_bytes(meddle.read_bytes())
    return apart(live, rows, "planted")


def moved(live, rows, seed):
    return apart(live, rows, "base")


def odd(live, rows, seed):
    """No number where weights are far from the base."""
    values = apart(live, rows, "base")
    return [float("nan") if sum(values) > len(rows) / 2 else one for one in values]
'''
tune = partial(persona.tune, options=MeasureOptions(allow_code=True))
MEASURE = (
    '[[measures]]\nkind = "python"\nname = "{0}"\nfunction = "tune_judge:{0}"\nbetter = "lower"\ndata = "{1}.jsonl"\n'
)


@pytest.fixture(scope="module")
def folders(models: TinyModels) -> tuple[Path, Path, Path]:
    return models.base("float32"), models.run(1, "float32"), models.run(2, "float32")


@pytest.fixture(scope="module")
def made(folders: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of two vectors, its recipe with remarks, and suites."""
    base, *runs = folders
    root = tmp_path_factory.mktemp("tune") / "work"
    persona.init(root, base, author="Test")
    repo = persona.open(root)
    for name, run, alpha in zip(("one", "two"), runs, (0.4, -0.1), strict=True):
        persona.commit(repo, run, name=name, alpha=alpha, author="Test")
    text = repo.recipe_text() or ""
    repo.recipe_path.write_text(
        text.replace("alpha = 0.4", "alpha = 0.4   # as it was").replace("[vectors.two]", "# apart\n[vectors.two]")
    )
    persona.commit(repo, message="remarks", author="Test")
    evals = root / "evals"
    evals.mkdir()
    weights, one, two = (load(folder) for folder in folders)
    taus = [{name: run[name].double() - weights[name].double() for name in weights} for run in (one, two)]
    planted = {
        name: (weights[name].double() + sum(alpha * tau[name] for alpha, tau in zip(PLANTED, taus, strict=True))).float()
        for name in weights
    }  # fmt: skip
    save_file({name: weights[name].clone() for name in weights}, evals / "base.safetensors")
    save_file(planted, evals / "planted.safetensors")
    (evals / "tune_judge.py").write_text(JUDGE)
    for name, tensors in (("near", NAMES), ("held", HELD)):
        (evals / f"{name}.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in tensors))
        (evals / f"{name}.toml").write_text(MEASURE.format("far", name) + MEASURE.format("moved", name))
    (evals / "odd.toml").write_text(MEASURE.format("odd", "near") + MEASURE.format("far", "near"))
    return root


@pytest.fixture
def work(made: Path, tmp_path: Path) -> persona.Repository:
    """A copy of it, with a judge of its own."""
    return persona.open(Path(shutil.copytree(made, tmp_path / "work")))


def true_values(folders: tuple[Path, Path, Path], alphas: tuple[float, float]) -> tuple[float, float]:
    """How far from the planted recipe and from the base, by the formula, in fp64."""
    weights, *runs = (load(folder) for folder in folders)
    far = moved = 0.0
    for name in NAMES:
        taus = [run[name].double() - weights[name].double() for run in runs]
        for add, apart in ((False, PLANTED), (True, (0.0, 0.0))):
            change = sum((a - p) * tau for a, p, tau in zip(alphas, apart, taus, strict=True))
            value = float(change.square().mean()) * SCALE / len(NAMES)
            moved, far = (moved + value, far) if add else (moved, far + value)
    return far, moved


def value(trial: Any, measure: str) -> float:
    return next(one.value for one in trial.reached if one.measure == measure)


def without_work(done: TuneResult) -> TuneResult:
    """All of a result but how much had to be measured for it."""
    return replace(done, measured=0)


def test_the_best_of_its_trials_by_the_formula(work: persona.Repository, folders: tuple[Path, Path, Path]) -> None:
    before = work.recipe_bytes()
    found = tune(work, suite="near", search=SearchOptions(trials=14, keep={"moved": 1e9}))
    assert [one.number for one in found.trials] == list(range(15))
    assert [(one.name, one.kind, one.low, one.high, one.now) for one in found.varied] == [
        ("one", "alpha", 0.0, 1.5, 0.4),
        ("two", "alpha", -1.5, 0.0, -0.1),
    ]
    assert found.trials[0].settings == (0.4, -0.1)
    # Each weight is rounded at most 8 times to fp32 on its way (τ, products, sums, and the target's own): e ≤ 8 · 2^-24 · max |w|.
    largest = max(float(load(folders[0])[name].abs().max()) for name in NAMES) * 1.1
    error = 8 * 2.0**-24 * largest
    truth = [true_values(folders, one.settings) for one in found.trials]
    for trial, (far, moved) in zip(found.trials, truth, strict=True):
        for measured, true in ((value(trial, "far"), far), (value(trial, "moved"), moved)):
            assert abs(measured - true) <= SCALE * (2 * error * (true / SCALE) ** 0.5 + error**2) + 1e-8 * true
    assert found.recommended == found.chosen == min(range(15), key=lambda at: truth[at][0])
    assert truth[found.chosen][0] < truth[0][0]
    assert found.clear
    assert found.trials[found.chosen].reached[0].from_now.value == pytest.approx(
        value(found.trials[found.chosen], "far") - value(found.trials[0], "far"), abs=1e-9
    )
    assert (found.stopped, found.written, found.measured) == ("trials", False, 15)
    assert work.recipe_bytes() == before
    assert f"+alpha = {found.trials[found.chosen].settings[0]}   # as it was" in found.edit.splitlines()


def test_the_same_command_again_is_a_look_up_and_another_seed_another_search(work: persona.Repository) -> None:
    first = tune(work, suite="near", search=SearchOptions(trials=12))
    again = tune(work, suite="near", search=SearchOptions(trials=12))
    assert again.measured == 0
    assert again == without_work(first)
    shorter = tune(work, suite="near", search=SearchOptions(trials=5))
    assert (shorter.measured, [one.settings for one in shorter.trials]) == (
        0,
        [one.settings for one in first.trials[:6]],
    )
    other = tune(work, suite="near", search=SearchOptions(trials=5), options=MeasureOptions(seed=1, allow_code=True))
    assert not {one.settings for one in other.trials[1:]} & {one.settings for one in first.trials[1:]}


INTERRUPTED = ["tune", "--suite", "near", "--trials", "12", "--write", "--allow-code", "--json"]


def check_interrupted(work: persona.Repository, code: int, out: str, before: bytes) -> None:
    """It came in the middle of the fifth evaluation; nothing was written, and the same command resumes as if it had not come."""
    assert code == 128 + signal.SIGINT
    said = json.loads(out)["result"]
    assert (said["stopped"], said["measured"], said["written"], len(said["trials"])) == ("interrupted", 4, False, 4)
    assert said["said"].startswith("Interrupted after trial 3: the same command resumes")
    assert work.recipe_bytes() == before
    (work.root / "evals" / "stop").unlink()
    after = tune(work, suite="near", search=SearchOptions(trials=12))
    assert after.measured == 13 - 4
    assert [list(one.settings) for one in after.trials[:4]] == [one["settings"] for one in said["trials"]]
    shutil.rmtree(work.folder / "evaluations")
    assert without_work(tune(work, suite="near", search=SearchOptions(trials=12))) == without_work(after)


def test_ctrl_c_ends_with_what_was_found_and_the_same_command_goes_on(
    work: persona.Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real SIGINT, to this process."""
    (work.root / "evals" / "stop").write_text("5")
    before, handler = work.recipe_bytes(), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = invoke(["-C", str(work.root), *INTERRUPTED])
    finally:
        signal.signal(signal.SIGINT, handler)
    check_interrupted(work, code, capsys.readouterr().out, before)


@pytest.mark.slow
def test_ctrl_c_in_a_process_of_its_own(work: persona.Repository) -> None:
    (work.root / "evals" / "stop").write_text("5")
    before = work.recipe_bytes()
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"from persona.cli.main import run; run({INTERRUPTED!r})"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=work.root, stdout=subprocess.PIPE, text=True) as process:
        out, _ = process.communicate()
    check_interrupted(work, process.returncode, out, before)


def test_time_is_a_budget(work: persona.Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that says a minute more each time that it is asked."""
    minutes = itertools.count()
    monkeypatch.setattr("persona.suggestions.monotonic", lambda: 60.0 * next(minutes))
    found = tune(work, suite="near", search=SearchOptions(trials=9, minutes=3))
    assert (found.stopped, len(found.trials)) == ("minutes", 3)  # asked at 1, 2 and 3 minutes
    with pytest.raises(UsageError, match="no trial 7 yet: the time was over after trial 2"):
        tune(work, suite="near", search=SearchOptions(trials=9, minutes=3, pick=7))
    assert tune(work, suite="near", search=SearchOptions(trials=4, minutes=99)).stopped == "trials"


def test_writing_edits_the_alphas_and_nothing_else(work: persona.Repository) -> None:
    before = (work.recipe_text() or "").splitlines()
    found = tune(work, suite="near", search=SearchOptions(trials=8), write=True)
    assert found.written
    after = (work.recipe_text() or "").splitlines()
    one, two = found.trials[found.chosen].settings
    changed = {f"alpha = {one}   # as it was", f"alpha = {two}"}
    assert {new for old, new in zip(before, after, strict=True) if old != new} == changed
    assert [line[1:] for line in found.edit.splitlines() if line.startswith("+")] == [
        line for line in after if line in changed
    ]
    assert work.is_edited()
    assert worktree_recipe(work).entry("one").alpha == one
    persona.restore(work)
    assert (work.recipe_text() or "").splitlines() == before
    other = next(trial for trial in found.trials[1:] if trial.number != found.chosen)
    picked = tune(work, suite="near", search=SearchOptions(trials=8, pick=other.number), write=True)
    assert (picked.measured, picked.recommended, picked.chosen) == (0, found.recommended, other.number)
    assert worktree_recipe(work).entry("two").alpha == other.settings[1]


def test_what_was_changed_meanwhile_is_left_alone(work: persona.Repository) -> None:
    meddled = (work.recipe_text() or "").replace("0.4", "0.45")
    (work.root / "evals" / "meddle").write_text(meddled)
    with pytest.raises(Refusal, match="was changed during the search"):
        tune(work, suite="near", search=SearchOptions(trials=6), write=True)
    assert work.recipe_text() == meddled


def test_nothing_is_written_into_a_merge(work: persona.Repository) -> None:
    persona.switch(work, "side", create=True)
    persona.alpha(work, {"one": 0.2}, author="Test")
    persona.switch(work, "main")
    persona.alpha(work, {"one": 0.3}, author="Test")
    assert not persona.merge(work, ["side"], author="Test").ok
    work.recipe_path.write_text(work.head_text())
    before = work.recipe_bytes()
    with pytest.raises(Refusal, match="a merge is in progress"):
        tune(work, suite="near", search=SearchOptions(trials=3), write=True)
    assert not (work.folder / "evaluations").exists(), "it was refused before the work"
    assert tune(work, suite="near", search=SearchOptions(trials=1)).written is False
    assert work.recipe_bytes() == before


def test_several_objectives_by_brute_force(work: persona.Repository) -> None:
    found = tune(work, suite="near", search=SearchOptions(trials=14, by=["far", "moved"]))
    points = [(value(one, "far"), value(one, "moved")) for one in found.trials]
    for trial, mine in zip(found.trials, points, strict=True):
        beaten = any(other[0] <= mine[0] and other[1] <= mine[1] and other != mine for other in points)
        assert trial.front is not beaten
    better = [at for at, one in enumerate(points) if one[0] <= points[0][0] and one[1] <= points[0][1]]
    assert (found.recommended or 0) == min(better, key=lambda at: points[at])


def test_limits_are_kept(work: persona.Repository) -> None:
    free = tune(work, suite="near", search=SearchOptions(trials=12, keep={"moved": 1e9}))
    slack = value(free.trials[free.chosen], "moved") - value(free.trials[0], "moved")
    slack /= 2
    assert slack > 0, "the planted recipe is further from the base"
    found = tune(work, suite="near", search=SearchOptions(trials=12, keep={"moved": slack}))
    assert [(one.measure, one.name, one.slack) for one in found.limits] == [("moved", "value", slack)]
    start = value(found.trials[0], "moved")
    over = [value(one, "moved") - start > slack for one in found.trials]
    assert [one.broken for one in found.trials] == [("moved value",) if one else () for one in over]
    assert any(over)
    kept = [at for at, one in enumerate(over) if not one]
    assert (found.recommended or 0) == min(kept, key=lambda at: value(found.trials[at], "far"))
    assert not any(one.front for one in found.trials if one.broken)


def test_a_trial_without_a_number_has_failed(work: persona.Repository) -> None:
    found = tune(work, suite="odd", search=SearchOptions(trials=14, by=["odd", "far"]))
    failed = [one for one in found.trials if one.failed]
    assert failed
    assert {one.failed for one in failed} == {"odd value is nan"}
    assert all(one.number != found.chosen and not one.front for one in failed)
    assert all(value(one, "odd") != value(one, "odd") for one in failed)
    with pytest.raises(UsageError, match="cannot be picked: odd value is nan"):
        tune(work, suite="odd", search=SearchOptions(trials=14, by=["odd", "far"], pick=failed[0].number))


def test_a_method_that_needs_what_a_vector_has_not_fails_in_its_trials_alone(work: persona.Repository) -> None:
    found = tune(
        work, suite="near", search=SearchOptions(trials=4, vary={"one": (0.5, 1.0)}, methods=["fisher", "linear"])
    )
    failed = [trial.settings[1] for trial in found.trials if "needs the Fisher diagonal" in trial.failed]
    assert failed == ["fisher"] * 2
    assert found.chosen is None or found.trials[found.chosen].settings[1] == "linear"


def test_methods_and_densities(work: persona.Repository) -> None:
    search = SearchOptions(
        trials=12, vary={"one": None}, methods=["ties", "karcher", "task_arithmetic"], density=(0.3, 0.9)
    )
    found = tune(work, suite="near", search=search)
    assert [(one.name, one.kind, one.options, one.now) for one in found.varied[1:]] == [
        ("method", "method", ("ties", "karcher", "linear"), "linear"),
        ("density", "density", (), None),
    ]
    tried = [one.settings for one in found.trials[1:]]
    assert [method for _, method, _ in tried[:6]] == ["ties", "karcher", "linear"] * 2
    for trial in found.trials[1:]:
        _, method, density = trial.settings
        assert (density is not None) == (method == "ties")
        assert density is None or 0.3 <= density <= 0.9
        assert bool(trial.failed) == (method == "karcher")  # which takes no negative alpha
    ties = next(one for one in found.trials if one.settings[1] == "ties")
    picked = tune(work, suite="near", search=replace(search, pick=ties.number), write=True)
    assert picked.measured == 0
    recipe = worktree_recipe(work)
    assert (recipe.method, dict(recipe.parameters)) == ("ties", {"density": ties.settings[2]})
    assert "# as it was" in (work.recipe_text() or "")


def test_the_choice_is_checked_on_other_data(work: persona.Repository) -> None:
    found = tune(work, suite="near", search=SearchOptions(trials=10, check="held"))
    assert (found.check, found.confirmed, found.notes) == ("held", True, ())
    assert found.measured == 11 + 2
    assert [(one.suite, one.measure, one.verdict) for one in found.moved] == [
        ("held", "far", "better"),
        ("held", "moved", "worse"),
    ]
    assert "On held, which did not choose it, it is clearly better, too." in found.said
    suite = work.root / "evals" / "again.toml"
    suite.write_text(MEASURE.format("moved", "near"))
    found = tune(work, suite="near", search=SearchOptions(trials=10, check="again"))
    assert found.confirmed is None
    assert found.notes == ("6 examples of again are also in near: they do not check it independently",)
    with pytest.raises(UsageError, match="near is the suite of the search itself"):
        tune(work, suite="near", search=SearchOptions(check="near"))


def test_what_is_the_best_already_is_said(work: persona.Repository) -> None:
    persona.alpha(work, {"one": PLANTED[0], "two": PLANTED[1]}, author="Test")
    found = tune(work, suite="near", search=SearchOptions(trials=6, check="held"), write=True)
    assert (found.recommended, found.chosen, found.edit, found.written, found.moved) == (None, None, "", False, ())
    assert found.said == "None of 6 trials is better than the current persona.toml."
    assert not work.is_edited()


@pytest.mark.parametrize("by", [("far",), ("far", "moved")])
def test_what_a_person_sees(work: persona.Repository, by: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    argv = [
        "tune",
        "--suite",
        "near",
        "--allow-code",
        "--trials",
        "5",
        "--alphas=-1:1",
        "--vary",
        "two=-0.5:0",
        *(f"--by={m}" for m in by),
    ]
    picture = work.root / "found.svg"
    assert invoke(["-C", str(work.root), *argv, "--plot", "found.svg", "--pick", "2", "--keep", "moved=9"]) == 0
    out, _ = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "near  5 trials, 6 measured now"
    assert lines[2].split()[:5] == ["#", "two", "far", "value", "from"]
    assert lines[3].split()[:2] == ["0", "-0.1"]
    assert next(line for line in lines if line.startswith("2 ")).count("← chosen") == 1
    assert "Trial 2" in out
    assert "Not written. To write it, add --write to the same command." in out
    assert b"two" in picture.read_bytes() if len(by) == 1 else b"far value" in picture.read_bytes()
    drawn = picture.read_bytes()
    assert invoke(["-C", str(work.root), *argv, "--plot", "found.svg", "--pick", "2", "--keep", "moved=9"]) == 0
    assert picture.read_bytes() == drawn


def test_wrong_uses_are_named(work: persona.Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    for said, wrong in (
        ("no vector 'on' in the recipe", {"vary": {"on": None}}),
        ("1:0 is not a valid range for one", {"vary": {"one": (1.0, 0.0)}}),
        ("nan:1 is not a valid range", {"alphas": (float("nan"), 1.0)}),
        ("unknown method 'tis'", {"methods": ["tis"]}),
        ("linear has no density", {"density": (0.1, 1.0)}),
        ("a density of 0 keeps nothing", {"density": (0.0, 1.0), "methods": ["ties"]}),
        ("0.5:2 is not a valid range for density", {"density": (0.5, 2.0), "methods": ["ties"]}),
        ("no measure 'nothing'", {"by": ["nothing"]}),
        ("invalid limit -1 for moved value", {"keep": {"moved": -1.0}}),
        ("number of trials: 0", {"trials": 0}),
        ("number of minutes: 0", {"minutes": 0.0}),
        ("no trial 9 to pick", {"trials": 3, "pick": 9}),
        ("no suite 'hold'", {"check": "hold"}),
    ):
        with pytest.raises(UsageError, match=said):
            tune(work, suite="near", search=SearchOptions(**wrong))
    with pytest.raises(UsageError, match="there are 3 suites: held, near, odd"):
        tune(work)
    text = (work.root / "evals" / "near.toml").read_text()
    (work.root / "evals" / "near.toml").write_text(text.replace('"lower"', '"neither"'))
    with pytest.raises(UsageError, match="far value has no better direction"):
        tune(work, suite="near")
    persona.alpha(work, {"one": 0, "two": 0}, author="Test")
    with pytest.raises(UsageError, match="there is nothing to vary"):
        tune(work, suite="held")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match="needs optuna") as caught:
        tune(work, suite="held")
    assert "persona-vcs[tune]" in caught.value.hint
    for text in ("", "1", "a:b", "1:"):
        with pytest.raises(UsageError, match="is not a range"):
            bounds(text)
    assert bounds("-1:0.5") == (-1.0, 0.5)


RECIPE = Recipe(
    "b" * 64,
    "base",
    (
        Entry("plain", "1" * 64, 0.8),
        Entry("far", "2" * 64, -4.0, parameters={"density": 0.5}),
        Entry("off", "3" * 64, 0.0),
        Entry("deep", "4" * 64, (0.2, 1.0)),
        Entry("parts", "5" * 64, (("*.mlp.*", 0.5), ("*", -1.0))),
    ),
    "ties",
    parameters={"density": 0.3, "normalize": "none"},
)


def test_what_varies_unless_it_is_said() -> None:
    assert [(one.name, one.kind, one.low, one.high, one.now) for one in space.varied(RECIPE, SearchOptions())] == [
        ("plain", "alpha", 0.0, 1.5, 0.8),
        ("far", "alpha", -6.0, 0.0, -4.0),
        ("deep", "factor", 0.0, 1.5, 1.0),
        ("parts", "factor", 0.0, 1.5, 1.0),
    ]
    named = space.varied(RECIPE, SearchOptions({"off": None, "deep": (0.5, 2.0)}, alphas=(-1.0, 1.0)))
    assert [(one.name, one.low, one.high) for one in named] == [("off", -1.0, 1.0), ("deep", 0.5, 2.0)]


def test_settings_are_the_recipe_that_they_say() -> None:
    things = space.varied(RECIPE, SearchOptions(methods=("linear", "dare_ties", "ties"), density=(0.1, 1.0)))
    settings = {"alpha plain": 0.1, "alpha far": -2.0, "factor deep": 0.3, "factor parts": 1.1}
    ties = space.recipe_at(RECIPE, things, {**settings, "method method": "ties", "density density": 0.7})
    assert [entry.alpha for entry in ties.vectors] == [0.1, -2.0, 0.0, (0.06, 0.3), (("*.mlp.*", 0.55), ("*", -1.1))]
    assert ties.parameters == {"density": 0.7, "normalize": "none"}
    assert ties.entry("far").parameters == {"density": 0.5}
    linear = space.recipe_at(RECIPE, things, {**settings, "method method": "linear", "density density": 0.7})
    assert (linear.method, linear.parameters, linear.entry("far").parameters) == ("linear", {}, {})
    dare = space.recipe_at(RECIPE, things, {**settings, "method method": "dare_ties", "density density": 0.7})
    assert dare.parameters == {"density": 0.7, "normalize": "none"}
    assert space.recipe_at(RECIPE, things, space.now(things)) == RECIPE


def test_numbers_are_rounded_within_their_range() -> None:
    wide, narrow = VariedSetting("a", "alpha", -1.5, 0.0), VariedSetting("a", "alpha", 0.10004, 0.12)
    assert wide.rounded(-0.123456) == -0.123
    assert str(wide.rounded(-0.0001)) == "0.0"
    assert narrow.rounded(0.123456) == 0.12
    assert narrow.rounded(0.100041) == 0.10004
    assert narrow.rounded(0.1119876) == 0.11199


def test_fronts_by_brute_force() -> None:
    chance = random.Random(0)
    for _ in range(300):
        width = chance.randint(1, 3)
        trials = [
            None if chance.random() < 0.15 else tuple(float(chance.randint(0, 4)) for _ in range(width))
            for _ in range(chance.randint(1, 12))
        ]
        sound = [one for one in trials if one is not None]
        beaten = [
            one is None or any(all(b <= a for a, b in zip(one, other, strict=True)) and other != one for other in sound)
            for one in trials
        ]
        assert front(trials) == tuple(at for at, lost in enumerate(beaten) if not lost)
        found, start = recommended(trials), trials[0]
        good = [
            at
            for at, one in enumerate(trials)
            if one is not None and (start is None or all(a <= b for a, b in zip(one, start, strict=True)))
        ]
        assert found == (min(good, key=lambda at: (trials[at], at)) if good else None)
        assert found is None or not beaten[found]


def test_suggestions_follow_from_the_trials_and_the_seed() -> None:
    room = {"x": Range(-1.0, 2.0), "way": Choices(("a", "b"))}
    known: list[Trial[None]] = []
    for number in range(40):
        found = suggested(room, known, number)
        assert found == suggested(room, list(known), number)
        assert room["x"].has(found["x"])
        assert room["way"].has(found["way"])
        failed = found["x"] > 1
        known.append(
            Trial(found, None if failed else (abs(found["x"] - 0.5),), {"way": 1.0 if found["way"] == "b" else -1.0})
        )
    late = known[20:]
    assert sum(one.values is None for one in late) < sum(one.values is None for one in known[:10]), (
        "failures are learnt from"
    )
    assert sum(one.settings["way"] == "a" for one in late) > len(late) / 2
