"""An error, and a kill, at every file effect of a training: the readout is there whole or not at all, and a rerun ends it."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from persona import files
from persona.errors import Storage
from persona.readout import working
from persona.readout.folder import is_readout, read_readout
from persona.readout.working import folder_of
from persona.verbs.readout.train import readout_train
from tests.readout.small import MARK, examples, small_model, texts, written


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faults")
    small_model(root / "model", num_hidden_layers=2)
    written(root / "pairs.jsonl", examples("marked", texts(6, 1, MARK), texts(6, 2)))
    return root


def train(place: Path, out: Path) -> None:
    readout_train(place / "pairs.jsonl", out, place / "model", batch_size=4)


def failing(at: int, fail: Callable[[], None]) -> Callable[[str, Path], None]:
    seen = 0

    def watch(_effect: str, _path: Path) -> None:
        nonlocal seen
        seen += 1
        if seen == at:
            fail()

    return watch


def full() -> None:
    raise OSError(errno.ENOSPC, "no space left on device")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed(place: Path, out: Path, at: int) -> None:
    """Train in a child that is killed at an effect."""
    child = os.fork()
    if child == 0:
        files.observer = failing(at, die)
        train(place, out)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["error", "kill"])
def test_at_every_effect(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr(working, "PATIENCE", 0.0)  # a file of rows for each batch
    effects: list[str] = []
    monkeypatch.setattr(files, "observer", lambda effect, _: effects.append(effect))
    train(place, tmp_path / "whole")
    wanted = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert len(effects) > 20
    for at in range(1, len(effects) + 1):
        out = tmp_path / f"{fault}-{at}"
        if fault == "kill":
            monkeypatch.setattr(files, "observer", None)
            killed(place, out, at)
        else:
            monkeypatch.setattr(files, "observer", failing(at, full))
            with pytest.raises(Storage, match="no space left"):
                train(place, out)
        monkeypatch.setattr(files, "observer", None)
        if out.exists():  # it failed at what comes after
            assert is_readout(out)
        else:
            train(place, out)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == wanted
        assert read_readout(out).concepts == ("marked",)
    assert not [path for path in tmp_path.glob("*.partial") if not path.with_suffix("").is_dir()]
    assert folder_of(tmp_path / "whole").name == "whole.partial"
