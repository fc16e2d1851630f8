"""Scores are projections in the readout's units; drift is a paired difference, on models that were trained for both.

The verb ``readout drift`` is here where it needs these models; its statistics are in test_readout_drift.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import persona
from persona.demo.training import QUICK, train_base, train_behaviour
from persona.errors import CheckpointError, UsageError
from persona.inference.load import LoadedModel, from_folder
from persona.readout.folder import write_readout
from persona.readout.model import Readout
from persona.readout.score import by_token, in_units, projections
from persona.workspace.reading import texts_in
from tests.readout.made import by_chance

pytestmark = pytest.mark.usefixtures("one_thread")  # small models run fastest on one

TINY = QUICK.but(base_steps=3, behaviour_steps=3)
SINKS = {"beyond": 4.0, "texts": 0, "first": 3, "others": [0, 0], "first_length": [1, 1], "length": [1, 1]}
TEXTS = ("User: I feel sad.\nReply: I hear you.", "Hello.", "The garden takes a whole season, and then one more.")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    train_base(folder / "base", TINY)
    train_behaviour(folder / "base", "listening", folder / "listening", "full", TINY)
    return folder


@pytest.fixture(scope="module")
def readout(runs: Path) -> Readout:
    made = by_chance((0, 1), hidden=TINY.hidden)
    write_readout(runs / "mood", made)
    return made


@pytest.fixture(scope="module")
def live(runs: Path) -> LoadedModel:
    return from_folder(runs / "base", "base", "fp32")


@torch.inference_mode()
def by_hand(live: LoadedModel, readout: Readout, text: str) -> np.ndarray:
    """[tokens, concepts] at layer 0."""
    tokens = torch.tensor([live.tokenizer(text)["input_ids"]])
    return (live.model(tokens, output_hidden_states=True).hidden_states[1][0].numpy()) @ readout.vectors[0].T


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_score_is_the_mean_over_the_tokens_of_a_text(live: LoadedModel, readout: Readout, batch_size: int) -> None:
    found = projections(live, readout, TEXTS, batch_size=batch_size)
    assert found.shape == (3, 2, 2)
    for row, text in enumerate(TEXTS):
        assert np.allclose(found[row, :, 0], by_hand(live, readout, text).mean(0), atol=1e-5)
    words, values, sinks = by_token(live, readout, TEXTS[0])
    assert not sinks.any()  # the manifest has no sinks: it is read as it was made
    assert "".join(words) == TEXTS[0]
    assert np.allclose(values[:, :, 0], by_hand(live, readout, TEXTS[0]), atol=1e-5)
    without = Readout(readout.concepts, readout.layers, readout.vectors, {"sinks": SINKS})
    found = projections(live, without, TEXTS[:1], batch_size=batch_size)
    assert np.allclose(found[0, :, 0], by_hand(live, readout, TEXTS[0])[1:].mean(0), atol=1e-5)
    assert by_token(live, without, TEXTS[0])[2].sum(0).tolist() == [1, 1]
    last = Readout(readout.concepts, readout.layers, readout.vectors, {"pooling": "last"})
    assert np.allclose(projections(live, last, TEXTS)[0, :, 0], by_hand(live, readout, TEXTS[0])[-1], atol=1e-5)


def test_units_of_scores(runs: Path, live: LoadedModel, readout: Readout) -> None:
    raw = persona.readout_score(None, TEXTS, runs / "mood", runs / "base", units="raw", dtype="fp32")
    std = persona.readout_score(None, TEXTS, runs / "mood", runs / "base", dtype="fp32", per_token=True)
    assert (raw.units, std.units, std.concepts, std.layers) == ("raw", "std", readout.concepts, (0, 1))
    center, spread = np.array(readout.about["centers"]), np.array(readout.about["spreads"])
    for one, other in zip(raw.texts, std.texts, strict=True):
        assert np.allclose((np.array(one.scores) - center) / spread, other.scores, atol=1e-4)
        assert np.allclose(np.mean([token.scores for token in other.tokens], 0), other.scores, atol=1e-4)
        assert not one.tokens
    assert np.allclose(std.mean, np.mean([text.scores for text in std.texts], 0), atol=1e-5)
    assert np.allclose(std.spread, np.std([text.scores for text in std.texts], 0, ddof=1), atol=1e-5)
    assert persona.readout_score(None, TEXTS[:1], runs / "mood", runs / "base").spread is None
    write_readout(runs / "elsewhere", Readout(readout.concepts, readout.layers, readout.vectors))
    assert persona.readout_score(None, TEXTS, runs / "elsewhere", runs / "base").units == "raw"
    with pytest.raises(UsageError, match="has no 'spreads'"):
        persona.readout_score(None, TEXTS, runs / "elsewhere", runs / "base", units="std")


def test_a_revision_is_read_as_its_build_is(runs: Path, readout: Readout, tmp_path: Path) -> None:
    persona.init(tmp_path / "work", runs / "base", author="Test")
    repo = persona.open(tmp_path / "work")
    persona.commit(repo, runs / "listening", name="listening", author="Test")
    persona.build(repo, tmp_path / "out")
    here = persona.readout_score(repo, TEXTS, runs / "mood")
    there = persona.readout_score(None, TEXTS, runs / "mood", tmp_path / "out")
    assert here.mean == there.mean
    moved = persona.readout_drift(repo, "HEAD~1", "HEAD", TEXTS, runs / "mood")
    folders = persona.readout_drift(None, runs / "base", runs / "listening", TEXTS, runs / "mood")
    assert moved.shifts == folders.shifts
    assert persona.readout_drift(repo, "HEAD~1", None, TEXTS, runs / "mood").shifts == moved.shifts
    same = persona.readout_drift(repo, "HEAD", "listening", TEXTS, runs / "mood")
    assert [one.shift for one in same.shifts] == [0] * 4
    assert "None of the 2 concepts moved" in same.said


def test_remarks(runs: Path, readout: Readout, tmp_path: Path) -> None:
    about = {**readout.about, "base": "ab" * 32, "pooling": "assistant"}
    write_readout(tmp_path / "mood", Readout(readout.concepts, readout.layers, readout.vectors, about))
    persona.init(tmp_path / "work", runs / "base", author="Test")
    found = persona.readout_score(persona.open(tmp_path / "work"), TEXTS, tmp_path / "mood")
    assert [note.split()[:7] for note in found.notes] == [
        ["the", "readout", "was", "trained", "on", "a", "different"],
        ["the", "readout", "was", "trained", "on", "the", "assistant's"],
        ["the", "readout", "was", "made", "before", "attention", "sinks"],
    ]
    about["sinks"] = SINKS
    write_readout(tmp_path / "later", Readout(readout.concepts, readout.layers, readout.vectors, about))
    notes = persona.readout_score(None, TEXTS, tmp_path / "later", runs / "base").notes
    assert len(notes) == 1


def test_what_cannot_be_read(runs: Path, readout: Readout, tmp_path: Path) -> None:
    def score(texts: object = TEXTS, mood: object = runs / "mood", model: object = runs / "base") -> object:
        return persona.readout_score(None, texts, mood, model)

    with pytest.raises(UsageError, match="no readout given"):
        score(mood=None)
    with pytest.raises(CheckpointError, match="is not a readout"):
        score(mood=tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="is not a readout"):
        score(mood=runs / "base")
    with pytest.raises(UsageError, match="no text given"):
        score([])
    with pytest.raises(UsageError, match="text 1 has no tokens"):
        score([""])
    with pytest.raises(UsageError, match="reads at most 128"):
        score(["hello " * 200])
    write_readout(tmp_path / "wide", by_chance((0, 1), hidden=32))
    with pytest.raises(UsageError, match="32 wide, but the model's residual stream is 64"):
        score(mood=tmp_path / "wide")
    write_readout(tmp_path / "deep", by_chance((0, 5), hidden=64))
    with pytest.raises(UsageError, match="no layer 5"):
        score(mood=tmp_path / "deep")
    with pytest.raises(UsageError, match="at least two texts, got 1"):
        persona.readout_drift(None, runs / "base", runs / "base", TEXTS[:1], runs / "mood")


def test_files_of_texts(tmp_path: Path) -> None:
    lines = tmp_path / "a.txt"
    lines.write_text("one\n\n two \n")
    assert texts_in(lines) == ("one", " two ")
    assert texts_in(lines, whole=True) == ("one\n\n two \n",)
    table = tmp_path / "a.jsonl"
    table.write_text("\n".join(json.dumps({"text": text, "more": 1}) for text in ("a\nb", "c")) + "\n")
    assert texts_in(table) == texts_in(table, whole=True) == ("a\nb", "c")
    for text, message in (
        ("[1]", "1 row 1 is not a JSON object"),
        ("\n{", "2 is not JSON"),
        ('{"text": 3}', "1: missing 'text'"),
        ("\n", "has no text"),
    ):
        table.write_text(text)
        with pytest.raises(UsageError, match=message):
            texts_in(table)
    table.write_bytes(b"\xff")
    with pytest.raises(UsageError, match="not UTF-8"):
        texts_in(table)


def test_in_units_keeps_the_shape() -> None:
    readout = by_chance((0, 1))
    values = np.zeros((4, 3, 2, 2), "f4")
    assert in_units(readout, values, "raw") is values
    wanted = -np.array(readout.about["centers"]) / np.array(readout.about["spreads"])
    assert np.allclose(in_units(readout, values, "std"), wanted)
