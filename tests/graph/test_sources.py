"""Folders and JSONL files as graphs; what every source is held to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona.errors import PersonaError, UsageError
from persona.graph import sources
from persona.graph.sources import SourceOptions, names, read
from persona.graph.sources.jsonl import read as read_jsonl

FOLDER = Path(__file__).parents[2] / "examples" / "graph"


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


@pytest.mark.parametrize("name", names())
def test_every_source_keeps_the_protocol(name: str, tmp_path: Path) -> None:
    source = sources.load(name)
    assert source.SUMMARY
    assert not source.accepts(str(tmp_path / "nothing"))
    assert not source.accepts("")


def test_the_nodes_of_the_seeds() -> None:
    found = read(str(FOLDER))
    assert {node.name: dict(node.tags) for node in found.nodes} == {
        "core-personality": {"core": None, "warmth": 8, "clarity": 9},
        "pattern-listening-as-avoidance": {"pattern": None, "attention": 9, "warmth": 8},
        "pattern-wrapping-up-reflex": {"pattern": None, "presence": 8},
        "rushing-pattern": {"pattern": None, "patience": 9},
    }
    assert found.links["pattern-listening-as-avoidance"] == ("core-personality", "rushing-pattern")
    assert all(not node.text.startswith("---") and ":9" not in node.text for node in found.nodes)


def test_a_folder(tmp_path: Path) -> None:
    for name in ("a.md", "sub/b.TXT", "c.markdown", ".hidden.md", ".git/x.md", "picture.png", "nameless.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"about {name}")
    (tmp_path / "d.md").write_text("---\nname: e\n---\nabout e")
    assert {node.name: node.text for node in read(str(tmp_path)).nodes} == {
        "a": "about a.md", "b": "about sub/b.TXT", "c": "about c.markdown", "e": "about e"
    }  # fmt: skip


def test_two_files_of_one_name_are_both_named(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.md", "sub/a.txt"):
        (tmp_path / name).write_text("x")
    with pytest.raises(UsageError, match=r"two nodes are named 'a': .*a\.md and .*sub/a\.txt"):
        read(str(tmp_path))


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("x")
    (tmp_path / "notes" / "again.md").symlink_to("a.md")
    assert len(read(str(tmp_path / "notes")).nodes) == 2
    (tmp_path / "notes" / "b.md").symlink_to(tmp_path / "secret")
    with pytest.raises(UsageError, match=r"b\.md links to a file outside"):
        read(str(tmp_path / "notes"))


def test_files_that_are_no_text_or_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.md").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"a\.md is not UTF-8"):
        read(str(tmp_path))
    (tmp_path / "a.md").write_text("x" * 101)
    monkeypatch.setattr(sources, "LARGEST_TEXT", 100)
    with pytest.raises(UsageError, match=r"a\.md: the text is too long for a node: 101 characters"):
        read(str(tmp_path))
    (tmp_path / "a.md").write_text("x")
    (tmp_path / "b.md").write_text("x")
    monkeypatch.setattr(sources, "MOST_NODES", 1)
    with pytest.raises(UsageError, match="more than 1 nodes"):
        read(str(tmp_path))


@pytest.mark.parametrize("place", ["missing", "file.csv", "empty"])
def test_places_that_are_no_graph(place: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.csv").touch()
    with pytest.raises(UsageError, match=f"{place}$"):
        read(str(tmp_path / place))


def test_jsonl_in_every_form(tmp_path: Path) -> None:
    path = write(
        tmp_path / "g.jsonl",
        {"id": "a", "text": "about a, see [[b]]\n\nwarmth:9", "tags": {"clarity": 8}, "links": ["c", "a"]},
        "",
        {"key": "b", "content": "about b", "tags": ["x", "warmth:2"]},
        {"name": "c", "text": "about c", "more": [1, {}]},
    )
    found = read(str(path))
    assert [(node.name, node.text, dict(node.tags)) for node in found.nodes] == [
        ("a", "about a, see [[b]]", {"clarity": 8, "warmth": 9}),
        ("b", "about b", {"x": None, "warmth": 2}),
        ("c", "about c", {}),
    ]
    assert found.links == {"a": ("c", "b"), "b": (), "c": ()}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a JSON object"),
        ('{"text": "x"}', "no id"),
        ('{"id": 7, "text": "x"}', "the id is not a string"),
        ('{"id": "a"}', "no text"),
        ('{"id": "a", "text": null}', "no text"),
        ('{"id": "a\\u0007", "text": "x"}', "is not a valid name for a node"),
        ('{"id": "first", "text": "x"}', "two nodes are named 'first'"),
    ],
)
def test_what_is_wrong_with_a_line_is_said_with_its_number(row: str, said: str, tmp_path: Path) -> None:
    path = write(tmp_path / "g.jsonl", {"id": "first", "text": "x"}, row)
    with pytest.raises(UsageError, match=r"g\.jsonl:2") as error:
        read(str(path))
    assert said in error.value.message


def test_a_lone_surrogate_and_control_characters_do_no_harm(tmp_path: Path) -> None:
    path = write(
        tmp_path / "g.jsonl", r'{"id": "a", "text": "x\ud800y\u001b[2Jz", "tags": ["\ud800"], "links": ["\ud800"]}'
    )
    (node,) = read(str(path)).nodes
    assert node.text == "x\ufffdy\ufffd[2Jz"
    assert list(node.tags) == ["\ufffd"]


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_no_bytes_are_a_bug(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "g.jsonl"
    path.write_bytes(b"\n".join(lines))
    try:
        list(read_jsonl(str(path), SourceOptions()))
        read(str(path))
    except PersonaError as error:
        assert error.hint


def test_addresses_are_shown_without_secrets() -> None:
    assert sources.without_secrets("https://me:pw@host:1/a?token=x#y") == "https://host:1/a"
    assert sources.without_secrets("http://host?token=x@y") == "http://host"
    assert sources.without_secrets("notes?x@y") == "notes?x@y"
