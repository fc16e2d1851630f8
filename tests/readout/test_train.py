"""``readout train`` on a real model: the same whatever the batches, resumed after a kill, and clear about bad input."""

from __future__ import annotations

from pathlib import Path

import pytest

from persona.readout.folder import read_readout
from persona.verbs.readout_train import readout_train
from tests.readout.small import MARK, examples, small_model, texts, written


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("small") / "model")


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shared = texts(40, 1)
    return written(
        tmp_path_factory.mktemp("pairs") / "pairs.jsonl",
        examples("marked", texts(30, 2, MARK, MARK), shared),
        examples("first", texts(25, 3, "w1", "w2"), [*shared, *texts(10, 4)]),
    )


def test_it(model: Path, pairs: Path, tmp_path: Path) -> None:
    done = readout_train(pairs, tmp_path / "out", model, layers="0-3")
    print(done)
    print(read_readout(tmp_path / "out").about)
