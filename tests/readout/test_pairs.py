"""The file of labelled texts: what is written is read, and what is wrong is named with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import persona
from persona.errors import Storage, UsageError
from persona.readout.pairs import LabelledText, read_pairs, write_pairs

WHOLE = '{"concept": "warmth", "polarity": "positive", "text": "Bread."}'

texts = st.text(st.characters(exclude_categories=["Cs"]))
names = texts.map(str.strip).filter(bool)
examples = st.lists(
    st.builds(
        LabelledText,
        names,
        st.booleans(),
        texts,
        node=st.none() | texts,
        pair=st.none() | st.integers(-(1 << 63), 1 << 63),
    )
)


@given(found=examples)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, found: list[LabelledText]) -> None:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    write_pairs(path, found)
    assert read_pairs(path) == tuple(found)
    write_pairs(path, read_pairs(str(path)))
    assert read_pairs(path) == tuple(found)


def test_a_line_is_what_the_page_says(tmp_path: Path) -> None:
    write_pairs(
        tmp_path / "p",
        [LabelledText("warmth", True, "Ünder one roof.", "home", 3), LabelledText("warmth", False, "No.")],
    )
    assert (tmp_path / "p").read_text() == (
        '{"concept": "warmth", "polarity": "positive", "text": "Ünder one roof.", "node": "home", "pair": 3}\n'
        '{"concept": "warmth", "polarity": "negative", "text": "No."}\n'
    )


def test_lines_from_elsewhere(tmp_path: Path) -> None:
    """A byte order mark, blank lines, ends of lines from Windows, fields that say nothing here, no end at the end."""
    lines = ["\ufeff" + WHOLE, "", "  ", WHOLE.replace('"text"', '"source": 1, "text"'), WHOLE]
    (tmp_path / "p").write_bytes("\r\n".join(lines).encode())
    assert read_pairs(tmp_path / "p") == (LabelledText("warmth", True, "Bread."),) * 3


def test_an_empty_file_has_no_examples(tmp_path: Path) -> None:
    (tmp_path / "p").touch()
    assert read_pairs(tmp_path / "p") == ()


WRONG = {
    "not JSON": ("{", "is not JSON"),
    "deep": ("[" * 100_000, "is not JSON"),
    "a list": ("[]", "is not a JSON object"),
    "no concept": ('{"polarity": "positive", "text": "x"}', "'concept' and 'text' must be strings"),
    "a blank concept": (WHOLE.replace('"warmth"', '" "'), "'concept' and 'text' must be strings"),
    "no text": ('{"concept": "warmth", "polarity": "positive"}', "'concept' and 'text' must be strings"),
    "a number for a text": (WHOLE.replace('"Bread."', "7"), "'concept' and 'text' must be strings"),
    "half of a character": (WHOLE.replace("Bread.", "\\ud83d"), r"\ud83d alone"),
    "no polarity": ('{"concept": "warmth", "text": "x"}', "'polarity' is None"),
    "another polarity": (WHOLE.replace("positive", "neutral"), "'polarity' is 'neutral'"),
    "a number for a node": (WHOLE.replace("}", ', "node": 3}'), "'node' must be a string and 'pair' an integer"),
    "a text for a pair": (WHOLE.replace("}", ', "pair": "3"}'), "'node' must be a string and 'pair' an integer"),
    "a truth for a pair": (WHOLE.replace("}", ', "pair": true}'), "'node' must be a string and 'pair' an integer"),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_error_names_the_line(tmp_path: Path, what: str) -> None:
    line, said = WRONG[what]
    (tmp_path / "p.jsonl").write_text(f"{WHOLE}\n\n{line}\n{WHOLE}\n")
    with pytest.raises(UsageError) as error:
        read_pairs(tmp_path / "p.jsonl")
    assert error.value.message.startswith(f"{tmp_path / 'p.jsonl'}:3")
    assert said in error.value.message
    assert error.value.hint


def test_what_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(WHOLE.encode() + b'\n{"concept": "w\xff"}')
    with pytest.raises(UsageError, match=r"p:2 is not UTF-8"):
        read_pairs(tmp_path / "p")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Storage, match="nowhere: no such file"):
        read_pairs(tmp_path / "nowhere")


def test_the_package_offers_it() -> None:
    assert persona.readout.read_pairs is read_pairs
    assert persona.readout.LabelledText is LabelledText
    assert {*persona.readout.__all__} <= {*dir(persona.readout)}
    for name in persona.readout.__all__:
        assert getattr(persona.readout, name).__doc__
    with pytest.raises(AttributeError, match=r"'persona.readout' has no attribute 'read_pears'"):
        _ = persona.readout.read_pears
    assert json.loads(LabelledText("a", True, "b").encode()) == {"concept": "a", "polarity": "positive", "text": "b"}
