"""Which texts are held out: a fifth of each side, the same for every concept, pairs together, whatever the order."""

from __future__ import annotations

import pytest

from persona.errors import UsageError
from persona.readout.labels import Labels, labels_of
from persona.readout.pairs import LabelledText
from persona.readout.split import folds, held_out


def labels(concept: str, positive: int, negative: int, *, paired: bool = False, shared: str = "") -> Labels:
    ours = tuple(sorted(f"{concept} + {number}" for number in range(positive)))
    theirs = tuple(sorted(f"{shared or concept} - {number}" for number in range(negative)))
    return Labels(concept, ours, theirs, tuple(zip(ours, theirs, strict=False)) if paired else ())


def counts(one: Labels, held: frozenset[str]) -> tuple[int, int]:
    return len(held & {*one.positive}), len(held & {*one.negative})


@pytest.mark.parametrize(
    ("sides", "wanted"),
    [((5, 5), (1, 1)), ((4, 4), (0, 0)), ((9, 50), (1, 10)), ((100, 11), (20, 2)), ((4, 100), (0, 20))],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_fifth_of_each_side_is_held_out(sides: tuple[int, int], wanted: tuple[int, int], seed: int) -> None:
    one = labels("joy", *sides)
    assert counts(one, held_out([one], seed)) == wanted


def test_pairs_stay_together() -> None:
    one = labels("joy", 40, 40, paired=True)
    held = held_out([one])
    assert counts(one, held) == (8, 8)
    assert all((a in held) == (b in held) for a, b in one.pairs)
    number = folds(one)
    assert all(number[a] == number[b] for a, b in one.pairs)
    assert sorted(number.values()) == sorted([*range(5)] * 16)


def test_concepts_that_share_texts_hold_out_the_same_ones() -> None:
    every = [labels(f"c{number}", 20, 60, shared="rest") for number in range(6)]
    held = held_out(every)
    assert [counts(one, held) for one in every] == [(4, 12)] * 6
    # of which one with few texts takes nothing away
    assert [counts(one, held_out([*every, labels("rare", 3, 60, shared="rest")])) for one in every] == [(4, 12)] * 6


def test_the_seed_decides_and_the_order_does_not() -> None:
    every = [labels("joy", 30, 30), labels("fear", 25, 40)]
    assert held_out(every) == held_out(every[::-1])
    assert held_out(every, 0) != held_out(every, 1)


def test_one_more_text_moves_few_others() -> None:
    before, after = held_out([labels("joy", 100, 100)]), held_out([labels("joy", 101, 100)])
    assert len(before ^ after) <= 2


def test_folds_have_both_sides() -> None:
    one = labels("joy", 3, 40)
    number = folds(one)
    assert {number[text] for text in one.positive} == {number[text] for text in one.negative} == {0, 1, 2}


def lines(*said: tuple[str, bool, str, int | None]) -> list[LabelledText]:
    return [LabelledText(concept, positive, text, pair=pair) for concept, positive, text, pair in said]


def test_labels_are_sorted_and_said_once() -> None:
    found = labels_of(
        lines(("joy", True, "b", 2), ("joy", True, "a", 1), ("joy", False, "d", 1), ("joy", False, "c", 2), ("joy", True, "a", 1))
    )  # fmt: skip
    assert found == (Labels("joy", ("a", "b"), ("c", "d"), (("a", "d"), ("b", "c"))),)


@pytest.mark.parametrize(
    ("examples", "concepts", "words"),
    [
        ([], (), "has no examples"),
        (lines(("joy", True, "a", None)), (), "no negative texts of 'joy'"),
        (lines(("joy", False, "a", None)), (), "no positive texts of 'joy'"),
        (lines(("joy", True, " \n", None), ("joy", False, "a", None)), (), "a text of 'joy' is empty"),
        (
            lines(("joy", True, "a", None), ("joy", False, "a", None)),
            (),
            "both a positive and a negative of 'joy': 'a'",
        ),
        (lines(("joy", True, "a", None), ("joy", False, "b", None)), ("jay",), "no concept 'jay'"),
    ],
)
def test_what_cannot_be_learnt_from(examples: list[LabelledText], concepts: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        labels_of(examples, concepts)


def test_a_concept_that_is_not_asked_for_may_lack_a_side() -> None:
    both = lines(("joy", True, "a", None), ("joy", False, "b", None), ("fear", True, "c", None))
    assert [one.concept for one in labels_of(both, ["joy"])] == ["joy"]
