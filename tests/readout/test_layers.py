"""Which layers a text means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona.errors import UsageError
from persona.readout.layers import check_layers, parse_indices, parse_layers


@pytest.mark.parametrize(
    ("text", "blocks", "layers"),
    [
        ("3,18,33,36", 40, (3, 18, 33, 36)),
        (" 7 , 2", 8, (2, 7)),
        ("14-18", 40, (14, 15, 16, 17, 18)),
        ("2,1-3,2", 8, (1, 2, 3)),
        ("9", 4, (9,)),  # it is the model that says no
        ("0.6-0.8", 10, (5, 6, 7)),  # layers 5, 6, 7 of 10 have the depths 0.6, 0.7, 0.8
        ("0.6-0.8", 36, tuple(range(21, 28))),  # 22/36 = 0.61 … 28/36 = 0.78
        ("0.6-0.8", 35, tuple(range(20, 28))),  # 21/35 is 0.6 exactly, 28/35 is 0.8
        ("0.6-0.8", 2, (0,)),  # 0.5 and 1.0: nearest to 0.7 is 0.5
        ("0.6-0.8", 1, (0,)),
        ("1.0", 12, (11,)),
        ("0.5", 12, (5,)),
        (".25,0.9-1.0", 8, (1, 7)),
        ("auto", 3, (0, 1, 2)),
    ],
)
def test_layers(text: str, blocks: int, layers: tuple[int, ...]) -> None:
    check_layers(text)
    assert parse_layers(text, blocks) == layers


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a layer"),
        ("3,,4", "is not a layer"),
        ("-1", "is not a layer"),
        ("all", "is not a layer"),
        ("1e3", "is not a layer"),
        ("5-2", "is reversed"),
        ("0.8-0.6", "is reversed"),
        ("0.2-7", "mixes an index and a depth"),
        ("0.0", "above 0 and at most 1"),
        ("1.5", "above 0 and at most 1"),
        ("1-999999999", "no model has"),
    ],
)
def test_what_is_no_layer(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_layers(text)


def test_indices_need_no_model() -> None:
    assert parse_indices("3,5-8, 5") == (3, 5, 6, 7, 8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a layer"),
        ("1,,2", "is not a layer"),
        ("-1", "is not a layer"),
        ("auto", "is not a layer"),
        ("8-5", "is reversed"),
        ("0.6-0.8", "is a depth"),
        ("2,0.7", "'0.7' is a depth"),
        ("1-9999999999", "no model has"),
    ],
)
def test_what_is_no_index(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_indices(text)


@given(st.integers(1, 200), st.integers(1, 100), st.integers(1, 100))
def test_depths_always_find_a_layer_of_the_model(blocks: int, one: int, other: int) -> None:
    low, high = sorted((one, other))
    found = parse_layers(f"{low / 100:.2f}-{high / 100:.2f}", blocks)
    assert found
    assert 0 <= found[0] <= found[-1] < blocks
