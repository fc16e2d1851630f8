"""Which texts have a concept and which have it not: small graphs by hand, and what holds for any."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona.errors import UsageError
from persona.readout.extract import ConceptOverlap, Extracted, Item, Rules, extract, without_tags
from persona.readout.pairs import LabelledText

ALL = Rules(min_content_chars=0, min_examples=1)


def items(texts: Mapping[str, str], **tags: Mapping[str, float | None]) -> list[Item]:
    return [Item(name, text, tags.get(name, {})) for name, text in texts.items()]


def sides(found: Extracted, concept: str) -> tuple[set[str | None], set[str | None]]:
    """The nodes of both sides."""
    own = [one for one in found.examples if one.concept == concept]
    return {one.node for one in own if one.positive}, {one.node for one in own if not one.positive}


def test_the_rules_on_a_small_graph() -> None:
    found = extract(
        items(
            {
                "high": "Bread.", "edge": "Tea.", "between": "Fog.", "low": "Cold soup, little warmth.", "none": "Rain.",
                "word": "She spoke of Warmth.", "tag": "Wool.", "part": "Lukewarmth and warmthless.", "other": "Wind.",
            },
            high={"warmth": 9}, edge={"warmth": 8}, between={"warmth": 5}, low={"warmth": 2}, tag={"warmth": None},
            other={"anger": 9},
        ),
        ALL,
        ["warmth"],
    )  # fmt: skip
    assert sides(found, "warmth") == ({"high", "edge"}, {"low", "none", "part", "other"})
    (one,) = found.concepts
    assert (one.positive, one.negative, one.between, one.mentioned, one.highest) == (2, 4, 1, 2, 9)
    assert (found.texts, found.short, found.copies) == (9, 0, 0)


def test_mentions_are_counted() -> None:
    texts = {"a": "Bread.", "b": "Warmth.", "c": "warmth, WARMTH", "d": "warmth:5 in its midst", "e": "none"}
    tags: dict[str, Mapping[str, float | None]] = {"a": {"warmth": 9}, "b": {"warmth": None}}
    for most, negative in ((0, {"e"}), (1, {"d", "e"}), (2, {"b", "c", "d", "e"})):
        rules = Rules(min_content_chars=0, min_examples=1, max_negative_mentions=most)
        assert sides(extract(items(texts, **tags), rules), "warmth")[1] == negative


@pytest.mark.parametrize(
    ("concept", "said", "unsaid"),
    [
        ("self-doubt", "Again my self doubt.", "My self has a doubt."),
        ("self_doubt", "SELF-DOUBT!", "doubt self"),
        ("don't", "I don't.", "I do."),
        ("落ち着き", "とても落ち着きがある。", "ゆっくり。"),
        ("café", "At the cafe\u0301.", "At the cafeteria."),
        ("überm\u00fct", "ÜBERMÜT tut gut.", "Mut tut gut."),
        ("c++", "All in C today.", "All in CC today."),
    ],
)
def test_a_word_is_a_word_in_any_writing(concept: str, said: str, unsaid: str) -> None:
    found = extract(items({"x": "Bread.", "said": said, "unsaid": unsaid}, x={concept: 9}), ALL)
    assert sides(found, found.concepts[0].concept) == ({"x"}, {"unsaid"})


def test_a_concept_is_one_in_upper_and_lower_case() -> None:
    found = extract(items({"a": "One.", "b": "Two.", "c": "Three."}, a={"Warmth": 9}, b={"warmth": 1}), ALL, ["WARMTH"])
    assert sides(found, "warmth") == ({"a"}, {"b", "c"})


def test_short_texts_are_counted_without_their_tags() -> None:
    rules = Rules(min_content_chars=10, min_examples=1)
    found = extract(items({"a": "x" * 10, "b": "x" * 9 + " a:9 a:9", "c": "y" * 10, "d": ""}, a={"a": 9}), rules)
    assert sides(found, "a") == ({"a"}, {"c"})
    assert found.short == 2


def test_an_empty_text_is_too_short_for_any_rule() -> None:
    assert extract([Item("a", " \n", {"a": 9})], ALL).short == 1


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("One.\n\nwarmth:9 calm:7\n\nTwo.", "One.\n\n\n\nTwo."),
        ("It was warmth:9 again, (calm:-3.5), #warmth:8.", "It was again, (),."),
        ("Warmth:9 at localhost:7777, chapter:4", "at localhost:7777, chapter:4"),
        ("warmth: 9, warmth:high, lukewarmth:9, warmth:9th", "warmth: 9, warmth:high, lukewarmth:9, warmth:9th"),
        ("warmth warmth:9:9", ""),
    ],
)
def test_tags_in_the_midst_are_cut_out(text: str, left: str) -> None:
    assert without_tags(["warmth", "calm"])(text) == left


def test_without_names_nothing_is_cut_out() -> None:
    assert without_tags([])("a:9 b:9") == "a:9 b:9"


def test_of_copies_one_is_left() -> None:
    texts = {"b": "Bread and butter.", "a": "bread  and\nButter.", "c": "Rain."}
    found = extract(items(texts, b={"warmth": 9}), ALL)
    assert sides(found, "warmth") == ({"a"}, {"c"}), "the first by name, with the scores of both"
    assert (found.texts, found.copies) == (2, 1)


@pytest.mark.parametrize(("other", "side"), [(9.5, "positive"), (None, "neither"), (5, "neither"), (1, "neither")])
def test_copies_that_disagree_are_on_no_side(other: float | None, side: str) -> None:
    texts = {"a": "Bread.", "b": "bread.", "c": "Tea.", "d": "Rain."}
    found = extract(items(texts, a={"w": 9}, b={"w": other}, c={"w": 9}), ALL)
    positive, negative = sides(found, "w")
    assert negative == {"d"}
    if other is None:  # a tag without a score says nothing against one that has it
        assert positive == {"a", "c"}
    else:
        assert positive == ({"a", "c"} if side == "positive" else {"c"})


def test_too_little_data_is_told_and_not_written() -> None:
    texts = {f"t{n}": f"Text {n}." for n in range(10)}
    tags = {f"t{n}": {"rare": 9.0, "many": 9.0 if n < 2 else 0.0} for n in range(3)}
    found = extract(items(texts, **tags), Rules(min_content_chars=0, min_examples=3))
    many, rare = found.concepts
    assert (rare.ok, rare.positive, rare.positive_found, rare.negative_found) == (True, 3, 3, 7)
    assert (many.ok, many.positive, many.positive_found, many.negative_found) == (False, 0, 2, 8)
    assert {one.concept for one in found.examples} == {"rare"}


def test_a_tag_without_a_score_is_no_concept() -> None:
    found = extract(items({"a": "One.", "b": "Two."}, a={"core": None, "warmth": 9}), ALL)
    assert [one.concept for one in found.concepts] == ["warmth"]
    with pytest.raises(UsageError, match="no text has a score for 'core'"):
        extract(items({"a": "One."}, a={"core": None}), ALL, ["core"])


def test_an_unknown_concept_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(UsageError) as error:
        extract(items({"a": "One."}, a={"warmth": 9}), ALL, ["warmht"])
    assert error.value.hint == "Did you mean 'warmth'?"


def test_overlaps() -> None:
    texts = {f"t{n}": f"Text {n}." for n in range(9)}
    tags = {f"t{n}": {"a": 9.0, **({"b": 9.0} if n < 2 else {}), **({"c": 9.0} if n >= 3 else {})} for n in range(5)}
    tags["t5"] = {"b": 9.0, "c": 1.0}
    found = extract(items(texts, **tags), ALL)
    assert found.overlaps == (ConceptOverlap("a", "c", 2, 1.0), ConceptOverlap("a", "b", 2, 2 / 3))


def test_by_hand() -> None:
    own = [
        LabelledText("joy", True, "It is joy.", pair=1), LabelledText("joy", False, "It is grief.", pair=1),
        LabelledText("warmth", True, "Bread."), LabelledText("warmth", False, "TEA."),
    ]  # fmt: skip
    graph = items(
        {"a": "bread.", "b": "Tea.", "c": "Wool.", "d": "Rain."}, a={"warmth": 1}, b={"warmth": 9}, c={"warmth": 9}
    )
    found = extract(graph, ALL, by_hand=own)
    joy, warmth = found.concepts
    assert (joy.positive, joy.negative, joy.by_hand, joy.positive_found) == (1, 1, 2, 0)
    assert (warmth.positive, warmth.negative, warmth.by_hand) == (2, 2, 2), "what was written by hand goes before"
    assert [one.text for one in found.examples if one.concept == "warmth"] == ["Wool.", "Rain.", "Bread.", "TEA."]
    assert not extract([], ALL, by_hand=own[:1]).examples, "of one side alone it teaches nothing"


RULES = {
    "sides that meet": Rules(min_positive_score=5, max_negative_score=5),
    "no number": Rules(min_positive_score=math.nan),
    "fewer than none": Rules(max_negative_mentions=-1),
    "at least none": Rules(min_examples=0),
    "least above most": Rules(min_examples=9, max_examples=8),
}


@pytest.mark.parametrize("what", RULES)
def test_rules_that_cannot_be_meant(what: str) -> None:
    with pytest.raises(UsageError):
        extract([], RULES[what])


NAMES = ("warmth", "calm", "self-doubt", "grit")
words = st.sampled_from(["bread", "Warmth", "calm", "self doubt", "rain", "calm:4", "warmth:9", ":9", "grit:8.5", "\n"])
scores = st.sampled_from([0, 1, 2, 2.5, 5, 8, 9, 10, None])
graphs = st.lists(
    st.builds(
        Item,
        st.uuids().map(str),
        st.lists(words, max_size=6).map(" ".join),
        st.dictionaries(st.sampled_from(NAMES), scores, max_size=3),
    ),
    max_size=24,
)
rules = st.builds(
    Rules, min_content_chars=st.integers(0, 12), max_negative_mentions=st.integers(0, 2), min_examples=st.just(1),
    max_examples=st.integers(1, 6), seed=st.integers(0, 3),
)  # fmt: skip


@given(graph=graphs, rules=rules)
def test_what_holds_for_any_graph(graph: list[Item], rules: Rules) -> None:
    found = extract(graph, rules)
    for one in found.concepts:
        own = [example for example in found.examples if example.concept == one.concept]
        texts = [" ".join(example.text.lower().split()) for example in own]
        assert len(set(texts)) == len(texts), "no text twice, and none on both sides"
        for positive, number, there in (
            (True, one.positive, one.positive_found), (False, one.negative, one.negative_found)
        ):  # fmt: skip
            assert number == sum(example.positive == positive for example in own)
            assert number == (min(rules.max_examples, there) if one.ok else 0)
    tagged = {name for item in graph for name in item.tags}
    for example in found.examples:
        assert len(example.text) >= max(1, rules.min_content_chars)
        assert not {name for name in tagged if re.search(rf"(?<![\w'-]){name}:-?\d", example.text, re.IGNORECASE)}
    assert found.texts + found.short + found.copies == len(graph)


@given(graph=graphs, rules=rules, order=st.randoms(use_true_random=False))
def test_the_order_of_the_graph_says_nothing(graph: list[Item], rules: Rules, order: Random) -> None:
    before = extract(graph, rules)
    order.shuffle(graph)
    assert extract(graph, rules) == before


def many(number: int) -> list[Item]:
    return [Item(f"n{n}", f"Text number {n}.", {"w": 9 if n % 2 else 1}) for n in range(number)]


@given(at=st.integers(100, 10_000), seed=st.integers(0, 5), high=st.booleans())
def test_a_new_node_takes_the_place_of_one_other_at_most(at: int, seed: int, high: bool) -> None:
    rules = Rules(min_content_chars=0, max_examples=20, seed=seed)
    new = Item("new", f"Text number {at}.", {"w": 9 if high else 1})
    before, after = ({*extract(graph, rules).examples} for graph in (many(100), [*many(100), new]))
    assert len(before - after) == len(after - before) <= 1


def test_the_seed_decides_which_are_chosen() -> None:
    chosen = [
        sides(extract(many(100), Rules(min_content_chars=0, max_examples=10, seed=seed)), "w") for seed in (0, 1, 0)
    ]
    assert chosen[0] == chosen[2] != chosen[1]
    assert all(len(side) == 10 for both in chosen for side in both)


def test_concepts_share_their_negatives() -> None:
    """Their activations are then needed once."""
    graph = [Item(f"n{n}", f"Text number {n}.", {f"c{n % 20}": 9.0} if n < 200 else {}) for n in range(1000)]
    found = extract(graph, Rules(min_content_chars=0, max_examples=50, min_examples=8))
    assert len({one.text for one in found.examples if not one.positive}) < 100
