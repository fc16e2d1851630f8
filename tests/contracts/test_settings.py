"""Errors in tables of settings name file, line and key, wherever the key is."""

from __future__ import annotations

import pytest

from persona.errors import RecipeError, UsageError
from persona.settings import Choice, Number, Table, Whole, find_line, place, read_toml

TEXT = '''\
summary = """
[[measures]]
kind = "not a key"
"""

[[measures]]
kind = "loss"

[[measures]]
"kind" = "forgetting"
settings = { window = 1, seed = 2 }
[table.'with a.dot']
x.y = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("summary",), 1),
        (("measures",), 6),
        (("measures", 0), 6),
        (("measures", 0, "kind"), 7),
        (("measures", 1), 9),
        (("measures", 1, "kind"), 10),
        (("measures", 1, "settings"), 11),
        (("measures", 1, "settings", "window"), None),
        (("measures", 2), None),
        (("table", "with a.dot"), 12),
        (("table", "with a.dot", "x", "y"), 13),
    ],
)
def test_lines_are_found_by_what_the_text_means(path: tuple[str | int, ...], line: int | None) -> None:
    assert find_line(TEXT, path) == line
    assert find_line(TEXT.replace("\n", "\r\n"), path) == line
    assert find_line("\ufeff" + TEXT, path) == line


def test_a_key_that_is_not_there_has_the_place_of_its_table() -> None:
    assert place("x.toml", TEXT, ("measures", 1, "settings", "window")) == "x.toml:11"
    assert place("x.toml", TEXT, ("measures", 1, "data")) == "x.toml:9"
    assert place("x.toml", TEXT, ("other",)) == "x.toml"
    assert place("x.yml", "", ("measures", 1)) == "x.yml"


def test_an_error_names_the_key_in_full() -> None:
    table = read_toml(TEXT, "x.toml", RecipeError)
    second = table.tables("measures", "")[1]
    for read, message in [
        (lambda: table.allow(("summary", "measures")), "x.toml: table: unknown key"),
        (lambda: second.allow(("kind",)), "x.toml:11: measures[1].settings: unknown key"),
        (lambda: second.table("data"), "x.toml:9: measures[1].data: is missing"),
        (lambda: second.table("kind"), "x.toml:10: measures[1].kind: must be a table"),
        (
            lambda: second.table("settings").get("window", Whole(8, 2, 9)),
            "x.toml:11: measures[1].settings.window: 1 is not a whole number from 2 to 9",
        ),
        (
            lambda: second.get("kind", Choice("a", ("forgettin", "b"))),
            """x.toml:10: measures[1].kind: 'forgetting' is not one of "forgettin", "b\"""",
        ),
    ]:
        with pytest.raises(RecipeError) as caught:
            read()
        assert caught.value.message == message
    assert caught.value.hint == "Did you mean 'forgettin'?"
    assert second.table("settings").get("seed", Number(0, 0, 9)) == 2.0
    assert second.table("settings").get("other", Number(0.5, 0, 9)) == 0.5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a = \xff", "x.toml: not UTF-8: invalid start byte at byte 4"),
        ("a = 1\nb = =", "x.toml:2: invalid TOML: "),
        (f"a = 1\nb = {'1' * 5000}", "x.toml:2: b: an integer of thousands of digits"),
    ],
)
def test_what_is_not_toml_has_its_line(data: str | bytes, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_toml(data, "x.toml")
    assert caught.value.message.startswith(message)


def test_a_table_without_text_has_no_lines() -> None:
    with pytest.raises(UsageError, match=r"^--set: rank: unknown key$"):
        Table({"rank": 1}, "--set").allow(("alpha",))
