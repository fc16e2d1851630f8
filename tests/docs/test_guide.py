"""The guide's code: Python runs, in order; commands take the options that are shown; recipes are recipes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from persona.cli.main import cli
from persona.readout.folder import write_readout
from persona.recipe.parse import parse
from tests.docs.session import ROOT
from tests.models import TinyModels
from tests.readout.made import by_chance

GUIDE = ROOT / "docs" / "guide.md"
PAGES = [ROOT / "README.md", GUIDE, ROOT / "docs" / "cli.md", ROOT / "docs" / "tutorial.md"]
NOT_RUN = "<!-- not run -->\n"


def blocks(page: Path, *languages: str) -> list[tuple[int, str]]:
    """Code blocks with the line on which each begins; those marked as not run are left out."""
    text = page.read_text()
    found = re.finditer(rf"^({re.escape(NOT_RUN)})?```({'|'.join(languages)})\n(.*?)^```$", text, re.M | re.S)
    return [(text.count("\n", 0, match.start(3)), match[3]) for match in found if not match[1]]


def test_python_blocks_run_in_order(
    models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "models" / "base").symlink_to(models.base())
    (tmp_path / "runs" / "listening").symlink_to(models.run(1))
    (tmp_path / "runs" / "suggesting").symlink_to(models.run(2))
    write_readout(tmp_path / "readouts" / "mood", by_chance((0, 1)))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for line, code in blocks(GUIDE, "python"):
        exec(compile("\n" * line + code, str(GUIDE), "exec"), names)
    said = capsys.readouterr().out.splitlines()
    shown = [text for _, code in blocks(GUIDE, "python") for text in re.findall(r"print\(.*\)  # (.*)", code)]
    assert len(shown) >= 4
    assert [text for text in shown if text not in said] == []


def typed(page: Path) -> Iterator[tuple[int, list[str]]]:
    """Every ``persona …`` of a page's shell blocks, split as a shell would."""
    for start, block in blocks(page, "console", "sh"):
        is_session = block.startswith("$ ")
        for number, line in enumerate(block.splitlines(), start + 1):
            if is_session and not line.startswith("$ "):
                continue  # what was printed
            lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if word in ("&&", "||", ";", "|", ">", ">>"):
                    if words[:1] == ["persona"]:
                        yield number, words[1:]
                    words = []
                else:
                    words.append(word)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_take_the_options_that_are_shown(page: Path) -> None:
    seen = 0
    for number, words in typed(page):
        if words[0] == "-C":
            words = words[2:]
        command = cli.get_command(click.Context(cli), words[0])
        assert command is not None, f"{page.name}:{number}: no command {words[0]}"
        while isinstance(command, click.Group):
            command, words = command.get_command(click.Context(command), words[1]), words[1:]
            assert command is not None, f"{page.name}:{number}: no command {words[0]}"
        context = click.Context(command, info_name=words[0], **command.context_settings)
        try:
            command.make_parser(context).parse_args(words[1:])
        except click.UsageError as error:
            pytest.fail(f"{page.name}:{number}: persona {' '.join(words)}: {error.message}")
        seen += 1
    assert seen > 5


@pytest.mark.parametrize("page", [ROOT / "README.md", GUIDE], ids=lambda page: page.name)
def test_recipes_are_recipes(page: Path) -> None:
    recipes = [text for _, text in blocks(page, "toml") if text.startswith("[base]")]
    assert recipes
    for text in recipes:
        assert parse(text).vectors


def test_parts_of_recipes_are_parts_of_recipes() -> None:
    """What begins with another table than [base] is read below one."""
    parts = [text for _, text in blocks(GUIDE, "toml") if text.startswith(("[merge]", "[vectors."))]
    assert len(parts) >= 3
    for text in parts:
        assert parse('[base]\nid = "abab"\n' + text)


def test_the_recipe_tables_name_every_key() -> None:
    from persona.recipe import parse as keys

    section = GUIDE.read_text().partition("## The recipe, key by key")[2].partition("\n## ")[0]
    wanted = [f"base.{key}" for key in keys._BASE] + [f"vectors.NAME.{key}" for key in keys._VECTOR]
    assert [key for key in [*wanted, "merge.method", "merge.scale"] if f"`{key}`" not in section] == []
