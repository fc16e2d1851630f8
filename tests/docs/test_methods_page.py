"""The page of merge methods is what the methods say, and what it shows can be pasted."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import persona
from docs.tools.methods import page
from persona import methods
from persona.errors import UsageError
from persona.recipe.parse import parse
from tests.cli.conftest import run  # noqa: F401  # a fixture
from tests.docs.session import ROOT
from tests.docs.test_guide import blocks

PAGE = ROOT / "docs" / "methods.md"
NAMES = methods.names()
BASE = '[base]\nid = "abab"\n'
VECTORS = "".join(f'[vectors.{name}]\nid = "abab"\n' for name in "ab")


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run: python -m docs.tools.methods > docs/methods.md"


def test_every_snippet_is_a_recipes() -> None:
    found = [parse(f"{BASE}{text}{VECTORS}").method for _, text in blocks(PAGE, "toml")]
    assert set(found) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_method_is_documented(name: str) -> None:
    (one,) = persona.merge_methods(name)
    assert one.name == name
    assert re.search(r"(19|20)\d\d|mergekit", one.source), "a source, with its year"
    assert "    " in one.text, "a formula, indented"
    assert "δ" in one.text
    section = page().partition(f"\n### {name}\n")[2].partition("\n### ")[0]
    for parameter in one.parameters:
        assert f"| `{parameter.name}` |" in section
        assert parameter.summary.endswith(".")
    module = methods.load(name)
    assert [parameter.name for parameter in one.parameters] == list(module.PARAMETERS)
    wanted = ["base", "deltas", "shares", "parameters", *(["weights"] if methods.weighs(module) else [])]
    assert list(inspect.signature(module.reference).parameters) == wanted


def test_the_command_shows_them(run: Callable[..., object], tmp_path: Path) -> None:  # noqa: F811
    listed = run(tmp_path, "methods")
    assert [line.split()[0] for line in listed.out.splitlines()[1 : len(NAMES) + 1]] == list(NAMES)  # type: ignore[attr-defined]
    shown = run(tmp_path, "methods", "ties").out  # type: ignore[attr-defined]
    assert "arXiv:2306.01708" in shown
    assert "a number above 0, at most 1" in shown
    snippet = shown[shown.index("[merge]") :]
    assert parse(f"{BASE}{snippet}{VECTORS}").method == "ties"
    found = json.loads(run(tmp_path, "methods", "ties", "--json").out)["result"]  # type: ignore[attr-defined]
    assert [(p["name"], p["default"], p["per_vector"]) for p in found[0]["parameters"]] == [
        ("density", 0.2, True), ("trim", "tensor", False), ("normalize", "count", False),
    ]  # fmt: skip


def test_a_recipe_that_names_no_method_says_which_it_may_be() -> None:
    with pytest.raises(UsageError, match=r"persona.toml:4: merge.method: unknown method 'tise'") as error:
        parse(f'{BASE}[merge]\nmethod = "tise"\n')
    assert "ties" in error.value.hint
