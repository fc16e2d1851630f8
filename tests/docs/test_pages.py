"""What the pages point at exists: files, headings, commands, and what they import."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from persona.cli.main import COMMANDS
from tests.docs.session import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_MENTION = re.compile(r"(?:^|[`$&|;]|'|\()\s*persona(?: -C \S+)? ([a-z][a-z-]*)", re.MULTILINE)


@pytest.fixture(params=PAGES, ids=lambda path: path.name)
def page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def prose(path: Path) -> str:
    return _FENCE.sub("", path.read_text())


def anchors(path: Path) -> set[str]:
    """The ids that hubs give to headings: lower case, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        if re.match(r"\w+:", link):
            continue
        target, _, anchor = link.partition("#")
        other = (page.parent / target).resolve() if target else page
        assert other.exists(), f"{page.name} → {link}"
        assert other.is_relative_to(ROOT), f"{page.name} → {link} leaves the project"
        assert not anchor or anchor in anchors(other), f"{page.name} → {link}"


def test_every_command_that_is_mentioned_exists(page: Path) -> None:
    if page.name == "format.md":
        return  # its `persona tensor` and the like are bytes that are hashed
    code = [body for language, body in _FENCE.findall(page.read_text()) if language in ("", "sh", "console", "text")]
    code += re.findall(r"`[^`\n]+`", prose(page))
    found = {word for text in code for word in _MENTION.findall(text)}
    assert found <= set(COMMANDS)
    if page.name == "cli.md":
        assert found == set(COMMANDS)


def test_a_mention_is_recognised() -> None:
    text = "$ persona log && persona build\n`persona -C x verify` ('persona rm') <persona nothing> a persona build"
    assert _MENTION.findall(text) == ["log", "build", "verify", "rm"]


def test_what_is_not_there_yet_is_not_there() -> None:
    section = (ROOT / "docs" / "guide.md").read_text().partition("## What is not there yet\n")[2]
    promised = {word for row in section.splitlines() for word in re.findall(r"`([a-z]+)`", row.split(" | ")[0])}
    assert promised
    assert not promised & set(COMMANDS)
