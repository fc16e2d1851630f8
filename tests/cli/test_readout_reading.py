"""``readout score``, ``drift`` and ``tune`` as people type them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

import persona
from persona.cli.plots.readout_bars import bar, number
from persona.demo.training import QUICK, train_base, train_behaviour
from persona.readout.folder import write_readout
from tests.cli.conftest import Run
from tests.cli.test_pager import on_a_terminal
from tests.readout.made import by_chance

TINY = QUICK.but(base_steps=2, behaviour_steps=4)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a run, a readout and texts; treat them as read-only."""
    folder = tmp_path_factory.mktemp("made")
    train_base(folder / "base", TINY)
    train_behaviour(folder / "base", "voice", folder / "voice", "full", TINY)
    write_readout(folder / "mood", by_chance((0, 1), hidden=TINY.hidden))
    (folder / "texts.txt").write_text("".join(f"Day {day}: bread.\n" for day in range(8)))
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": f"Day {day}."}) + "\n" for day in range(3)))
    return folder


def test_a_text_a_file_and_standard_input(made: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    along = ("--readout", "mood", "--model", "./base", "--json")
    said = json.loads(run(made, "readout", "score", "I hear you.", *along).out)["result"]
    assert [one["text"] for one in said["texts"]] == ["I hear you."]
    said = json.loads(run(made, "readout", "score", "texts.txt", *along).out)["result"]
    assert len(said["texts"]) == 1
    said = json.loads(run(made, "readout", "score", "texts.jsonl", *along).out)["result"]
    assert [one["text"] for one in said["texts"]] == ["Day 0.", "Day 1.", "Day 2."]
    monkeypatch.setattr(sys, "stdin", io.StringIO("letter.txt"))
    said = json.loads(run(made, "readout", "score", "-", *along).out)["result"]
    assert [one["text"] for one in said["texts"]] == ["letter.txt"]
    for nothing in ("letter.txt", "notes/letter", " "):
        assert "no file '" in run(made, "readout", "score", nothing, *along[:-1]).err


def test_tables_and_pictures(made: Path, run: Run, tmp_path: Path) -> None:
    along = ("--readout", "mood", "--model", "./base")
    said = run(made, "readout", "score", "I [b]hear[/b] you.", *along, "--per-token", "--plot", tmp_path / "a.svg")
    lines = said.out.splitlines()
    assert lines[0] == "“I [b]hear[/b] you.”"
    assert [line.split()[:2] for line in lines[4:8]] == [
        ["warmth", "0"],
        ["1", lines[5].split()[1]],
        ["coldness", "0"],
        ["1", lines[7].split()[1]],
    ]
    assert "Each token, at layer 1" in lines
    assert "█" not in said.out
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")
    several = run(made, "readout", "score", "texts.jsonl", *along).out
    assert "3 texts" in several.splitlines()[0]
    assert "±" in several
    drift = ("readout", "drift", "./base", "./voice", "--texts", "texts.txt", "--readout", "mood")
    said = run(made, *drift, "--plot", tmp_path / "b.png")
    assert said.out.startswith("./base → ./voice\n8 texts along mood\n")
    assert "95 % interval" in said.out
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    assert "unknown plot format '.gif'" in run(made, *drift, "--plot", "b.gif").err


def test_bars_on_a_terminal(made: Path) -> None:
    seen = on_a_terminal(
        made, "readout", "score", "I hear you.", "--readout", "mood", "--model", "./base", rows=50
    ).text
    assert "│█" in seen or "█│" in seen
    assert bar(1.0, 2.0, 9).plain == "    │██  "
    assert bar(-2.0, 2.0, 9).plain == "████│    "
    assert bar(0.125, 2.0, 9).plain == "    │▎   "
    assert bar(0.0, 0.0, 9).plain == "    │    "
    assert [number(value) for value in (0.5, -0.001, float("nan"))] == ["+0.50", "+0.00", "–"]


def test_in_a_repository(made: Path, run: Run, tmp_path: Path) -> None:
    persona.init(tmp_path / "work", made / "base", author="Test")
    repo = persona.open(tmp_path / "work")
    persona.commit(repo, made / "voice", name="voice", author="Test")
    drift = run(
        repo.root, "readout", "drift", "HEAD~1", "HEAD", "--texts", made / "texts.txt", "--readout", made / "mood"
    )
    assert drift.code == 0
    assert drift.out.startswith("HEAD~1 (")
    alone = run(repo.root, "readout", "score", "Hi you.", "--readout", made / "mood", "--model", "voice", "--json").out
    folder = run(made, "readout", "score", "Hi you.", "--readout", "mood", "--model", "./voice", "--json").out
    assert json.loads(alone)["result"]["mean"] == json.loads(folder)["result"]["mean"]
    assert (
        "Did you mean 'voice'?"
        in run(repo.root, "readout", "score", "Hi you.", "--readout", made / "mood", "--model", "voise").err
    )
    assert "no readout given" in run(repo.root, "readout", "score", "Hi you.").err
    assert "no model given" in run(made, "readout", "score", "Hi you.", "--readout", "mood").err


def test_tune(made: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "trials.json"
    ask = (
        "readout",
        "tune",
        "--prompts",
        "texts.txt",
        "--readout",
        "mood",
        "--model",
        "./base",
        "--max-tokens",
        "4",
        "-o",
        out,
    )
    tiny = ("--most", "0.01", "--trials", "2")
    said = run(made, *ask, "--toward", "warmth", "--away-from", "coldness", *tiny)
    assert said.code == 1  # nothing to be found: the answer is no
    assert "./base, towards warmth and away from coldness\n2 trials, 8 prompts" in said.out
    assert "No trial within the bounds" in said.out
    assert f"Trials saved in {out}" in said.out
    again = run(made, *ask, "--toward", "warmth", "--away-from", "coldness", "--most", "0.01", "--trials", "3")
    assert "3 trials, 2 of them resumed" in again.out
    assert "another search" in run(made, *ask, "--toward", "warmth", *tiny).err
    assert "Did you mean 'warmth'?" in run(made, *ask, "--toward", "warmht").err
