"""Every layout that TOML allows can be edited, and what stands around an edit stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona.errors import RecipeError
from persona.recipe import edit
from persona.recipe.model import Entry, Recipe
from persona.recipe.parse import parse
from persona.settings import find_line

A, B, NEW = "a" * 12, "b" * 12, "d" * 64
BASE = '[base]\nname = "b" # the base\nid = "cccccccccccc"\n'
TABLE = f'[vectors.a]\nid = "{A}" # why\nalpha = 1.0\n'

LAYOUTS = {
    "plain": f"{BASE}\n{TABLE}",
    "no newline at the end": f"{BASE}\n{TABLE}"[:-1],
    "CRLF": f"{BASE}\n{TABLE}".replace("\n", "\r\n"),
    "a byte order mark": f"\ufeff{BASE}\n{TABLE}",
    "a merge between": f'{BASE}\n{TABLE}\n[merge]\nscale = 0.5 # half\n\n[vectors.z]\nid = "{B}"\nalpha=2.0 # c',
    "vectors around the base": f'{TABLE}\n{BASE}\n[vectors.z]\nid = "{B}"\n',
    "vectors first": f"{TABLE}\n{BASE}",
    "dotted at the top": f'vectors.a.id = "{A}"\nvectors.a.alpha = 1.0 # one\n{BASE}',
    "all dotted": f'base.id = "{A}"\nvectors . "a".id = "{A}"\nvectors.z.id = "{B}"\n',
    "dotted in vectors": f'{BASE}\n[vectors]\na.id = "{A}" # one\nz.id = "{B}"\na.alpha = 1.0\n',
    "inline vectors": f'vectors = {{a = {{id = "{A}", alpha = 1.0}}, z = {{id = "{B}"}}}} # all\n{BASE}',
    "inline and dotted": f'vectors = {{a.id = "{A}"}}\n{BASE}',
    "inline and empty": f"vectors = {{}} # none\n{BASE}",
    "inline vector": f'{BASE}\n[vectors]\na = {{ id = "{A}" }} # one\n',
    "inline and tables": f'{BASE}\n[vectors]\na = {{id = "{A}", alpha = 1.0}}\n[vectors.z]\nid="{B}"\n',
    "empty vectors": f"{BASE}\n[vectors] # none\n",
    "no vectors": BASE,
    "quoted": f'{BASE}["vectors".\'a\']\n"id" = \'{A}\'\n"alpha" = 1.0\n',
    "the header of all": f"{BASE}[vectors]\n{TABLE}",
    "indented": f'{BASE}  [vectors.a]\n  id = "{A}"\n  # end\n',
    "an array of lines": f'{BASE}[vectors.a]\nid = "{A}"\nonly = [\n  "[x]*", # c ] [\n  "y*",\n]\n# after\n',
    "text that looks like more": f'{BASE}{TABLE}node = """\n[vectors.x]\nid = "\\""""\n[merge]\n# [vectors.y]\n',
}


def entries(text: str) -> dict[str, Entry]:
    return {entry.name: entry for entry in parse(text).vectors}


def without(recipe: Recipe, *names: str) -> list[Entry]:
    return [entry for entry in recipe.vectors if entry.name not in names]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_vector_is_added(layout: str) -> None:
    text = LAYOUTS[layout]
    one = edit.put_vector(text, Entry("new", NEW, 0.5, node="n", only=("x*",)))
    two = edit.put_vector(one, Entry("two", NEW, -1.0))
    assert list(parse(two).vectors) == [
        *parse(text).vectors,
        Entry("new", NEW[:12], 0.5, "n", ("x*",)),
        Entry("two", NEW[:12], -1.0),
    ]
    back = edit.remove_vector(edit.remove_vector(two, "two"), "new")
    if layout in ("inline vectors", "inline and dotted", "inline and empty"):  # tomlkit leaves a space or two
        text, back = text.replace(" ", ""), back.replace(" ", "")
    else:
        assert one.startswith(text.rstrip("\r\n"))
    assert back.rstrip() == text.rstrip()


@pytest.mark.parametrize("layout", [name for name, text in LAYOUTS.items() if "a" in entries(text)])
def test_a_vector_is_changed_and_removed(layout: str) -> None:
    text = LAYOUTS[layout]
    before = parse(text)
    set_to = edit.set_alpha(text, "a", 0.25)
    assert entries(set_to)["a"].alpha == 0.25
    assert edit.set_alpha(text, "a", before.vectors[0].alpha) == text
    trained = edit.put_vector(text, Entry("a", NEW, 2.0, node="n", excepted=("z",)))
    assert entries(trained)["a"].id == NEW[:12]
    assert entries(trained)["a"].excepted == ("z",)
    removed = edit.remove_vector(text, "a")
    for after in (set_to, trained, removed):
        assert without(parse(after), "a") == without(before, "a")
        for comment in ("# the base", "# c\n", "] [\n", "# half", "# all", "# end", "# after", "# [vectors.y]"):
            inside = after is removed and comment == "] [\n"
            assert inside or after.count(comment) == text.count(comment), comment
    assert "a" not in entries(removed)
    assert ("\r\n" in text) == ("\r\n" in removed)


def test_only_what_changes_changes() -> None:
    text = LAYOUTS["a merge between"]
    assert edit.set_alpha(text, "z", 0.5) == text.replace("alpha=2.0", "alpha=0.5")
    assert edit.set_alpha(LAYOUTS["dotted at the top"], "a", 2.0) == LAYOUTS["dotted at the top"].replace("1.0", "2.0")
    assert edit.remove_vector(text, "a") == text.replace(f"{TABLE}\n", "")
    assert edit.remove_vector(text, "z") == text.partition("\n[vectors.z]")[0]


def test_comments_after_a_removed_vector_stay() -> None:
    notes = f'\n# --- my notes about b ---\n[vectors.b]\nid = "{B}"\n'
    assert edit.remove_vector(f"{BASE}\n{TABLE}{notes}", "a") == f"{BASE}{notes}"
    assert edit.remove_vector(f'{BASE}\n[vectors.a]\n# gone\nid = "{A}"\n\n# stays\n', "a") == f"{BASE}\n# stays\n"


def test_what_cannot_be_edited_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edit, "set_key", lambda text, *args: text.replace("cccc", "dddd"))
    with pytest.raises(RecipeError, match="laid out in a way") as caught:
        edit.set_alpha(LAYOUTS["plain"], "a", 2.0)
    assert "[vectors.NAME]" in caught.value.hint
    with pytest.raises(RecipeError, match="no vector 'b'"):
        edit.remove_vector(LAYOUTS["plain"], "b")


PARTS = st.sampled_from([
    BASE, "[merge]\nscale = 1.0\n", "\n", "# a note\n", TABLE, f'[vectors.b]\nid = "{B}"\n# more\n\n',
    "  \n", f"[vectors.c]\n  id = '{B}'\n  only = [\n 'x', # [\n]\n", "[vectors]\n", f'vectors.d.id = "{A}"\n',
])  # fmt: skip


@given(st.lists(PARTS, max_size=8))
def test_any_order_of_parts(parts: list[str]) -> None:
    text = "".join(parts)
    try:
        recipe = parse(text)
    except RecipeError:
        return
    added = edit.put_vector(text, Entry("new", NEW, 0.5))
    assert parse(added).vectors == (*recipe.vectors, Entry("new", NEW[:12], 0.5))
    for entry in recipe.vectors:
        text = edit.set_alpha(added, entry.name, 7.0)
        assert entries(text)[entry.name].alpha == 7.0
        added = edit.remove_vector(text, entry.name)
    assert [entry.name for entry in parse(added).vectors] == ["new"]
    assert added.count("# a note") == parts.count("# a note\n")


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 400, "1" * 5000, "0x" + "f" * 5000, "nan", "-inf"])
@pytest.mark.parametrize("key", ["alpha", "scale"])
def test_numbers_beyond_all_bounds(number: str, key: str) -> None:
    text = f"{BASE}[merge]\nscale = 1\n{TABLE}".replace(
        f"{key} = 1.0" if key == "alpha" else "scale = 1", f"{key} = {number}"
    )
    with pytest.raises(RecipeError) as caught:
        parse(text)
    line = 1 + text[: text.index(number)].count("\n")
    assert caught.value.message.startswith(f"persona.toml:{line}: ")
    assert f"{key}: " in caught.value.message
    assert len(caught.value.message) < 160


def test_a_byte_order_mark_is_no_part_of_the_recipe() -> None:
    text = LAYOUTS["a byte order mark"]
    assert parse(text) == parse(text[1:])
    assert find_line(text, ("base",)) == 1
    assert edit.set_alpha(text, "a", 2.0).startswith("\ufeff[base]")
