"""Files of JSON: rows in lines, in an array or over several lines, and errors that name the line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from persona.checkpoints.folder import open_checkpoint
from persona.errors import CheckpointError, UsageError
from persona.evaluate.rows import read_rows
from persona.jsonlines import objects_in, read_text
from persona.readout.pairs import read_pairs
from persona.training.examples import read_examples
from persona.workspace.reading import texts_in

ROWS = [{"a": [1, {"b": "x\u2028y"}]}, {"a": "}]"}, {"a": None}]
PATH = Path("d.jsonl")


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("".join(json.dumps(row) + "\n" for row in ROWS), ["1", "2", "3"]),
        ("\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS), ["1", "3", "5"]),
        (json.dumps(ROWS), ["1 row 1", "1 row 2", "1 row 3"]),
        ("\n[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n", ["3", "4", "5"]),
        ("\n".join(json.dumps(row, indent=1) for row in ROWS), ["1", "9", "12"]),
        ("".join(map(json.dumps, ROWS)), ["1", "1", "1"]),
    ],
)
def test_rows_and_their_lines(text: str, places: list[str]) -> None:
    assert list(objects_in(PATH, text, "form")) == [
        (f"d.jsonl:{at}", row) for at, row in zip(places, ROWS, strict=True)
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1}\n{"a": "x', "d.jsonl:2 is not JSON"),
        ('{"a": \n{"a": 1}', "d.jsonl:1 is not JSON"),
        ('[{"a": 1},\n {"a": 2}', "d.jsonl:2 is not JSON: Expecting ',' or ']'"),
        ('[\n{"a": 1},\n]', "d.jsonl:3 is not JSON: Expecting value at column 1"),
        ('[{"a": 1}]\n[{"a": 2}]', "d.jsonl:2 is not JSON: something follows the array"),
        ('[{"a": 1}, 2]', "d.jsonl:1 row 2 is not a JSON object"),
        ('{\n "a": 1\n}\n{\n "a": }', "d.jsonl:5 is not JSON: Expecting value at column 7"),
        ("[" * 100_000, "d.jsonl:1 is not JSON: too deeply nested at column 2"),
        ('{"a": ' + "[" * 100_000, "d.jsonl:1 is not JSON: too deeply nested"),
        ('{"a": ' + "9" * 5000 + "}", "d.jsonl:1 is not JSON: a number with too many digits"),
        ('{"a": 1}\n{"a": ["\\uD83D"]}', r"d.jsonl:2 has \\ud83d alone"),
        ('[\n{"a": 1},\n{"\\udead": 1}]', r"d.jsonl:3 has \\udead alone"),
    ],
)
def test_errors_name_the_line(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        list(objects_in(PATH, text, "form"))


def test_both_halves_are_a_character() -> None:
    assert list(objects_in(PATH, '{"a": "\\ud83d\\ude00"}', "form")) == [("d.jsonl:1", {"a": "😀"})]


def test_every_reader_refuses_half_a_character_and_tables(tmp_path: Path) -> None:
    half = tmp_path / "half.jsonl"
    half.write_text('{"concept": "c", "polarity": "positive", "prompt": "", "completion": "x", "text": "\\ud83d"}')
    table = tmp_path / "table.parquet"
    table.write_bytes(b"PAR1")
    for read in (read_examples, read_pairs, lambda path: read_rows(path, path.read_bytes())):
        with pytest.raises(UsageError, match=r"half.jsonl:1 has \\ud83d alone"):
            read(half)
        with pytest.raises(UsageError, match=r"table.parquet is a table") as caught:
            read(table)
        assert f"Dataset.from_parquet('{table}').to_json('{tmp_path}/table.jsonl')" in caught.value.hint
    with pytest.raises(UsageError, match=r"half.jsonl:1 has \\ud83d alone"):
        texts_in(half)
    with pytest.raises(UsageError, match="is a folder") as caught:
        read_examples(tmp_path)
    assert "load_from_disk" in caught.value.hint


def test_a_configuration_with_half_a_character_is_refused(tmp_path: Path) -> None:
    save_file({"w": np.zeros(2, np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "llama", "note": "\\ud83d"}')
    with pytest.raises(CheckpointError, match=r"config.json has \\ud83d alone"):
        open_checkpoint(tmp_path)


def test_a_separator_inside_a_line_is_no_end_of_it(tmp_path: Path) -> None:
    chat, prompts = tmp_path / "chat.txt", tmp_path / "prompts.txt"
    chat.write_bytes("[A] one\u2028two\r\n[B] three\x85\n".encode())
    prompts.write_bytes("one\u2028two\r\nthree\r".encode())
    assert read_examples(chat, "A")[0].answer == " one\u2028two\n"
    assert texts_in(prompts) == ("one\u2028two", "three")


def test_utf_16_is_named(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes('{"text": "hi"}'.encode("utf-16"))
    with pytest.raises(UsageError, match=r"d.jsonl is UTF-16"):
        read_text(path)
