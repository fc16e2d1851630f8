"""``persona readout train`` as it is typed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from persona.cli.main import invoke
from persona.readout.folder import read_readout
from tests.forks import Forks
from tests.readout.small import MARK, examples, small_model, texts, written


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and pairs, side by side."""
    root = tmp_path_factory.mktemp("typed")
    small_model(root / "model")
    shared = texts(40, 1)
    written(
        root / "pairs.jsonl",
        examples("marked", texts(30, 2, *[MARK] * 4), shared),
        examples("unmarked", shared, texts(30, 2, *[MARK] * 4)),
        examples("nothing", texts(30, 5), texts(30, 6)),
        examples("rare", texts(2, 7), texts(30, 6)),
    )
    return root


def test_it_prints_what_directions_are_worth(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    typed = ["readout", "train", "--model", "model", "--pairs", "pairs.jsonl", "-o", "out", "--layers", "0-3"]
    assert invoke(["-C", str(place), *typed]) == 0
    said = capsys.readouterr().out
    assert "Wrote out: 4 concepts at 4 layers of 4" in said
    assert re.search(r"marked +24 \+ 32 +6 \+ 8 +\d +1\.00 +0\.72–1\.00", said)
    assert re.search(r"^ attention sinks left out: 132 first tokens$", said, re.M)
    assert re.search(r"AUC +layer 0 +1 +2 +3", said)
    assert re.search(r"^ marked, unmarked +-1\.00$", said, re.M)
    assert re.search(r"^nothing is not worth using", said, re.M)
    assert re.search(r"^rare has too few texts to hold any out", said, re.M)
    assert invoke(["-C", str(place), *typed]) == 1  # it is there


def test_json_has_it_all(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = [
        "readout",
        "train",
        "--model",
        "model",
        "--pairs",
        "pairs.jsonl",
        "-o",
        "json",
        "--concept",
        "marked",
        "--json",
    ]
    assert invoke(["-C", str(place), *typed]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    (one,) = result["concepts"]
    assert (one["concept"], one["layers"][0]["auc"], one["verdict"]) == ("marked", 1.0, None)
    assert read_readout(place / "json").concepts == ("marked",)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["--pairs", "pairs.jsonl", "--model", "model"], "missing option '-o'"),
        (["-o", "x", "--model", "model"], "missing option '--pairs'"),
        (["--pairs", "none.jsonl", "-o", "x", "--model", "model"], "none.jsonl: no such file"),
        (["--pairs", "pairs.jsonl", "-o", "x"], "--model FOLDER"),
        (["--pairs", "pairs.jsonl", "-o", "x", "--model", "nowhere"], "a vector of the recipe or a folder"),
        (["--pairs", "pairs.jsonl", "-o", "x", "--model", "model", "--aggregator", "pcb"], "Did you mean 'pca'?"),
        (["--pairs", "pairs.jsonl", "-o", "x", "--model", "model", "--layers", "7"], "no layer 7"),
        (["--pairs", "pairs.jsonl", "-o", "x", "--model", "model", "--concept", "markd"], "Did you mean 'marked'?"),
    ],
)
def test_mistakes_are_named(place: Path, capsys: pytest.CaptureFixture[str], typed: list[str], words: str) -> None:
    assert invoke(["-C", str(place), "readout", "train", *typed]) != 0
    assert words in capsys.readouterr().err
    assert not (place / "x.partial").exists()


def test_whoever_stops_it_is_told_how_to_go_on(place: Path, forks: Forks) -> None:
    """Ctrl-C while texts are read: two lines, the work is kept, and the same command ends it."""
    program = (
        "from persona.readout import capturing\n"
        "from persona.cli import main\n"
        "first = capturing._stacked\n"
        "def stacked(*args):\n"
        "    import os, signal\n"
        "    if not hasattr(main, 'done'):\n"
        "        main.done = 1\n"
        "        return first(*args)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return first(*args)\n"
        "capturing._stacked = stacked\n"
        "main.run()"
    )
    typed = ["readout", "train", "--model", "model", "--pairs", "pairs.jsonl", "-o", "stopped"]
    done = forks.run(["python", "-c", program, *typed], cwd=place)
    assert done.returncode == 130
    assert "stopped.partial: run the same command to resume" in done.stderr
    assert invoke(["-C", str(place), *typed]) == 0
    assert not (place / "stopped.partial").exists()
