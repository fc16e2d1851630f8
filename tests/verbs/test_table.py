"""The table of experiments: what is set in each commit, and what was measured."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

import persona
from persona.cli.main import invoke
from persona.history.evaluations import Evaluation, Figure
from persona.recipe.builds import build_digest
from persona.repository import Repository, now
from tests.models import TinyModels

LOSSES = {"a": (2.0, 3.0, 4.0, 3.0), "b": (1.0, 2.0, 3.5, 1.5)}
"""Losses of four examples after the commits that add the vectors."""


@pytest.fixture(scope="module")
def work(models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The base, a, b (both measured), and a branch 'aside' with another alpha of a."""
    root = tmp_path_factory.mktemp("table") / "work"
    persona.init(root, models.base(), author="Test")
    repo = persona.open(root)
    persona.commit(repo, models.run(1), name="a", alpha=0.5, message="add a")
    keep(repo, LOSSES["a"])
    persona.commit(repo, models.run(2), name="b", alpha=0.25, message="add b")
    keep(repo, LOSSES["b"])
    persona.switch(repo, "aside", create=True)
    persona.alpha(repo, {"a": 1.0})
    path = repo.root / "persona.toml"
    path.write_text(path.read_text().replace("alpha = 0.25", "alpha = [0.1, 0.2]") + "\n[merge]\nscale = 0.5\n")
    persona.commit(repo, message="=by depth\x1b")
    persona.switch(repo, "main")
    return repo


def keep(repo: Repository, losses: tuple[float, ...]) -> None:
    """Store a suite's results for HEAD, as an evaluation does."""
    ones = (1.0,) * len(losses)
    figure = Figure(
        measure="answers", name="loss", better="lower", unit="nats", value=sum(losses) / len(losses), low=None, high=None,
        totals=losses, counts=ones,
    )  # fmt: skip
    build = build_digest(repo.recipe(repo.head()))
    with repo.exclusive("test"):
        repo.evaluations.keep("5" * 64, Evaluation(build, "calm", "d" * 64, 0, None, now(), {}, (figure,)))


def subjects(repo: Repository, **options: object) -> list[str]:
    return [row.subject for row in persona.table(repo, **options).rows]  # type: ignore[arg-type]


def test_a_row_for_each_commit(work: Repository) -> None:
    done = persona.table(work)
    assert [(row.subject, dict(row.alphas), row.names) for row in done.rows] == [
        ("add b", {"a": 0.5, "b": 0.25}, ("main",)),
        ("add a", {"a": 0.5}, ()),
        (done.rows[2].subject, {}, ()),
    ]
    assert (done.vectors, [column.name for column in done.measures]) == (("a", "b"), ["calm answers loss"])
    new, old, base = (row.figures for row in done.rows)
    assert (new[0].value, old[0].value, base) == (2.0, 3.0, ())
    assert (new[0].change, old[0].change) == (pytest.approx(-1.0), None)  # the base was not measured
    assert done.rows[0].parent == done.rows[1].commit


def test_sorting_and_conditions(work: Repository) -> None:
    last = persona.table(work).rows[-1].subject
    aside = "=by depth\x1b"
    assert sorted(subjects(work, everything=True)) == sorted(subjects(work, revs="aside"))
    assert subjects(work, revs="aside", limit=1) == [aside]
    assert subjects(work, sort="calm answers loss") == ["add b", "add a", last]
    assert subjects(work, sort="calm answers loss", reverse=True) == ["add a", "add b", last]
    assert subjects(work, reverse=True) == [last, "add a", "add b"]
    assert subjects(work, where=["a>=0.5", "calm answers loss<2.5"]) == ["add b"]
    assert subjects(work, revs="aside", where=["scale!=1"]) == [aside]
    assert subjects(work, revs="aside", where=["b>0"]) == ["a α 0.5 → 1", "add b"]  # by depth is no number
    assert subjects(work, where=["method = ties"]) == []
    for wrong, words in (
        ({"sort": "calm loss"}, "no column 'calm loss'"),
        ({"where": ["a"]}, "'a' is not a condition"),
        ({"where": ["a>x"]}, "'x' is not a number"),
        ({"where": ["c>1"]}, "no column 'c'"),
        ({"revs": "nowhere"}, "nowhere"),
    ):
        with pytest.raises(persona.PersonaError, match=words):
            persona.table(work, **wrong)  # type: ignore[arg-type]


def test_the_command(work: Repository, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def run(*words: str | Path) -> str:
        capsys.readouterr()
        invoke(["-C", str(work.root), "table", *map(str, words)])
        said = capsys.readouterr()
        return said.out + said.err

    out = run("aside")
    assert "\x1b" not in out
    lines = out.splitlines()
    assert lines[0].split() == ["commit", "a", "b", "method", "scale", "calm", "answers", "loss"]
    assert "2.000 (-1.000" in next(line for line in lines if "add b" in line)
    assert "0.1 … 0.2" in lines[1]
    assert "No commit meets" in run("--where", "a>9")
    rows = list(csv.DictReader(io.StringIO(run("--csv"))))
    assert [(row["subject"], row["a"], row["calm answers loss"]) for row in rows[:2]] == [
        ("add b", "0.5", "2.0"), ("add a", "0.5", "3.0"),
    ]  # fmt: skip
    assert float(rows[0]["calm answers loss change"]) == pytest.approx(-1.0)
    picture = tmp_path / "history.svg"
    assert run("--plot", picture).endswith(f"Plot saved in {picture}\n")
    assert picture.read_text().startswith("<?xml")
    assert "nothing to draw" in run("--where", "a>9", "--plot", picture)
    assert "exclude each other" in run("--csv", "--json")
