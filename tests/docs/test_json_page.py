"""The schema of ``--json`` is what the results' types say, and what it says of a type is what ``plain`` makes of it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError

from docs.tools import json_page
from docs.tools import schema as schemas
from docs.tools.reference import reference
from persona.cli.output import plain
from persona.ids import Id
from tests.cli.schema import check, closed
from tests.docs.session import ROOT
from tests.docs.test_guide import blocks
from tests.forks import Forks

SCHEMA = ROOT / "docs" / "schema.json"
PAGE = ROOT / "docs" / "json.md"


def test_the_schema_is_up_to_date() -> None:
    assert SCHEMA.read_text() == schemas.page(), "run: python -m docs.tools.schema > docs/schema.json"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == json_page.page(), "run: python -m docs.tools.json_page > docs/json.md"


@pytest.mark.parametrize(("module", "path"), [("schema", SCHEMA), ("json_page", PAGE)])
def test_the_modules_print_them(forks: Forks, module: str, path: Path) -> None:
    assert forks.run(["python", "-m", f"docs.tools.{module}"], cwd=ROOT).stdout == path.read_text()


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(schemas.schema())


def test_every_command_has_an_entry() -> None:
    known = schemas.schema()["$defs"]
    for command in schemas.commands():
        assert f"# persona {command}\n" in reference()
        assert known[schemas.anchor(command)]["properties"]["command"] == {"const": command}


def test_the_lines_that_the_page_shows_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    ((_, lines),) = blocks(PAGE, "json")
    for line in lines.splitlines():
        check("convert", line)
    ((_, program),) = blocks(PAGE, "python")
    monkeypatch.chdir(ROOT)
    good, bad = lines.splitlines()
    monkeypatch.setattr("sys.stdin", io.StringIO(good))
    exec(program, {})
    monkeypatch.setattr("sys.stdin", io.StringIO(bad))
    with pytest.raises(ValidationError):
        exec(program, {})


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Sample:
    """A result.

    It has a field of every type.
    """

    path: Path
    number: float
    count: int | None
    names: tuple[str, ...]
    pair: tuple[str, bool]
    table: Mapping[str, list[float]]
    loose: Any
    word: Literal["a", "b"]
    colour: Colour

    @property
    def ok(self) -> bool:
        """Printed, too."""
        return self.number > 0

    @property
    def extra(self) -> int:
        """Not printed."""
        return 1


def test_a_class_by_hand() -> None:
    assert schemas.class_schema(Sample) == {
        "description": "A result.\n\nIt has a field of every type.",
        "type": "object",
        "properties": {
            "path": {"type": "string"},
            "number": {"type": ["number", "null"]},
            "count": {"type": ["integer", "null"]},
            "names": {"type": "array", "items": {"type": "string"}},
            "pair": {
                "type": "array", "prefixItems": [{"type": "string"}, {"type": "boolean"}], "items": False, "minItems": 2,
            },
            "table": {
                "type": "object",
                "additionalProperties": {"type": "array", "items": {"type": ["number", "null"]}},
            },
            "loose": {},
            "word": {"enum": ["a", "b"]},
            "colour": {"enum": ["red"]},
            "ok": {"type": "boolean"},
        },
        "required": ["path", "number", "count", "names", "pair", "table", "loose", "word", "colour", "ok"],
    }  # fmt: skip


def test_a_type_that_json_does_not_know_is_loud() -> None:
    with pytest.raises(TypeError, match="complex"):
        schemas.schema_of(complex)


def strategy(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type."""
    if isinstance(kind, type) and issubclass(kind, Id):
        return st.text("0123456789abcdef", min_size=64, max_size=64).map(kind)
    if kind in schemas.classes() or kind is Sample:
        return st.builds(kind, **{n: strategy(k) for n, k in schemas.properties(kind).items() if n != "ok"})
    if kind is Path:
        return st.text("abc/", min_size=1).map(Path)
    if kind is Any:
        return st.none() | st.text() | st.floats() | st.lists(st.integers(), max_size=2)
    args = schemas.get_args(kind)
    if args and schemas.get_origin(kind) is not Literal:
        return composed(schemas.get_origin(kind), args)
    return st.from_type(kind)


def composed(origin: Any, args: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(strategy(args[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*(strategy(one) for one in args))
    if origin is list:
        return st.lists(strategy(args[0]), max_size=2)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return st.dictionaries(st.text(), strategy(args[1]), max_size=2)
    return st.one_of(*(strategy(one) for one in args))


@pytest.mark.parametrize("kind", [Sample, *schemas.classes()], ids=lambda kind: schemas.classes().get(kind, "Sample"))
def test_any_value_of_a_class_fits(kind: type) -> None:
    known = {"$defs": schemas.schema()["$defs"], **schemas.class_schema(kind)}
    fits = Draft202012Validator(closed(known))

    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategy(kind))
    def fit(value: Any) -> None:
        fits.validate(json.loads(json.dumps(plain(value), allow_nan=False)))

    fit()
