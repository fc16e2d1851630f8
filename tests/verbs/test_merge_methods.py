"""``merge_methods`` describes methods by their names and aliases. What it says of each: tests/docs/test_methods_page.py."""

from __future__ import annotations

import pytest

import persona
from persona.errors import UsageError
from tests.cli.conftest import run  # noqa: F401  # a fixture


def test_a_method_is_found_by_its_other_name() -> None:
    (one,) = persona.merge_methods("task_arithmetic")
    assert (one.name, one.aliases) == ("linear", ("task_arithmetic",))


def test_an_unknown_method_has_a_suggestion() -> None:
    with pytest.raises(UsageError, match="unknown method 'tise'") as error:
        persona.merge_methods("tise")
    assert error.value.hint == "Did you mean 'ties'?"
