"""What of a node's file is its specification, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona.errors import UsageError
from persona.graph.text import Parsed, normalised, one_line, parse, section, sections, slug, tags_of
from persona.store.graphs import checked_name, split_reference

NODE = """\
---
id: calm
tags: [pattern, "warmth:3"]
links:
  - "[[other|the other]]"
  - third
mood: blue
---
# Calm

Slowly. See [[rushing-pattern#how|this]], [[other]].

warmth:9 clarity:10

patience:7.5
"""


def test_a_node_taken_apart() -> None:
    assert parse(NODE) == Parsed(
        text="# Calm\n\nSlowly. See [[rushing-pattern#how|this]], [[other]].",
        tags={"pattern": None, "warmth": 9, "clarity": 10, "patience": 7.5},
        links=("other", "third", "rushing-pattern"),
        name="calm",
    )


@pytest.mark.parametrize(
    "same",
    [
        NODE.replace("\n", "\r\n"),
        NODE.replace("\n", "  \n"),
        "\ufeff" + NODE,
        NODE + "\n\n\n",
        NODE.replace("warmth:9 clarity:10", "warmth:2 clarity:1 anger:3"),
        NODE.replace("mood: blue\n", ""),
        NODE.replace("\n\nwarmth:9 clarity:10\n\npatience:7.5", ""),
    ],
)
def test_what_is_not_the_specification(same: str) -> None:
    assert parse(same).text == parse(NODE).text


@pytest.mark.parametrize("other", [NODE.replace("Slowly", "slowly"), NODE.replace("# Calm", "## Calm")])
def test_what_is_the_specification(other: str) -> None:
    assert parse(other).text != parse(NODE).text


@pytest.mark.parametrize(
    "text", ["Meet at 10:30", "warmth:9 and more", "http://a/b:1", "a: 1", "warmth:ten", "x:12345678"]
)
def test_a_last_line_that_is_prose_stays(text: str) -> None:
    assert parse(f"One.\n\n{text}") == Parsed(f"One.\n\n{text}")


def test_a_rule_at_the_top_is_no_front_matter() -> None:
    assert parse("---\nOne.").text == "---\nOne."
    assert parse("---\nid: a\n---").name == "a"


def test_tags_in_every_form() -> None:
    assert tags_of({"warmth": 9, "odd": "x", "nan": float("nan"), "huge": 10**400}) == {
        "warmth": 9, "odd": None, "nan": None, "huge": None
    }  # fmt: skip
    assert tags_of(["#a", "b:2", "", 3]) == {"a": None, "b": 2, "3": None}
    assert tags_of("a, b:2 c") == {"a": None, "b": 2, "c": None}
    assert tags_of(7) == tags_of(None) == {}


PAGE = """\
# Core

Before.

## The Voice!

Plain.

### In writing

Short.

```sh
# not a heading
```

## Boundaries ##

No.

# End"""


def test_sections() -> None:
    assert sections(PAGE) == ["core", "the-voice", "in-writing", "boundaries", "end"]
    assert section(PAGE, "boundaries") == "## Boundaries ##\n\nNo."
    assert (section(PAGE, "the-voice") or "").endswith("# not a heading\n```")
    assert section(PAGE, "The Voice") == section(PAGE, "the-voice")
    assert section(PAGE, "in-writing") == "### In writing\n\nShort.\n\n```sh\n# not a heading\n```"
    assert (section(PAGE, "core") or "").startswith("# Core")
    assert "# End" not in (section(PAGE, "core") or "")
    assert section(PAGE, "not a heading") is None
    assert slug("Ünïcode & Co.") == "ünïcode-co"


def test_references() -> None:
    assert split_reference("core-personality") == ("core-personality", None)
    assert split_reference(" core # Voice ") == ("core", "Voice")
    assert split_reference("cafe\u0301")[0] == "caf\u00e9", "as file systems and keyboards may differ"


@pytest.mark.parametrize("name", ["a", "Übermut", "落ち着き", "with space", "a/b", "..", "👩‍🚀", "x" * 200])
def test_names_that_will_do(name: str) -> None:
    assert checked_name(name, "here") == name


@pytest.mark.parametrize(
    "name", ["", " ", " a", "a\n", "a\x1b[31mb", "a#b", "x" * 201, "\u202eevil", "a\u2028b", "\ud800"]
)
def test_names_that_will_not(name: str) -> None:
    with pytest.raises(UsageError, match=r"here: .* is not a valid name for a node") as error:
        checked_name(name, "here")
    assert error.value.message.isascii()


@given(st.text(st.characters(codec=None), max_size=200))
def test_any_text_becomes_one_that_can_be_kept_and_shown(text: str) -> None:
    parsed = parse(text)
    assert normalised(parsed.text) == parsed.text
    assert normalised(normalised(text)) == normalised(text)
    parsed.text.encode()
    assert not [sign for sign in parsed.text if sign not in "\n\t" and ord(sign) < 32]
    for name in (*parsed.tags, *parsed.links, one_line(text)):
        name.encode()
        assert "\n" not in name


def test_no_text_takes_long() -> None:
    for evil in (
        "# " + "#" * 300_000 + "x",
        "a:1 " * 80_000 + "!",
        "[[" * 200_000,
        "[" * 300_000,
        "-" * 400_000,
        "\n" * 300_000,
    ):
        parsed = parse(evil)
        section(parsed.text, "none")
