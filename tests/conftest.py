"""Real, tiny models: what the tests commit and build is what transformers itself wrote."""

from __future__ import annotations

import os
import signal

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import persona
from tests.forks import Forks
from tests.models import TinyModels

for _number in (signal.SIGHUP, signal.SIGINT):
    # Under nohup, or in the background, we ignore these, and a program that we start would inherit that. A function that does
    # nothing ignores them, too, and is not inherited.
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda number, frame: None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        skip = pytest.mark.skip(reason="takes minutes: run with --slow")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small models run fastest on one, above all where other workers want the cores, and to the same bits as in processes that do so."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """A factory of checkpoints; folders are shared by all tests, so treat them as read-only."""
    return TinyModels(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Runs ``python …`` and ``persona …`` in forks of a process that has imported torch."""
    server = Forks(tmp_path_factory.mktemp("forks"))
    yield server
    server.close()


@pytest.fixture
def make_repo(tmp_path: Path) -> Callable[[Path], persona.Repository]:
    """A fresh repository around a base checkpoint."""

    def make(base: Path) -> persona.Repository:
        root = tmp_path / "work"
        persona.init(root, base, author="Test <test@example.org>")
        return persona.open(root)

    return make


@pytest.fixture
def repo(models: TinyModels, make_repo: Callable[[Path], persona.Repository]) -> persona.Repository:
    """A repository around the tiny bf16 Llama."""
    return make_repo(models.base())
