"""Hand-written contrasts in each of their forms, and every mistake with its file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona.errors import UsageError
from persona.readout.contrast import Contrasts, read_contrasts
from persona.readout.pairs import LabelledText

SEED = {
    "Statement: Today was a good day.": 1.0,
    "Statement: Today was a bad day.": -1.0,
    "His outlook is positive.": 1.0,
    "His outlook is negative.": -1.0,
    "The feeling is joy.": 1.0,
    "The feeling is sadness.": -1.0,
}
"""The statements that the notes on steering begin with."""


def lines(*rows: object) -> str:
    return "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)


def read(folder: Path, text: str, concept: str | None = None, name: str = "c.jsonl") -> Contrasts:
    (folder / name).write_text(text)
    return read_contrasts([folder / name], concept)


def row(text: str, label: object, concept: str = "joy") -> dict[str, object]:
    return {"concept": concept, "text": text, "label": label}


SIX = [LabelledText("joy", label > 0, text, pair=number // 2 + 1) for number, (text, label) in enumerate(SEED.items())]


@pytest.mark.parametrize("indent", [None, 0, 2])
def test_a_table_of_statements(tmp_path: Path, indent: int | None) -> None:
    assert read(tmp_path, json.dumps(SEED, indent=indent), "joy", "c.json").examples == tuple(SIX)
    assert read(tmp_path, json.dumps({"Joy": SEED}, indent=indent), None, "c.JSON").examples == tuple(SIX)


def test_labelled_lines(tmp_path: Path) -> None:
    assert read(tmp_path, lines(*(row(text, label) for text, label in SEED.items()))).examples == tuple(SIX)
    without = lines(*({"text": text, "label": label} for text, label in SEED.items()))
    assert read(tmp_path, without, "joy").examples == tuple(SIX)


def test_pairs(tmp_path: Path) -> None:
    texts = list(SEED)
    rows = [{"concept": "joy", "positive": texts[n], "negative": texts[n + 1]} for n in (0, 2, 4)]
    assert read(tmp_path, lines(*rows)).examples == tuple(SIX)


def test_statements_that_do_not_take_turns_are_no_pairs(tmp_path: Path) -> None:
    found = read(tmp_path, lines(row("a", 1), row("b", 1), row("c", -1), row("x", 1, "ease"), row("y", -1, "ease")))
    assert [(one.text, one.positive, one.pair) for one in found.examples] == [
        ("a", True, None), ("b", True, None), ("c", False, None), ("x", True, 1), ("y", False, 1),
    ]  # fmt: skip


def test_either_side_may_come_first_in_a_pair(tmp_path: Path) -> None:
    found = read(tmp_path, lines(row("a", 1), row("b", -1), row("c", -1), row("d", 1)))
    assert [(one.text, one.pair) for one in found.examples] == [("a", 1), ("b", 1), ("c", 2), ("d", 2)]


def test_of_five_labels_the_first_and_the_last_count(tmp_path: Path) -> None:
    found = read(tmp_path, lines(*(row(f"text {label}", label) for label in (1, 2, 3.0, 4, 5, 5))))
    assert [(one.text, one.positive) for one in found.examples] == [
        ("text 1", False),
        ("text 5", True),
        ("text 5", True),
    ]
    assert found.left_out == 3


def test_several_files_are_numbered_through(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines({"concept": "joy", "positive": "a", "negative": "b"}))
    (tmp_path / "b.jsonl").write_text(lines(row("c", 5), row("d", 1), row("e", 3)))
    found = read_contrasts([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    assert [(one.text, one.pair) for one in found.examples] == [("a", 1), ("b", 1), ("c", 2), ("d", 2)]
    assert found.left_out == 1


def test_blank_lines_ends_of_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = "\ufeff" + lines(row(" a ", 1), "", row("b", -1)).replace("\n", "\r\n")
    assert [one.text for one in read(tmp_path, text).examples] == ["a", "b"]


BOTH = lines(row("good", 1), row("bad", -1))
WRONG = {
    "not JSON": (BOTH + "{", 3, "is not JSON"),
    "deep": (BOTH + "[" * 100_000, 3, "is not JSON"),
    "a list": (BOTH + "[1]", 3, "is not a JSON object"),
    "neither label nor sides": (BOTH + lines({"concept": "joy", "text": "x"}), 3, "missing 'label'"),
    "one side": (BOTH + lines({"concept": "joy", "positive": "x"}), 3, "'negative' is missing"),
    "an empty side": (BOTH + lines({"concept": "joy", "positive": "x", "negative": " "}), 3, "'negative' is empty"),
    "no text": (BOTH + lines({"concept": "joy", "label": 1}), 3, "'text' is missing"),
    "a number": (BOTH + lines(row(5, 1)), 3, "'text' is not a string"),  # type: ignore[arg-type]
    "half of a character": (BOTH + lines(row("\ud83d", 1)), 3, r"\ud83d alone"),
    "no concept": (BOTH + lines({"text": "x", "label": 1}), 3, "does not name a concept"),
    "a concept that is none": (BOTH + lines(row("x", 1, 5)), 3, "'concept' is 5"),  # type: ignore[arg-type]
    "label 0": (BOTH + lines(row("x", 0)), 3, "invalid label 0"),
    "label 6": (BOTH + lines(row("x", 6)), 3, "invalid label 6"),
    "label 2.5": (BOTH + lines(row("x", 2.5)), 3, "invalid label 2.5"),
    "label NaN": (BOTH + '{"concept": "joy", "text": "x", "label": NaN}', 3, "invalid label NaN"),
    "a truth": (BOTH + lines(row("x", True)), 3, "invalid label true"),
    "a word": (BOTH + lines(row("x", "1")), 3, 'invalid label "1"'),
    "both kinds of labels": (BOTH + lines(row("x", 4)), 3, "c.jsonl:2 has -1"),
    "only ones": (lines("", row("x", 1), row("y", 1)), 2, "every label is 1"),
    "both sides": (BOTH + lines(row("Good", -1)), 3, "the other is in {file}:1"),
    "the same twice": (lines({"concept": "joy", "positive": "x", "negative": "X "}), 1, "the other is in {file}:1"),
    "one side alone": (BOTH + lines(row("x", -1, "ease")), 3, "'ease' has no positive statement"),
    "the other alone": (BOTH + lines(row("x", 1, "ease")), 3, "'ease' has no negative statement"),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_error_names_file_and_line(tmp_path: Path, what: str) -> None:
    text, line, said = WRONG[what]
    with pytest.raises(UsageError) as error:
        read(tmp_path, text)
    assert error.value.message.startswith(f"{tmp_path / 'c.jsonl'}:{line}")
    assert said.format(file=tmp_path / "c.jsonl") in error.value.message
    assert error.value.hint


WRONG_TABLES = {
    "not JSON": ('{\n"a": 1,\n"b" -1}', 3, "is not JSON: Expecting ':'"),
    "a comma too many": ('{\n"a": 1,\n"b": -1,\n}', 4, "is not JSON"),
    "a list": ("[]", 1, "is not a JSON object"),
    "an empty statement": ('{\n"a": 1,\n" ": -1}', 3, "'a statement' is empty"),
    "a label": ('{\n"a": 1,\n\n"b": "no"}', 4, 'invalid label "no"'),
    "said twice": ('{\n"a": 1,\n"b": -1,\n"a": -1}', 4, "c.json:2"),
    "a label in a table of tables": (
        '{"joy": {"a": 1,\n"b": -1},\n"ease": {"c": 1,\n"d": null}}',
        4,
        "invalid label null",
    ),
    "too deep": ('{"joy": {"a": 1, "b": -1,\n"c": {"d": 1}}}', 2, 'invalid label {"d": 1}'),
}


@pytest.mark.parametrize("what", WRONG_TABLES)
def test_an_error_in_a_table_names_its_line(tmp_path: Path, what: str) -> None:
    text, line, said = WRONG_TABLES[what]
    with pytest.raises(UsageError) as error:
        read(tmp_path, text, "joy", "c.json")
    assert error.value.message.startswith(f"{tmp_path / 'c.json'}:{line}")
    assert said in error.value.message


def test_a_table_needs_a_concept(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not name a concept") as error:
        read(tmp_path, json.dumps(SEED), None, "c.json")
    assert error.value.hint == "Give it with exactly one --concept NAME."


def test_a_table_that_nests_for_ever(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not JSON"):
        read(tmp_path, '{"a":' * 100_000, "joy", "c.json")


def test_what_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(BOTH.encode() + b"\xff")
    with pytest.raises(UsageError, match=r"c\.jsonl:3 is not UTF-8"):
        read_contrasts([tmp_path / "c.jsonl"])


statements = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: bool(text.strip()))
blanks = st.text(" \t\r\n", max_size=3)


@given(
    table=st.dictionaries(statements, st.sampled_from([-1, 1]), min_size=1, max_size=6),
    ascii_=st.booleans(),
    gap=blanks,
)
def test_a_table_is_the_same_as_its_lines(
    tmp_path_factory: pytest.TempPathFactory, table: dict[str, int], ascii_: bool, gap: str
) -> None:
    folder = tmp_path_factory.mktemp("contrast")
    members = f"{gap},{gap}".join(
        f"{json.dumps(key, ensure_ascii=ascii_)}{gap}:{gap}{value}" for key, value in table.items()
    )
    found = []
    for name, text in (
        ("c.json", f"{gap}{{{gap}{members}{gap}}}{gap}"),
        ("c.jsonl", lines(*(row(text, label) for text, label in table.items()))),
    ):
        try:
            found.append(str(read(folder, text, "joy", name)))
        except UsageError as error:  # all labels alike, or one statement on both sides but for its case
            found.append(error.hint)
    assert found[0] == found[1]
