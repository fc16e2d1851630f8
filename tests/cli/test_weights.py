"""What ``diff --weights`` says, as tables, as JSON and as a picture."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

import persona
from persona.building.interference import Interference
from persona.cli.plots import heatmap
from persona.cli.tables.weights import weights as show
from persona.errors import UsageError
from tests.cli.conftest import Run
from tests.models import TinyModels

LONG = "an-answer-that-asks-before-it-tells"


@pytest.fixture
def three(models: TinyModels, repo: persona.Repository) -> persona.Repository:
    for number, name in enumerate(("listening", "suggesting", LONG), 1):
        persona.commit(repo, models.run(number), name=name)
    persona.alpha(repo, {"suggesting": -0.5})
    return repo


def on_a_terminal(report: Interference, width: int = 80, **settings: object) -> str:
    out = io.StringIO()
    show(Console(file=out, force_terminal=True, width=width, highlight=False, **settings), report, "HEAD", "HEAD~1")
    return out.getvalue()


def test_whole_then_layers(three: persona.Repository, run: Run) -> None:
    said = run(three.root, "diff", "HEAD~1", "HEAD", "--weights")
    assert said.code == 0
    assert "suggesting α 1 → -0.5" in said.out
    assert "3 vectors, linear, 21 tensors, " in said.out
    assert "Trimmed to density 0.2, as ties would: linear itself does not trim" in said.out
    lines = [line.split() for line in said.out.splitlines()]
    assert ["#", "vector", "‖τ‖/‖W‖", "mass", "survives", "entries", "survive"] in lines
    assert [line[0] for line in lines[-5:]] == [
        "model.embed_tokens", "model.layers.0", "model.layers.1", "lm_head", "model.norm"
    ]  # fmt: skip
    assert "\x1b" not in said.out


def test_80_columns_fold_names_and_no_numbers(three: persona.Repository) -> None:
    for by in ("layer", "tensor"):
        found = persona.diff(three, "HEAD~1", "HEAD", weights=True, by=by).weights
        assert found is not None
        lines = on_a_terminal(found, color_system=None).splitlines()
        assert max(map(len, lines)) <= 80
        assert LONG in "".join(lines)
        numbers = [line.split()[-1] for line in lines if line.startswith("model.layers")]
        assert numbers
        assert all(one.endswith("%") for one in numbers)


def test_no_color_is_honoured(three: persona.Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    found = persona.interference(three)
    assert "\x1b[1m" in on_a_terminal(found, color_system="standard")
    monkeypatch.setenv("NO_COLOR", "1")
    again = persona.diff(three, "HEAD~3", "HEAD", weights=True).weights
    assert again is not None
    assert "\x1b[3" not in on_a_terminal(again)


def test_many_vectors_are_listed_by_their_worst_pairs(models: TinyModels, repo: persona.Repository) -> None:
    for number in range(9):
        persona.commit(repo, models.run(1 + number % 3), name=f"v{number}")
    lines = on_a_terminal(persona.interference(repo), color_system=None).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("the most opposed pairs"))
    assert [" · " in line for line in lines[start + 1 : start + 14]] == [True] * 12 + [False]


def test_one_vector_has_no_pairs(models: TinyModels, repo: persona.Repository, run: Run) -> None:
    persona.commit(repo, models.run(1), name="one")
    said = run(repo.root, "diff", "--weights").out
    assert "1 vector, linear" in said
    assert "cosine\n" not in said
    assert "opposed" not in said
    refused = run(repo.root, "diff", "--weights", "--plot", "one.png")
    assert refused.code == 2
    assert "fewer than two active vectors" in refused.err
    assert not (repo.root / "one.png").exists()


def test_no_vector_is_said(repo: persona.Repository, run: Run) -> None:
    said = run(repo.root, "diff", "--weights")
    assert said.code == 0
    assert "Nothing to compare: no vector has a nonzero alpha." in said.out


def test_the_schema(three: persona.Repository, run: Run) -> None:
    result = json.loads(run(three.root, "diff", "HEAD~1", "HEAD", "--weights", "--json").out)["result"]
    assert list(result) == [
        "before", "after", "kinds", "differs", "changes", "weights", "tensors", "files", "unlike", "notes",
        "readouts", "measured",
    ]  # fmt: skip
    report = result["weights"]
    assert list(report) == ["method", "vectors", "densities", "assumed", "by", "whole", "rows"]
    assert (report["by"], report["assumed"], report["densities"]) == ("layer", True, [0.2, 0.2, 0.2])
    row = report["rows"][0]
    assert list(row) == [
        "name", "tensors", "entries", "vectors", "pairs", "opposed", "opposed_trimmed", "survives", "change", "retrained"
    ]  # fmt: skip
    assert list(row["vectors"][0]) == ["name", "norm", "survives", "survives_entries"]
    assert list(row["pairs"][0]) == ["one", "other", "cosine", "opposed", "opposed_trimmed"]
    assert list(row["change"]) == ["norm", "cosine"]
    assert json.loads(run(three.root, "diff", "--json").out)["result"]["weights"] is None


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG\r\n"), ("a.svg", b"<?xml"), ("b.SVG", b"<?xml")])
def test_a_picture_is_written_whole(three: persona.Repository, run: Run, name: str, begins: bytes) -> None:
    pytest.importorskip("matplotlib")
    said = run(three.root, "diff", "--weights", "--plot", name)
    assert said.code == 0, said.err
    assert f"Plot saved in {name}" in said.out
    data = (three.root / name).read_bytes()
    assert data.startswith(begins)
    assert data == heatmap.draw(persona.interference(three), Path(name).suffix)


def test_a_picture_is_written_or_not_at_all(
    three: persona.Repository, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    (three.root / "a.png").write_bytes(b"earlier")
    before = sorted(three.root.iterdir())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", full)
    monkeypatch.setattr("persona.files.Staged.write", full)
    assert run(three.root, "diff", "--weights", "--plot", "a.png").code != 0
    assert (three.root / "a.png").read_bytes() == b"earlier"
    assert sorted(three.root.iterdir()) == before


@pytest.mark.parametrize("name", ["a.pdf", "a", ".png"])
def test_other_endings_are_refused_before_the_work(three: persona.Repository, run: Run, name: str) -> None:
    refused = run(three.root, "diff", "--weights", "--plot", name)
    assert refused.code == 2
    assert "Name a file that ends in .png or .svg." in refused.err
    assert not (three.root / name).exists()


def test_without_matplotlib_it_says_what_to_install(
    three: persona.Repository, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refused = run(three.root, "diff", "--weights", "--plot", "a.png")
    assert refused.code == 2
    assert "pip install 'persona-vcs[plot]'" in refused.err
    assert run(three.root, "diff", "--weights").code == 0


@pytest.mark.parametrize("option", [["--by", "tensor"], ["--plot", "a.png"]])
def test_what_is_about_weights_needs_them(three: persona.Repository, run: Run, option: list[str]) -> None:
    refused = run(three.root, "diff", *option)
    assert refused.code == 2
    assert f"{option[0]} needs --weights" in refused.err


def test_a_picture_of_nothing_is_refused(repo: persona.Repository) -> None:
    with pytest.raises(UsageError, match="nothing to plot"):
        heatmap.draw(persona.interference(repo), ".png")
