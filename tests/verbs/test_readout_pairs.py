"""Labelled texts from every kind of source: what is written, what is refused, what is left as it was."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import persona
from persona.errors import NoRepository, Refusal, ServerError, Storage, UsageError
from persona.readout import Rules, read_pairs
from tests.graph.mcp_server import Graph, serving
from tests.readout.test_contrast import SEED

JOURNAL = Path(__file__).parents[2] / "examples" / "journal"
NODES = {path.stem: path.read_text() for path in sorted(JOURNAL.glob("*.md"))}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "pairs.jsonl"


def test_the_journal(out: Path) -> None:
    done = persona.readout_pairs(JOURNAL, out)
    good = {one.concept: (one.positive, one.negative) for one in done.concepts if one.ok}
    assert good == {"curiosity": (14, 30), "frustration": (14, 31), "warmth": (15, 29)}
    assert [one.concept for one in done.concepts if not one.ok] == ["calm", "clarity", "sadness"]
    assert (done.nodes, done.short, done.copies, done.overlaps) == (48, 1, 0, ())
    found = read_pairs(out)
    assert len(found) == done.examples == sum(map(sum, good.values()))
    assert not [one for one in found if ":9" in one.text or ":8" in one.text or one.concept not in good]
    digest = next(one for one in found if one.node == "week-in-short")
    assert digest.text.startswith("Monday: finished the tax papers, on paper at last.\n"), "the tag behind it is gone"
    assert not [one for one in found if one.node == "notes-after-the-workshop" and one.concept == "frustration"]


def test_every_source_gives_the_same_file(repo: persona.Repository, out: Path, tmp_path: Path) -> None:
    persona.readout_pairs(JOURNAL, out)
    export = tmp_path / "export.jsonl"
    export.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in NODES.items()))
    parsed = tmp_path / "parsed.jsonl"
    rows = [text.rstrip().rpartition("\n\n") for text in NODES.values()]
    tags = [dict(word.split(":") for word in last.split()) for _, _, last in rows]
    parsed.write_text(
        "".join(
            json.dumps({"id": name, "text": text, "tags": scores}) + "\n"
            for name, (text, _, _), scores in zip(NODES, rows, tags, strict=True)
        )
    )
    persona.graph_import(repo, JOURNAL)
    graph = Graph(NODES)

    def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        said = json.dumps(list(NODES)) if name == "ls" else NODES[arguments["key"]]
        return {"content": [{"type": "text", "text": said}]}

    tools = Graph({}, resources=False, tools={"ls": {}, "cat": {"properties": {"key": {}}}}, call=call)
    with serving(graph) as url, serving(tools) as other:
        for place, more in (
            (export, {}), (parsed, {}), (None, {"repo": repo}), (None, {"repo": repo, "rev": "HEAD"}), (url, {}),
            (other, {"tools": ("ls", "cat")}),
        ):  # fmt: skip
            done = persona.readout_pairs(place, tmp_path / "again.jsonl", replace=True, **more)
            assert (tmp_path / "again.jsonl").read_bytes() == out.read_bytes()
            assert done.source is not None
    assert "resources/read" in graph.methods


def test_the_graph_of_an_older_revision(repo: persona.Repository, out: Path, tmp_path: Path) -> None:
    notes = Path(shutil.copytree(JOURNAL, tmp_path / "notes"))
    persona.graph_import(repo, notes)
    for path in list(notes.glob("*.md"))[:40]:
        path.unlink()
    persona.graph_import(repo, notes)
    done = persona.readout_pairs(None, out, repo=repo, rev="HEAD~1")
    assert (done.nodes, done.source and done.source.kind) == (48, "graph")
    assert done.source
    assert done.source.place == f"HEAD~1 ({repo.resolve('HEAD~1').short})"
    assert persona.readout_pairs(None, None, repo=repo).nodes == 8


def test_a_repository_without_a_graph(repo: persona.Repository, out: Path) -> None:
    with pytest.raises(UsageError, match="has no memory graph"):
        persona.readout_pairs(None, out, repo=repo)
    with pytest.raises(UsageError, match="no revision 'mian'"):
        persona.readout_pairs(None, out, repo=repo, rev="mian")


def test_contrasts_alone_and_with_a_graph(out: Path, tmp_path: Path) -> None:
    contrast = tmp_path / "joy.json"
    contrast.write_text(json.dumps(SEED))
    alone = persona.readout_pairs(None, out, contrast=[contrast], concepts=["joy"])
    assert (alone.source, alone.examples, alone.concepts[0].by_hand) == (None, 6, 6)
    assert [one.pair for one in read_pairs(out)] == [1, 1, 2, 2, 3, 3]
    contrast.write_text(json.dumps({"warmth": SEED, "joy": SEED}))
    both = persona.readout_pairs(JOURNAL, out, contrast=[contrast], replace=True)
    counts = {one.concept: (one.positive, one.negative, one.by_hand) for one in both.concepts if one.ok}
    assert (counts["warmth"], counts["joy"]) == ((18, 32, 6), (3, 3, 6))
    graded = tmp_path / "graded.jsonl"
    graded.write_text("".join(f'{{"concept": "joy", "text": "text {n}", "label": {n}}}\n' for n in range(1, 6)))
    assert persona.readout_pairs(None, None, contrast=[graded]).middling == 3


def test_nothing_is_written_where_there_is_too_little(out: Path, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no concept has 40 texts on each side: 'warmth' has 15 positive and 29") as error:
        persona.readout_pairs(JOURNAL, out, rules=Rules(min_examples=40))
    assert "--min-examples" in error.value.hint
    with pytest.raises(Refusal, match="0 positive") as error:
        persona.readout_pairs(JOURNAL, out, concepts=["sadness"])
    assert error.value.hint == "Its highest score is 5: lower --min-positive-score."
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("No tag at all.")
    with pytest.raises(Refusal, match="no text has a score"):
        persona.readout_pairs(tmp_path / "notes", out)
    assert not out.exists()
    assert persona.readout_pairs(tmp_path / "notes", None).concepts == ()


def test_a_file_that_says_something_else_stays(out: Path) -> None:
    persona.readout_pairs(JOURNAL, out)
    before = out.stat()
    persona.readout_pairs(JOURNAL, out)
    assert out.stat().st_mtime_ns == before.st_mtime_ns, "the same again is no change"
    with pytest.raises(Refusal, match="already exists, with other contents"):
        persona.readout_pairs(JOURNAL, out, concepts=["warmth"])
    assert out.stat().st_ino == before.st_ino
    out.chmod(0o600)
    persona.readout_pairs(JOURNAL, out, concepts=["warmth"], replace=True)
    assert {one.concept for one in read_pairs(out)} == {"warmth"}
    assert out.stat().st_mode & 0o777 == 0o600


def test_what_is_asked_for_is_checked_before_a_server_is(tmp_path: Path) -> None:
    graph = Graph(NODES)
    with serving(graph) as url:
        for out, more, wrong in (
            (tmp_path, {}, "is a folder"),
            (tmp_path / "no" / "p", {}, "no folder"),
            (Path("/dev/null"), {}, "/dev/null is not a file"),
            (tmp_path / "p", {"rules": Rules(max_negative_score=8)}, "is not below"),
            (tmp_path / "p", {"tools": ("a", "b", "c")}, "more than two tools"),
        ):
            with pytest.raises(UsageError, match=wrong):
                persona.readout_pairs(url, out, **more)  # type: ignore[arg-type]
        with pytest.raises(Storage, match="no such file"):
            persona.readout_pairs(url, tmp_path / "p", contrast=[tmp_path / "nowhere"])
        assert graph.seen == []
    with pytest.raises(ServerError):
        persona.readout_pairs(url, tmp_path / "p")


def test_no_place_and_two_places(repo: persona.Repository, out: Path) -> None:
    with pytest.raises(UsageError, match="no source of texts"):
        persona.readout_pairs(None, out)
    with pytest.raises(UsageError, match="both a source and a repository"):
        persona.readout_pairs(JOURNAL, out, repo=repo)
    with pytest.raises(UsageError, match="no memory graph found at"):
        persona.readout_pairs("nowhere", out)
    with pytest.raises(NoRepository):
        persona.open(out.parent)


def test_rules_have_the_defaults_of_the_page() -> None:
    assert replace(Rules(), seed=0) == Rules(8, 2, 0, 40, 500, 8, 0)
