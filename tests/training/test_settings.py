"""Presets and what overrides them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona.errors import UsageError
from persona.training.settings import (
    CHOICES,
    KEYS,
    RANGES,
    Settings,
    checked,
    default_settings,
    parse_changes,
    presets,
    read_settings,
)


def test_the_presets_are_there_and_can_be_read() -> None:
    assert presets() == ("default", "limbic")
    for name in presets():
        assert isinstance(read_settings(name), Settings)


def test_the_guide_and_the_help_name_every_setting() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text()
    table = guide[guide.index("#### Settings of a run") :].partition("### ")[2].partition("\n### ")[0]
    assert all(f"`{key}`" in table for key in KEYS)
    assert [part.partition("=")[0] for part in default_settings().split(", ")] == list(KEYS)
    assert "anchor_share=0.5" in default_settings()
    assert read_settings("limbic").anchor_share == 0


def test_limbic_is_as_its_document_says() -> None:
    found = read_settings("limbic")
    assert (found.rank, found.alpha, found.loss, found.method) == (64, 128, "all", "lora")
    assert found.targets == ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert (found.learning_rate, found.final_learning_rate, found.schedule) == (1e-4, 5e-5, "cosine")
    assert (found.warmup_steps, 1 <= found.epochs <= 3) == (100, True)


def test_changes_override_the_preset() -> None:
    changes = parse_changes(["learning_rate=1e-3", "targets=q_proj,v_proj", "method=full", 'schedule="linear"'])
    found = read_settings("default", changes)
    assert (found.learning_rate, found.targets, found.method) == (1e-3, ("q_proj", "v_proj"), "full")
    assert (found.schedule, found.rank) == ("linear", 16)


def test_a_preset_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("rank = 4\nepochs = 1\n")
    found = read_settings(tmp_path / "mine.toml")
    assert (found.rank, found.epochs) == (4, 1.0)


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("rnak = 4", "mine.toml:1: rnak: unknown key", "Did you mean 'rank'?"),
        ('method = "lroa"', "mine.toml:1: method: 'lroa' is not one of", "Did you mean 'lora'?"),
        ("rank = 1.5", "rank: 1.5 is not a whole number from 1 to 4096", "a whole number"),
        ("rank = true", "rank: True is not a whole number", "a whole number"),
        ("learning_rate = nan", "learning_rate: nan is not a number from 0 to 1000", "a number"),
        ("targets = []", "targets: [] names no modules", "all-linear"),
        ("rank = ", "mine.toml", "TOML"),
    ],
)
def test_what_is_wrong_in_a_preset_is_said(tmp_path: Path, text: str, said: str, hint: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        read_settings(tmp_path / "mine.toml")
    assert said in caught.value.message
    assert "mine.toml" in caught.value.message
    assert hint in caught.value.hint


def test_unknown_presets_and_odd_changes() -> None:
    with pytest.raises(UsageError, match="no preset 'limbik'") as caught:
        read_settings("limbik")
    assert "Did you mean 'limbic'?" in caught.value.hint
    with pytest.raises(UsageError, match="is not KEY=VALUE"):
        parse_changes(["rank"])
    with pytest.raises(UsageError, match="is above learning_rate"):
        read_settings("default", {"learning_rate": 1e-6})


@given(st.sampled_from(KEYS), st.one_of(st.floats(), st.integers(), st.text(max_size=8), st.booleans(), st.none()))
def test_a_value_is_in_its_range_or_an_error(key: str, value: object) -> None:
    try:
        found = checked(key, value, "here")
    except UsageError:
        return
    if key in RANGES:
        assert RANGES[key][0] <= found <= RANGES[key][1]
    elif key in CHOICES:
        assert found in CHOICES[key]


def test_every_setting_has_a_range_or_a_choice() -> None:
    assert {*RANGES, *CHOICES, "targets"} == set(KEYS)
