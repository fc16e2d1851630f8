"""``persona graph`` on the command line: what it prints, how wide, and how it fails."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import persona
from tests.cli.conftest import Run
from tests.cli.conftest import run as run  # the fixture
from tests.graph.example import FOLDER, TABLE, edit
from tests.graph.example import notes as notes  # the fixture
from tests.graph.example import whole as whole  # the fixture
from tests.graph.mcp_server import Graph, serving


def test_a_day_with_the_graph(run: Run, whole: persona.Repository, notes: Path) -> None:
    root = whole.root
    edit(notes, "core-personality", "No is a whole sentence", "No is enough")
    (notes / "new.md").write_text("New.")
    said = run(root, "graph", "import", notes).out
    assert re.match(r"\[main \w{7}\] graph: 5 nodes \(1 new, 1 changed\)\n", said)
    assert said.splitlines()[1:] == [
        " ~ core-personality  text changed", " + new", " stale: boundaries (persona graph status)"
    ]  # fmt: skip
    said = run(root, "graph", "status").out
    rows = [line.split("  ")[0] for line in said.splitlines()]
    assert rows[3] == "core-personality#boundaries", "the worst first"
    assert re.search(r"^new +no vector", said, re.MULTILINE)
    assert said.splitlines()[-1] == "Next: persona commit RUN --as boundaries"
    assert "persona graph link core-personality#boundaries boundaries\n" in said
    assert "\nStale: boundaries (persona graph status)\n" in run(root, "status").out
    assert re.search(
        r"^Node:   core-personality#boundaries, as of \w{7}, stale$", run(root, "show", "boundaries").out, re.M
    )
    assert "-No is a whole sentence" in run(root, "graph", "diff").out
    assert "~ core-personality  text changed  stale: boundaries\n" in run(root, "graph", "diff", "HEAD~1").out
    assert "still implements" in run(root, "graph", "link", "core-personality#boundaries", "boundaries").out
    assert "No differences from" in run(root, "graph", "diff").out
    assert "\n    ## Boundaries\n\n    No is enough" in run(root, "graph", "show", "core-personality#boundaries").out
    assert "    → rushing-pattern\n" in run(root, "graph", "show").out
    assert "has not changed" in run(root, "graph", "import", notes).out
    (notes / "new.md").unlink()
    assert "has not changed" in run(root, "graph", "import", notes, "--keep-missing").out
    assert " - new\n" in run(root, "graph", "import", notes).out


def test_long_graphs_are_cut_short_and_all_shows_them(run: Run, repo: persona.Repository, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for number in range(40):
        (tmp_path / "many" / f"node-{number:02}.md").write_text("x")
    assert " … and 28 more: persona graph diff HEAD~1\n" in run(repo.root, "graph", "import", tmp_path / "many").out
    assert "… and 28 more nodes without a vector: persona graph status --all\n" in run(repo.root, "graph", "status").out
    assert run(repo.root, "graph", "status", "--all").out.count("no vector") == 40


def test_it_fits_a_narrow_terminal(whole: persona.Repository) -> None:
    main, side = pty.openpty()
    env = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    subprocess.run(
        [sys.executable, "-m", "persona", "graph", "status"], cwd=whole.root, env=env, stdout=side, check=True
    )
    os.close(side)
    said = os.read(main, 1 << 16).decode()
    os.close(main)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in said.replace("\r", "").splitlines()]
    assert max(map(len, lines)) <= 80
    assert len([line for line in lines if line.strip().endswith("up to date")]) == len(TABLE)


@pytest.mark.parametrize(
    "args",
    [["import", str(FOLDER)], ["status"], ["diff"], ["diff", "HEAD~1"], ["show"], ["show", "rushing-pattern"],
     ["link", "rushing-pattern", "voice"], ["unlink", "voice"]],
    ids=" ".join,
)  # fmt: skip
def test_json(run: Run, whole: persona.Repository, args: list[str]) -> None:
    said = run(whole.root, "graph", *args, "--json")
    assert said.code == 0
    found = json.loads(said.out)
    assert found["command"] == f"graph {args[0]}"
    assert found["result"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["link", "rushing-patern", "voice"], ["no node 'rushing-patern'", "Did you mean 'rushing-pattern'?"]),
        (["link", "rushing-pattern", "vioce"], ["no vector 'vioce'", "Did you mean 'voice'?"]),
        (["show", "core-personality#voise"], ["no section 'voise'", "Did you mean 'voice'?"]),
        (["status", "mian"], ["no revision 'mian'", "Did you mean 'main'?"]),
        (["diff", "HEAD~99"], ["goes further back"]),
        (["import", "nowhere"], ["no memory graph found at", "MCP server"]),
        (["import", "http://"], ["not the address of a server"]),
        (["import", ""], ["the path is empty"]),
        (["unlink", "vioce"], ["no vector 'vioce'"]),
        (["imprt"], ["imprt"]),
        (["import", str(FOLDER), "--timeout", "0"], ["--timeout"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_mistakes_are_two_lines(run: Run, whole: persona.Repository, args: list[str], words: list[str]) -> None:
    said = run(whole.root, "graph", *args)
    assert said.code == 2
    assert len(said.err.splitlines()) == 2
    for word in words:
        assert word in said.err
    assert json.loads(run(whole.root, "graph", *args, "--json").out)["error"]["exit_code"] == 2


def test_a_server_on_the_command_line(run: Run, whole: persona.Repository) -> None:
    nodes = {path.stem: path.read_text() for path in FOLDER.glob("*.md")}
    with serving(Graph(nodes)) as url:
        assert "has not changed" in run(whole.root, "graph", "import", url).out, "the same as the folder's"
        nodes["rushing-pattern"] = "# Rushing\n\nAnother text."
        assert "stale: not_rushing" in run(whole.root, "graph", "import", url).out
        assert f"4 nodes from {url}" in run(whole.root, "graph", "status").out
    said = run(whole.root, "graph", "import", url)
    assert said.code == 69
    assert "cannot be reached: connection refused" in said.err
    assert "Traceback" not in said.err
    error = json.loads(run(whole.root, "graph", "import", url, "--json").out)["error"]
    assert (error["kind"], error["exit_code"]) == ("ServerError", 69)


def test_paths_are_relative_to_the_folder_given(run: Run, whole: persona.Repository, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, whole.root / "notes")
    assert run(tmp_path, "-C", whole.root, "graph", "import", "notes").code == 0
