"""``persona readout pairs`` on the command line: what it prints, how wide, and how it fails."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

import persona
from persona.readout import read_pairs
from tests.cli.conftest import Run
from tests.cli.test_pager import on_a_terminal
from tests.graph.mcp_server import Graph, serving
from tests.readout.test_contrast import SEED
from tests.verbs.test_readout_pairs import JOURNAL, NODES

TABLE = """\
Wrote pairs.jsonl: 133 examples of 3 concepts
 from notes: 48 nodes, 1 too short

concept      positive  negative  between  only mentioned
curiosity          14        30        2               1
frustration        14        31        1               1
warmth             15        29        2               1

Too little data, left out:
 calm  1 positive, 38 negative
 clarity  0 positive, 46 negative; the highest score is 7
 sadness  0 positive, 45 negative; the highest score is 5
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with the journal; no repository."""
    shutil.copytree(JOURNAL, tmp_path / "work" / "notes")
    return tmp_path / "work"


def test_a_folder(run: Run, work: Path) -> None:
    said = run(work, "readout", "pairs", "notes", "-o", "pairs.jsonl")
    assert (said.code, said.err) == (0, "")
    assert said.out == TABLE
    assert len(read_pairs(work / "pairs.jsonl")) == 133


def test_a_dry_run_writes_nothing(run: Run, work: Path) -> None:
    said = run(work, "readout", "pairs", "notes", "--dry-run")
    assert said.out == TABLE.replace("Wrote pairs.jsonl:", "Would write")
    assert [path.name for path in work.iterdir()] == ["notes"]


def test_options_reach_the_rules(run: Run, work: Path) -> None:
    options = ("--min-positive-score", "5", "--max-negative-score", "1", "--max-negative-mentions", "1")
    more = ("--min-content-chars", "150", "--max-examples-per-concept", "12", "--min-examples", "2", "--seed", "3")
    said = run(
        work, "readout", "pairs", "notes", "-o", "p", *options, *more, "--concept", "Warmth", "--concept", "calm"
    )
    assert said.code == 0
    rows = [re.split(" {2,}", line) for line in said.out.splitlines()]
    assert rows[3] == ["concept", "positive", "negative", "chosen of", "between", "only mentioned"]
    assert [row[0] for row in rows[4:]] == ["calm", "warmth"]
    found = read_pairs(work / "p")
    assert max(sum(o.concept == "warmth" and o.positive == side for o in found) for side in (True, False)) == 12
    assert min(len(one.text) for one in found) >= 150


def test_it_fits_a_narrow_terminal_and_says_what_comes_next(work: Path) -> None:
    for number in range(9):
        (work / "notes" / f"x{number}.md").write_text(
            f"{number}. " + "Bread and talk, until late. " * 3 + "\n\nwarmth:9 care:9"
        )
    contrast = work / "joy.json"
    contrast.write_text(json.dumps({"joy": SEED}))
    args = ("notes", "-o", "p", "--contrast", "joy.json", "--max-examples-per-concept", "20")
    seen = on_a_terminal(work, "readout", "pairs", *args, rows=60)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in seen.text.replace("\r", "").splitlines()]
    assert max(map(len, lines)) <= 80
    assert " care and warmth  9 texts, 100% of the rarer" in lines
    row = next(line for line in lines if line.startswith("concept"))
    assert row.split() == [
        "concept",
        "positive",
        "negative",
        "chosen",
        "of",
        "by",
        "hand",
        "between",
        "only",
        "mentioned",
    ]
    assert "hint: 'persona readout train" in lines[-1]


def test_long_lists_are_cut_short(run: Run, work: Path) -> None:
    tags = " ".join(f"tag{chr(97 + n)}:9" for n in range(20))
    for number in range(9):
        (work / "notes" / f"x{number}.md").write_text(
            f"{number}. " + "Bread and talk, until late. " * 3 + f"\n\n{tags}"
        )
    (work / "notes" / "y.md").write_text("Nothing here.\n\n" + tags.replace("tag", "rare"))
    said = run(work, "readout", "pairs", "notes", "--dry-run").out
    assert " … and 178 more: --json has all\n" in said
    assert said.endswith(" … and 11 more: --json has all\n")


def test_the_graph_of_a_repository(run: Run, repo: persona.Repository, work: Path) -> None:
    root = repo.root
    said = run(root, "readout", "pairs", "-o", "p")
    assert (said.code, "has no memory graph" in said.err, "persona graph import PATH" in said.err) == (2, True, True)
    run(root, "graph", "import", work / "notes")
    commit = repo.head().short
    assert f" from HEAD ({commit}): 48 nodes, 1 too short\n" in run(root, "readout", "pairs", "-o", "p").out
    assert f" from main ({commit}): 48" in run(root, "readout", "pairs", "--graph", "main", "-o", "p").out
    (work / "joy.json").write_text(json.dumps({"joy": SEED}))
    alone = run(root, "readout", "pairs", "--contrast", work / "joy.json", "-o", "joy")
    assert alone.out.startswith("Wrote joy: 6 examples of 1 concept\n\nconcept")
    both = run(root, "readout", "pairs", "--contrast", work / "joy.json", "--graph", "HEAD", "-o", "both")
    assert both.out.startswith("Wrote both: 139 examples of 4 concepts\n")
    assert persona.log(repo)[0].commit.short == commit
    assert not repo.is_edited(), "nothing in the repository changes"


def test_a_server(run: Run, work: Path) -> None:
    with serving(Graph(NODES)) as url:
        assert f" from {url}: 48 nodes" in run(work, "readout", "pairs", url, "-o", "p").out
    said = run(work, "readout", "pairs", url, "-o", "q")
    assert (said.code, "cannot be reached" in said.err) == (69, True)
    assert not (work / "q").exists()


def test_statements_labelled_from_one_to_five(run: Run, work: Path) -> None:
    rows = [json.dumps({"concept": "joy", "text": f"text {n}", "label": n}) for n in range(1, 6)]
    (work / "graded.jsonl").write_text("\n".join(rows))
    said = run(work, "readout", "pairs", "--contrast", "graded.jsonl", "-o", "p").out
    assert " left out: 3 statements labelled 2, 3 or 4\n" in said


def test_paths_are_relative_to_the_folder_given(run: Run, work: Path, tmp_path: Path) -> None:
    assert run(tmp_path, "-C", work, "readout", "pairs", "notes", "-o", "p.jsonl").code == 0
    assert (work / "p.jsonl").is_file()


def test_json(run: Run, work: Path) -> None:
    said = run(work, "readout", "pairs", "notes", "-o", "p", "--json")
    result = json.loads(said.out)["result"]
    assert (result["out"], result["examples"], result["source"]["kind"]) == ("p", 133, "folder")
    assert result["concepts"][1]["concept"] == "clarity"
    assert result["concepts"][1]["ok"] is False


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["notes"], 2, ["no output file given", "-o PAIRS"]),
        (["notes", "-o", "p", "--dry-run"], 2, ["cannot be combined"]),
        (["-o", "p"], 10, ["no persona repository", "Give a SOURCE"]),
        (["-o", "p", "--graph", "main"], 10, ["no persona repository"]),
        (["", "-o", "p"], 2, ["the path is empty"]),
        (["notse", "-o", "p"], 2, ["no memory graph found at notse"]),
        (["notes", "-o", "p", "--concept", "warmht"], 2, ["'warmht'", "Did you mean 'warmth'?"]),
        (["notes", "-o", "notes"], 2, ["notes is a folder"]),
        (["notes", "-o", "no/p"], 2, ["no folder no"]),
        (["notes", "-o", "p", "--min-examples", "99"], 1, ["no concept has 99", "--min-examples"]),
        (["notes", "-o", "p", "--max-negative-score", "8"], 2, ["8 is not below"]),
        (
            ["notes", "-o", "p", "--max-examples-per-concept", "3"],
            2,
            ["max_examples 3 is below min_examples 8", "--min-examples"],
        ),
        (["notes", "-o", "p", "--contrast", "nowhere"], 74, ["nowhere: no such file"]),
        (["notes", "-o", "p", "--min-positive-score", "high"], 2, ["'high'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_mistakes_are_two_lines(run: Run, work: Path, args: list[str], code: int, words: list[str]) -> None:
    said = run(work, "readout", "pairs", *args)
    assert (said.code, said.out) == (code, "")
    assert len(said.err.splitlines()) == 2
    for word in words:
        assert word in said.err
    assert json.loads(run(work, "readout", "pairs", *args, "--json").out)["error"]["exit_code"] == code
    assert not (work / "p").exists()


def test_a_mistyped_command_of_the_group(run: Run, work: Path) -> None:
    said = run(work, "readout", "pars")
    assert (said.code, said.err.splitlines()) == (
        2,
        ["error: 'persona readout' has no command 'pars'", "hint: Did you mean 'pairs'? See 'persona readout --help'."],
    )
    assert "pairs" in run(work, "readout", "--help").out


def test_the_guide_shows_what_is_printed() -> None:
    guide = JOURNAL.parents[1] / "docs" / "guide.md"
    assert TABLE.replace(" from notes:", " from examples/journal:") in guide.read_text()
