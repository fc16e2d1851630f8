"""Suites are read strictly, and their digest is all that they measure by."""

from __future__ import annotations

from pathlib import Path

import pytest

from persona.errors import UsageError
from persona.evaluate import suite as suites
from tests.evaluate import small


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return small.suite(tmp_path)


def test_a_suite_is_found_by_name_and_by_path(path: Path, tmp_path: Path) -> None:
    found = suites.find(tmp_path, "calm", tmp_path)
    assert found == suites.find(tmp_path, path, Path("/nowhere"))
    assert found == suites.find(tmp_path, "evals/calm.toml", tmp_path)
    assert [(one.kind, one.name, len(one.rows)) for one in found.measures] == [
        ("loss", "answers", 12), ("divergence", "divergence", 8), ("forgetting", "forgetting", 8),
        ("degeneration", "degeneration", 12),
    ]  # fmt: skip
    assert found.summary == "Is it still what it was?"
    assert dict(found.measures[3].settings) == {"tokens": 12, "temperature": 0.0}
    assert (found.refers, found.rows, found.limited(3).rows) == (True, 40, 12)
    assert suites.names(tmp_path) == ("calm",)
    assert suites.names(path) == ()


def test_what_is_not_there_is_named(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no suite 'clam'") as caught:
        suites.find(tmp_path, "clam", tmp_path)
    assert caught.value.hint == "Did you mean 'calm'?"
    with pytest.raises(UsageError, match="no suite 'x'") as caught:
        suites.find(path, "x", path.parent)
    assert "evals/NAME.toml" in caught.value.hint


LOSS = '[[measures]]\nkind = "loss"\ndata = "answers.jsonl"\n'


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("", "calm.toml: measures: is missing", "[[measures]]"),
        ("measures = 3", "calm.toml:1: measures: 3 is not a list of tables", ""),
        ("[[measures]]\nkind = =", "calm.toml:2: invalid TOML", "TOML"),
        (f'summry = "x"\n{LOSS}', "calm.toml:1: summry: unknown key", "Did you mean 'summary'?"),
        (f"summary = 3\n{LOSS}", "calm.toml:1: summary: 3 is not a string", ""),
        ('[[measures]]\ndata = "x"', "calm.toml:1: measures[0].kind: is missing", "Known: "),
        ('\n\n[[measures]]\nkind = "los"', "calm.toml:4: measures[0].kind: no measure 'los'", "Did you mean 'loss'?"),
        (f"{LOSS}colour = 3", "calm.toml:4: measures[0].colour: unknown key", "Known: "),
        (
            f'{LOSS}\n[[measures]]\nkind = "forgetting"\ndata = "neutral.jsonl"\nwindow = 1',
            "calm.toml:8: measures[1].window: 1 is not a whole number from 2",
            "Tokens per window",
        ),
        (f"{LOSS}\n{LOSS}", "calm.toml:5: measures[1].name: two measures are called 'loss'", "Rename one"),
        (f'{LOSS}name = ""', "calm.toml:4: measures[0].name: '' is not a string that is not empty", ""),
        ('[[measures]]\nkind = "loss"', "calm.toml:1: measures[0].data: is missing", "data ="),
        (
            '[[measures]]\nkind = "loss"\ndata = "answer.jsonl"',
            "calm.toml:3: measures[0].data: there is no file",
            "'answers.jsonl'",
        ),
        (
            '[[measures]]\nkind = "python"\ndata = "answers.jsonl"',
            "calm.toml:1: measures[0].function: is missing, and python needs it",
            "Entry point",
        ),
        (
            '[[measures]]\nkind = "readout"\ndata = "neutral.jsonl"\nconcepts = ["a", "a"]',
            "calm.toml:4: measures[0].concepts: ['a', 'a'] is not a list of different strings",
            "Default: all",
        ),
        (
            '[[measures]]\nkind = "readout"\ndata = "neutral.jsonl"\nlayer = -1',
            "calm.toml:4: measures[0].layer: -1 is not a whole number from 0",
            "the best of each concept",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(path: Path, text: str, said: str, hint: str) -> None:
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        suites.read(path)
    assert said in caught.value.message
    assert hint in caught.value.hint


def test_the_digest_is_of_text_data_and_code_beside_it(path: Path) -> None:
    path.write_text(f'{LOSS}\n[[measures]]\nkind = "python"\nfunction = "mine:score"\ndata = "neutral.jsonl"\n')
    seen = {suites.read(path).digest}
    code = path.with_name("mine.py")
    for change in (
        lambda: path.write_text(path.read_text() + "# a remark\n"),
        lambda: small.lines(path.with_name("answers.jsonl"), small.dialogues(3, 9)),
        lambda: code.write_text("def score(live, rows, seed): return [0.0] * len(rows)\n"),
        lambda: code.write_text("def score(live, rows, seed): return [1.0] * len(rows)\n"),
    ):
        change()
        digest = suites.read(path).digest
        assert digest == suites.read(path).digest
        assert digest not in seen
        seen.add(digest)


def test_a_suite_that_moves_is_the_same(path: Path, tmp_path: Path) -> None:
    digest = suites.read(path).digest
    moved = path.parent.rename(tmp_path / "elsewhere")
    assert suites.read(moved / path.name).digest == digest
