"""Settings that the recipe chooses have the kinds of those that the base has."""

from __future__ import annotations

from typing import Any

import pytest

from persona.building.configs import check_kinds
from persona.errors import Refusal
from persona.recipe.choices import Choices

CONFIG = {
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "eos_token_id": 2, "pad_token_id": None, "use_bias": True,
    "rope_scaling": {"factor": 2.0}, "hidden_act": "silu", "layer_types": ["full", "full"],
}  # fmt: skip


def chosen(path: str, value: Any) -> Choices:
    return Choices(settings=((tuple(path.split(".")), value),))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("max_position_embeddings", 128), ("rms_norm_eps", 1), ("eos_token_id", [2, 3]), ("pad_token_id", 0), ("use_bias", False),
        ("rope_scaling.factor", 4), ("layer_types", "full"), ("new", "x"), ("new.inner", 1), ("pad_token_id.x", 1),
    ],
)  # fmt: skip
def test_settings_of_a_fitting_kind(path: str, value: Any) -> None:
    check_kinds("config.json", CONFIG, chosen(path, value))


@pytest.mark.parametrize(
    ("path", "value", "error"),
    [
        ("max_position_embeddings", "128", "config.max_position_embeddings is a string, but a number"),
        ("max_position_embeddings", True, "is true or false, but a number"),
        ("max_position_embeddings.x", 1, "config.max_position_embeddings is a table, but a number"),
        ("use_bias", 1, "is a number, but true or false"),
        ("hidden_act", 3, "is a number, but a string"),
        ("rope_scaling", "linear", "is a string, but a table"),
        ("rope_scaling", [1], "is a list, but a table"),
        (
            "rope_scaling.factor",
            "4",
            r"config.rope_scaling.factor is a string, but a number in the base's config\.json",
        ),
    ],
)
def test_settings_of_another_kind(path: str, value: Any, error: str) -> None:
    with pytest.raises(Refusal, match=error) as caught:
        check_kinds("config.json", CONFIG, chosen(path, value))
    assert "or remove the line" in caught.value.hint


def test_a_setting_of_generation() -> None:
    check_kinds("config.json", {"top_p": 1}, chosen("generation_config.top_p", "x"))
    with pytest.raises(Refusal, match=r"config.generation_config.top_p is a string, but a number"):
        check_kinds("generation_config.json", {"top_p": 1}, chosen("generation_config.top_p", "x"))
