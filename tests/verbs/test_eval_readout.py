"""A readout's shift as a measure: the numbers of ``readout drift``, kept by the readout too, for every command that measures."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import persona
from persona import MeasureOptions
from persona.errors import UsageError
from persona.readout.folder import write_readout
from persona.readout.model import Readout
from tests.evaluate import small
from tests.readout.made import by_chance

pytestmark = pytest.mark.usefixtures("one_thread")  # small models run fastest on one

SUITE = """\
[[measures]]
kind = "loss"
data = "answers.jsonl"

[[measures]]
kind = "readout"
name = "mood"
data = "neutral.jsonl"
"""


def mood(seed: int = 0, best: Any = (1, 0)) -> Readout:
    made = by_chance((0, 1), seed=seed)
    return Readout(made.concepts, made.layers, made.vectors, {**made.about, "best": list(best)})


@pytest.fixture(scope="module")
def folders(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    base = small.base_folder(folder / "base")
    for seed, name in enumerate(("one", "two"), 1):
        small.tuned_folder(folder / name, base, seed, std=8e-3)
    write_readout(folder / "mood", mood())
    write_readout(folder / "again", mood(seed=1))
    write_readout(folder / "silent", by_chance((0, 1)))
    return folder


@pytest.fixture(scope="module")
def made(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of two vectors, and a readout that came after them."""
    root = tmp_path_factory.mktemp("repo") / "work"
    persona.init(root, folders / "base", author="Test")
    repo = persona.open(root)
    for name in ("one", "two"):
        persona.commit(repo, folders / name, name=name, alpha=0.5, author="Test")
    persona.commit_readout(repo, folders / "mood", name="mood", author="Test")
    small.suite(root, text=SUITE)
    return root


@pytest.fixture
def work(made: Path, tmp_path: Path) -> persona.Repository:
    return persona.open(Path(shutil.copytree(made, tmp_path / "work")))


def said(work: persona.Repository, text: str) -> None:
    """Other lines of the readout's measure."""
    (work.root / "evals" / "calm.toml").write_text(f"{SUITE}{text}\n")


def scores(work: persona.Repository, *revs: str) -> dict[str, Any]:
    (suite,) = persona.eval(work, revs).builds[-1].suites
    return {one.name: one for one in suite.scores if one.measure == "mood"}


TEXTS = small.texts(8, 2)


def test_it_is_what_drift_says_at_the_best_layer_of_each_concept(work: persona.Repository) -> None:
    drift = persona.readout_drift(work, "HEAD~3", None, TEXTS, "mood")
    shifts = {(one.concept, one.layer): one.shift for one in drift.shifts}
    found = scores(work)
    assert {name: one.value for name, one in found.items()} == {
        "warmth": pytest.approx(shifts["warmth", 1], rel=1e-8),  # results have nine digits
        "coldness": pytest.approx(shifts["coldness", 0], rel=1e-8),
    }
    one = found["warmth"]
    assert (one.unit, one.better, one.examples) == ("std", None, 8)
    assert one.low < one.value < one.high
    assert one.from_base.value == one.value
    said(work, 'layer = 0\nconcepts = ["warmth"]\nbetter = "higher"')
    (found,) = scores(work).values()
    # One direction alone is multiplied in another order than two: each projection (within three deviations of the mean) is
    # rounded otherwise by a few units of fp32, and the deviation divides that.
    (there,) = (one for one in drift.shifts if (one.concept, one.layer) == ("warmth", 0))
    largest = max(abs(there.before), abs(there.after)) + 3 * there.std
    assert found.value == pytest.approx(there.shift, rel=0, abs=4 * 2**-23 * largest / there.std)
    assert (found.name, found.better) == ("warmth", "higher")
    assert found.from_base.verdict == "same" or (found.from_base.verdict == "better") == (found.value > 0)


def test_the_base_has_not_moved(work: persona.Repository) -> None:
    assert [(one.value, one.low, one.high) for one in scores(work, "HEAD~3").values()] == [(0, 0, 0)] * 2


def test_another_readout_is_another_measurement(work: persona.Repository, folders: Path) -> None:
    """A readout is no part of a build, so it must be one of the suite."""
    first = scores(work)
    assert persona.eval(work).measured == 0
    persona.commit_readout(work, folders / "again", name="mood", author="Test")
    assert persona.eval(work).measured == 2  # the build and its base
    assert scores(work)["warmth"].value != first["warmth"].value
    said(work, 'readout = "mood@HEAD~1"')
    assert scores(work)["warmth"].value == first["warmth"].value
    persona.undo(work)
    small.suite(work.root, text=SUITE)
    assert persona.eval(work).measured == 0
    assert scores(work) == first


def test_a_revision_without_the_readout_is_read_by_that_of_the_recipe_as_it_stands(work: persona.Repository) -> None:
    assert not work.recipe(work.resolve("HEAD~1")).readouts
    found = scores(work, "HEAD~2", "HEAD~1")
    assert found["warmth"].from_before is not None
    moved = {(one.measure, one.name) for one in persona.diff(work, "HEAD~2", "HEAD~1").measured}
    assert ("mood", "warmth") in moved


