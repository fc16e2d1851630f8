"""The suites that ship: what is in them, that they are never written over anything, and that they measure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import persona
from persona.cli.main import invoke
from persona.evaluate import suite as suites
from persona.verbs.eval_init import SHIPPED, SUITES
from tests.evaluate import small

FILES = {f"evals/{name}{suffix}" for name in SUITES for suffix in (".jsonl", ".toml")}


def work(folder: Path, template: bool = True) -> persona.Repository:
    base = small.base_folder(folder / "base", max_position_embeddings=512)
    if not template:
        (base / "chat_template.jinja").unlink()
    persona.init(folder / "work", base, author="Test")
    return persona.open(folder / "work")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_what_ships_is_what_it_says() -> None:
    assert {path.name for path in SHIPPED.iterdir()} == {Path(name).name for name in FILES}
    chat, prose = (rows(SHIPPED / f"{name}.jsonl") for name in ("chat", "prose"))
    assert len({row["messages"][0]["content"] for row in chat}) == 100
    assert all([m["role"] for m in row["messages"]] == ["user", "assistant"] for row in chat)
    assert len({row["text"] for row in prose}) == 100
    assert all(40 <= len(row["text"].split()) <= 80 for row in prose)


def test_they_are_written_once_and_measure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repo = work(tmp_path)
    done = persona.eval_init(repo)
    assert (set(done.written), done.kept, done.notes) == (FILES, (), ())
    again = persona.eval_init(repo)
    assert (again.written, set(again.kept)) == ((), FILES)
    found = persona.eval(repo, replies=True, options=persona.MeasureOptions(limit=2))
    assert [(one.suite, one.scores[0].examples) for one in found.builds[0].suites] == [
        ("chat", 2), ("prose", 2), ("replies", 2)
    ]  # fmt: skip
    assert found.replies[0].prompts[0].prompt == "I have decided to move to the coast next year."
    assert invoke(["-C", str(repo.root), "eval", "--init"]) == 0
    assert "left     evals/chat.toml" in capsys.readouterr().out
    for more in ("HEAD", "--replies", "--limit=3"):
        assert invoke(["-C", str(repo.root), "eval", "--init", more]) == 2
        assert "--init measures nothing" in capsys.readouterr().err


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    repo = work(tmp_path)
    (repo.root / "evals").mkdir()
    (repo.root / "evals" / "chat.jsonl").write_text("mine\n")
    (repo.root / "evals" / "prose.toml").symlink_to("nowhere")
    done = persona.eval_init(repo)
    assert (done.written, done.kept) == (
        ("evals/replies.jsonl", "evals/replies.toml"), ("evals/chat.jsonl", "evals/prose.toml")
    )  # fmt: skip
    assert (repo.root / "evals" / "chat.jsonl").read_text() == "mine\n"
    assert not (repo.root / "evals" / "chat.toml").exists()


def test_a_base_without_a_chat_template_gets_prompts(tmp_path: Path) -> None:
    repo = work(tmp_path, template=False)
    (note,) = persona.eval_init(repo).notes
    assert "no chat template" in note
    (chat,) = suites.read(repo.root / "evals" / "chat.toml").measures
    row = rows(SHIPPED / "chat.jsonl")[0]["messages"]
    assert chat.rows[0].prompt == f"User: {row[0]['content']}\nAssistant:"
    assert chat.rows[0].completion == f" {row[1]['content']}"
    assert persona.eval(repo, options=persona.MeasureOptions(limit=1)).measured == 3
