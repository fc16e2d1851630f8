"""A recipe of a hundred thousand vectors is read, or refused, like any other."""

from __future__ import annotations

import pytest

from persona.errors import RecipeError
from persona.recipe.parse import parse

MANY = 100_000


def text(alpha: str) -> str:
    vectors = "\n".join(f'[vectors.v{n}]\nid = "{n:08x}"\nalpha = 0.5\n' for n in range(MANY))
    return f'[base]\nid = "abcd"\n{vectors}\n[vectors.last]\nid = "abcd"\nalpha = {alpha}\n'


@pytest.mark.slow
def test_many_vectors() -> None:
    recipe = parse(text("0.25"))
    assert len(recipe.vectors) == MANY + 1
    assert recipe.vectors[-1].alpha == 0.25


@pytest.mark.slow
def test_the_last_line_of_many_is_named() -> None:
    with pytest.raises(RecipeError, match=rf"persona.toml:{2 + 4 * MANY + 3}: vectors.last.alpha"):
        parse(text('"much"'))
