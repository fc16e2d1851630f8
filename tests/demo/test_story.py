"""The story on a model too small to speak: everything runs, what must hold whatever was learnt holds, and each number comes again."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import persona
from persona import files
from persona.cli.app import App
from persona.cli.main import invoke
from persona.demo.page import page_of
from persona.demo.scenery import PLANTED, RUNS
from persona.demo.story import METHODS, tell
from persona.demo.telling import LINES, DemoResult, DemoTable, Reply
from persona.demo.training import QUICK
from tests.cli.schema import check

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]


class Notes:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.tables: list[DemoTable] = []

    def chapter(self, title: str, text: str) -> None:
        pass

    def command(self, text: str) -> None:
        self.commands.append(text)

    def say(self, text: str) -> None:
        pass

    def table(self, table: DemoTable) -> None:
        self.tables.append(table)

    def replies(self, replies: Sequence[Reply]) -> None:
        raise AssertionError("this story shows its replies at the end")


TINY = QUICK.but(base_steps=20, behaviour_steps=6, batch=8)


@pytest.fixture(scope="module")
def kept(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoResult, Notes]:
    root, notes = tmp_path_factory.mktemp("demo"), Notes()
    return root, tell(root, notes, sizes=TINY), notes


def test_the_story(kept: tuple[Path, DemoResult, Notes], capsys: pytest.CaptureFixture[str]) -> None:
    root, told, notes = kept
    assert told.rolled_back_identical
    assert told.kept_bytes < told.whole_bytes
    assert notes.commands == [command for chapter in told.chapters for command in chapter.commands]
    assert notes.tables == [table for chapter in told.chapters for table in chapter.tables]
    repo = persona.open(root)
    names = [entry.name for entry in persona.status(repo).recipe.vectors]
    assert names == [run.name for run in RUNS if run.name != PLANTED]
    of = {entry.name: entry.node for entry in repo.recipe(repo.resolve("five")).vectors}
    assert of == {run.name: run.node.id for run in RUNS}, "the bad one was there"
    assert {repo.recipe(repo.resolve(f"by-{method}")).method for method in METHODS} == {*METHODS}
    for build in (root / "builds").iterdir():
        assert persona.verify(build).ok
    capsys.readouterr()
    App(json=True).show("demo", told, lambda console: None)
    check("demo", capsys.readouterr().out)
    assert all((told.chapters, told.replies, told.findings)), "nothing that would fit for being empty"


class Reader(HTMLParser):
    """A page's numbers, by the command beside them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.command = ""
        self.found: dict[str, set[float]] = {}
        self.fetched: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        self.command = said.get("data-command") or self.command
        numbers = [said[key] for key in ("data-value", "data-low", "data-high") if said.get(key) is not None]
        self.found.setdefault(self.command, set()).update(float(str(one)) for one in numbers)
        self.fetched += [str(said[key]) for key in ("src", "href") if key in said]
        self.fetched += [tag] if tag in ("script", "link", "img", "iframe") else []


def again(root: Path, command: str, capsys: pytest.CaptureFixture[str]) -> set[float]:
    """All numbers that a command prints as JSON in the demo's folder."""
    program, *rest = shlex.split(command)
    assert program == "persona"
    code = ["--allow-code"] if rest[0] in ("eval", "blame", "verify-vectors") else []  # its suites judge in Python
    assert invoke(["-C", str(root), *rest, *code, "--json"]) == 0, command
    return set(_numbers(json.loads(capsys.readouterr().out)["result"]))


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _numbers(one)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def check_every_number(root: Path, told: DemoResult, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the page: each stands in what the command beside it prints."""
    capsys.readouterr()
    reader = Reader(page_of(told))
    printed = {command: again(root, command, capsys) for command, found in reader.found.items() if found}
    for command, numbers in printed.items():
        assert reader.found[command] <= numbers, command
    tables = [table for chapter in told.chapters for table in chapter.tables]
    assert {table.command for table in tables} == printed.keys()
    for one in told.findings:
        if one.command in printed:
            whole = {f"{abs(number):.3f}" for number in printed[one.command]}
            shares = {f"{number:.0%}" for number in printed[one.command]}
            said = set(re.findall(r"\d+\.\d{3}|\d+%", one.numbers))
            assert said, one.claim
            assert said <= whole | shares, one.claim


def test_every_number_of_the_page_is_printed_again_by_the_command_beside_it(
    kept: tuple[Path, DemoResult, Notes], capsys: pytest.CaptureFixture[str]
) -> None:
    root, told, _ = kept
    check_every_number(root, told, capsys)


def test_the_page_needs_nothing_else_and_shows_every_table(kept: tuple[Path, DemoResult, Notes]) -> None:
    _, told, _ = kept
    page = page_of(told)
    assert page == page_of(told)
    assert not Reader(page).fetched, "nothing that would have to be there beside it"
    assert "http" not in page
    assert page.index("<h2>Replies</h2>") < page.index("<h2>Findings</h2>"), "what one reads first"
    for chapter in told.chapters:
        for table in chapter.tables:
            assert page.count(table.title.replace("'", "&#39;")) >= 1, table.title
    drawn = sum(table.picture == LINES for chapter in told.chapters for table in chapter.tables)
    assert page.count("<polyline") == drawn == sum(run.method == "lora" for run in RUNS)


def test_keep_does_not_write_into_a_folder_that_is_not_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert invoke(["demo", "--keep", str(tmp_path)]) == 1
    assert "is not empty" in capsys.readouterr().err


def test_a_page_that_could_not_be_written_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["demo", "--page", str(tmp_path)]) == 1
    assert "is a folder" in capsys.readouterr().err
    assert invoke(["demo", "--page", str(tmp_path / "nowhere" / "story.html")]) == 1
    assert "no folder" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_demo_shows_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "kept"
    assert invoke(["demo", "--keep", str(root), "--json"]) == 0
    printed = capsys.readouterr().out
    check("demo", printed)
    told = json.loads(printed)["result"]
    assert told["rolled_back_identical"]
    assert [one["holds"] for one in told["findings"]] == [True] * 7
    page = (root / "story.html").read_text()
    reader = Reader(page)
    files.remove_tree(root / ".persona" / "evaluations")  # measured again, and not looked up
    for command, found in reader.found.items():
        if found:
            assert found <= again(root, command, capsys), command