def test_every_command_that_measures_knows_it(work: persona.Repository) -> None:
    values = {name: one.value for name, one in scores(work).items()}
    said(work, "")
    blamed = {one.name: one for one in persona.blame(work, suite="calm").verdicts if one.measure == "mood"}
    alone = {one.name: one for one in persona.verify_vectors(work, suites=["calm"]).columns if one.measure == "mood"}
    swept = persona.sweep(work, "one", [0.0, 0.5], by="mood warmth")
    for name, value in values.items():
        assert blamed[name].value == pytest.approx(value, rel=1e-8)
        without = {one.vector: one.without for one in blamed[name].vectors}
        cells = {one.vector: one.value for one in alone[name].cells}
        assert without == {"one": cells["two"], "two": cells["one"]}  # of two vectors, less one is the other alone
        assert alone[name].base == 0
        assert all(one.control is not None for one in alone[name].cells)
    assert [stop.reached[1].value for stop in swept.stops] == [
        pytest.approx(value, rel=1e-8) for value in (cells_of(alone, "warmth", "two"), values["warmth"])
    ]
    assert swept.best is None
    history = {
        one.name: one for one in persona.blame(work, suite="calm", history=True).verdicts if one.measure == "mood"
    }
    assert len(history["warmth"].commits) == 3


def cells_of(columns: Any, name: str, vector: str) -> float:
    return next(float(one.value) for one in columns[name].cells if one.vector == vector)


def test_a_concept_that_reads_all_texts_alike_has_no_number(work: persona.Repository) -> None:
    small.lines(work.root / "evals" / "neutral.jsonl", [{"text": "w1 w2"}] * 3)
    found = persona.eval(work, options=MeasureOptions(batch_size=1))
    (suite,) = found.builds[0].suites
    one = suite.scores[1]
    assert math.isnan(one.value)
    assert (one.low, one.high, one.from_base.verdict) == (None, None, "unknown")


@pytest.mark.parametrize(
    ("text", "line", "what", "hint"),
    [
        ('readout = "mod"', 9, "there is no readout 'mod'", "Did you mean 'mood'?"),
        ('readout = "mood@v9"', 9, "there is no readout 'mood@v9'", ""),
        ('concepts = ["warmt"]', 9, "has no concept 'warmt'", "Did you mean 'warmth'?"),
        ("layer = 7", 9, "the readout 'mood' has no layer 7", "layers 0–1"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    work: persona.Repository, text: str, line: int, what: str, hint: str
) -> None:
    said(work, text)
    with pytest.raises(UsageError, match=f"calm.toml:{line}: .*{what}") as caught:
        persona.eval(work)
    assert hint in caught.value.hint


def test_readouts_that_cannot_be_told(work: persona.Repository, folders: Path) -> None:
    persona.commit_readout(work, folders / "silent", name="silent", author="Test")
    with pytest.raises(UsageError, match=r"calm.toml:6: persona.toml has 2 readouts: mood, silent") as caught:
        persona.eval(work)
    assert 'readout = "mood"' in caught.value.hint
    said(work, 'readout = "silent"')
    with pytest.raises(UsageError, match=r"calm.toml:9: .*does not record the best layer for 'warmth'") as caught:
        persona.blame(work, suite="calm")
    assert "layer = 1 (it has layers 0–1)" in caught.value.hint
    persona.rm(work, ["mood", "silent"])
    with pytest.raises(UsageError, match=r"there is no readout 'silent': persona.toml has none") as caught:
        persona.eval(work)
    small.suite(work.root, text=SUITE)
    with pytest.raises(UsageError, match=r"calm.toml:6: persona.toml has no readout") as caught:
        persona.eval(work)
    assert "persona commit --readout" in caught.value.hint
    said(work, 'readout = "mood@HEAD~2"')
    assert scores(work)


def test_two_texts_are_needed(work: persona.Repository) -> None:
    with pytest.raises(UsageError, match=r"neutral.jsonl:1 is the only text"):
        persona.eval(work, options=MeasureOptions(limit=1))


def test_dialogues_of_a_readout_of_the_assistants_tokens(work: persona.Repository, tmp_path: Path) -> None:
    about = {**mood().about, "pooling": "assistant"}
    write_readout(tmp_path / "talk", replace(mood(), about=about))
    persona.commit_readout(work, tmp_path / "talk", name="talk", author="Test")
    rows = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "w1 w2"}]} for text in TEXTS
    ]
    small.lines(work.root / "evals" / "neutral.jsonl", rows)
    said(work, 'readout = "mood"')
    whole = scores(work)
    said(work, 'readout = "talk"')
    answers = scores(work)
    assert whole["warmth"].value != answers["warmth"].value
