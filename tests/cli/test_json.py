"""Whatever a command prints with ``--json`` is what ``docs/schema.json`` says, in every shape, errors too."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

import persona
from docs.tools import schema as schemas
from persona.cli import app, output
from tests.cli.conftest import Run
from tests.cli.json_story import COMMANDS, Line, Story
from tests.cli.schema import check, closed
from tests.maintenance.conftest import objects_of
from tests.models import TinyModels, tiny_llama


@dataclass(frozen=True)
class Told:
    """What was printed, and the classes of which something was printed."""

    lines: list[Line]
    seen: set[type]


@contextmanager
def watching() -> Iterator[set[type]]:
    """The classes of what is made JSON meanwhile."""
    seen: set[type] = set()
    made = output.plain

    def watched(value: Any) -> Any:
        seen.add(type(value))
        return made(value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "plain", watched)
        patch.setattr(app, "plain", watched)
        yield seen


@pytest.fixture(scope="module")
def told(models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Told:
    story = Story(tmp_path_factory.mktemp("json"), models)
    with watching() as seen:
        story.tell()
    return Told(story.lines, seen)


@pytest.mark.parametrize(
    "command", [name for name in COMMANDS if name not in ("demo", "ui")]
)  # in tests/demo/ and tests/ui/
def test_what_a_command_prints_fits(told: Told, command: str) -> None:
    lines = [line for line in told.lines if line.command == command]
    assert lines, f"tests/cli/json_story.py has no line with 'persona {command}'"
    for line in lines:
        check(command, line.said)
        assert "result" in json.loads(line.said), line.typed


@pytest.mark.parametrize("command", [name for name in COMMANDS if len(schemas.results(name)) > 1])
def test_there_is_an_example_of_every_shape(told: Told, command: str) -> None:
    printed = [json.loads(line.said)["result"] for line in told.lines if line.command == command]
    for kind in schemas.results(command):
        fits = Draft202012Validator(closed({**schemas.schema_of(kind), "$defs": schemas.schema()["$defs"]}))
        assert any(fits.is_valid(one) for one in printed if one), kind


def test_there_is_an_example_of_every_class(told: Told) -> None:
    elsewhere = {one for one in schemas.classes() if one.__module__.startswith(("persona.demo.", "persona.ui."))}
    missing = {*schemas.classes()} - elsewhere - told.seen
    assert not missing, "tests/cli/json_story.py has no line that prints one"


def test_a_field_that_nobody_wrote_down_does_not_fit(told: Told) -> None:
    line = next(line for line in told.lines if line.command == "tag")
    printed = json.loads(line.said)
    check("tag", json.dumps(printed))
    for wrong in ({**printed, "more": 1}, {**printed, "schema": 3}, {**printed, "command": "branch"}):
        with pytest.raises(ValidationError):
            check("tag", json.dumps(wrong))


@pytest.mark.parametrize("command", COMMANDS)
def test_an_error_of_every_command_fits(tmp_path: Path, run: Run, command: str) -> None:
    said = run(tmp_path, *command.split(), "--json", "--nonsense")
    check(command, said.out)
    assert json.loads(said.out)["error"]["exit_code"] == said.code != 0


@pytest.fixture
def work(models: TinyModels, repo: persona.Repository) -> Path:
    persona.commit(repo, models.run(1), name="a", author="Test")
    return repo.root


@pytest.fixture
def other(models: TinyModels, tmp_path: Path) -> Path:
    """A run of another base."""
    tiny_llama(hidden_size=16).save_pretrained(tmp_path / "other")
    return tmp_path / "other"


def closed_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def test_an_error_of_every_kind_fits(work: Path, other: Path, tmp_path: Path, run: Run) -> None:
    said = {
        "NoRepository": run(tmp_path, "log", "--json"),
        "ExpressionError": run(work, "derive", "b", "a +", "--json"),
        "CheckpointError": run(work, "commit", tmp_path, "--json"),
        "WrongBase": run(work, "commit", other, "--json"),
        "Refusal": run(work, "merge", "--abort", "--json"),
        "ServerError": run(work, "graph", "import", f"http://127.0.0.1:{closed_port()}", "--json"),
    }
    run(work, "build", "-o", "merged")
    receipt = work / "merged" / "persona.json"
    receipt.write_text(receipt.read_text().replace('"a"', '"b"'))
    said["NotVerified"] = run(work, "verify", "merged", "--json")
    (work / "persona.toml").write_text("[base")
    said["RecipeError"] = run(work, "build", "-o", "out", "--json")
    objects_of(persona.open(work), "base")[0].unlink()
    said["Damaged"] = run(work, "build", "HEAD", "-o", "out", "--json")
    for kind, one in said.items():
        check("", one.out)
        error = json.loads(one.out)["error"]
        assert (error["kind"], error["exit_code"]) == (kind, one.code), one
        assert error["message"]
        assert error["hint"]
    assert json.loads(said["ExpressionError"].out)["error"]["excerpt"].splitlines()[0] == "a +"
