"""Giving a vector a node and taking it away again, whatever the layout of ``persona.toml``."""

from __future__ import annotations

import pytest

from persona.errors import RecipeError
from persona.recipe.edit import set_node
from persona.recipe.parse import parse

BASE = '[base]\nid = "abab"\n'
LAYOUTS = {
    "a table": BASE + '\n# mine\n[vectors.a]  # here\nid = "cdcd"\nalpha = 0.5 # half\n\n[vectors.b]\nid = "efef"\n',
    "the end": BASE + '[vectors.a]\nid = "cdcd"',
    "a line": BASE + '[vectors]\na = {id = "cdcd", alpha = 0.5}\nb = {id = "efef"}\n',
    "all in one": 'vectors = {a = {id = "cdcd"}, b = {id = "efef"}}\n' + BASE,
    "dotted": BASE + '[vectors]\na.id = "cdcd"\nb.id = "efef"\n',
    "carriage returns": (BASE + '[vectors.a]\nid = "cdcd"\n').replace("\n", "\r\n"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_and_back(layout: str) -> None:
    text = LAYOUTS[layout]
    given = set_node(text, "a", 'core "x"#voice')
    entry = parse(given).entry("a")
    assert entry is not None
    assert entry.node == 'core "x"#voice'
    other = parse(set_node(given, "a", "another")).entry("a")
    assert other is not None
    assert other.node == "another"
    assert set_node(given, "a", None).replace(" }", "}").rstrip("\r\n") == text.rstrip("\r\n")


def test_no_such_vector_and_no_node() -> None:
    with pytest.raises(RecipeError, match="no vector 'x'"):
        set_node(LAYOUTS["a table"], "x", "y")
    assert set_node(LAYOUTS["a table"], "a", None) == LAYOUTS["a table"]
