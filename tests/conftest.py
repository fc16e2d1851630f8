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
from transformers import AutoModelForCausalLM

import persona
from tests.amount import WHOLE
from tests.forks import Forks
from tests.models import TinyModels, nudge, on_one_thread, tiny_llama, write_adapter

for _number in (signal.SIGHUP, signal.SIGINT):
    # Under nohup, or in the background, we ignore these, and a program that we start would inherit that. A function that does
    # nothing ignores them, too, and is not inherited.
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda number, frame: None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--slow", action="store_true", help="also run the tests that take minutes, and draw all random inputs"
    )
    parser.addoption("--real", action="store_true", help="also run the tests with SmolLM2-135M-Instruct: minutes")
    parser.addoption("--vllm-python", metavar="PYTHON", help="with --real: a Python with vllm, to serve builds with")
    parser.addoption("--llama-python", metavar="PYTHON", help="with --real: a Python with llama-cpp-python")
    parser.addoption("--llama-source", metavar="FOLDER", help="with --real: the sources of llama.cpp")
    parser.addoption(
        "--every", action="store_true", help="try every effect, every moment and every forgery, not a share: hours"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--slow"):
        os.environ[WHOLE] = "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for option, mark in (("--slow", "slow"), ("--every", "every")):
        if not config.getoption(option):
            skip = pytest.mark.skip(reason=f"takes minutes: run with {option}")
            for item in items:
                if mark in item.keywords:
                    item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What persona remembers of its user is not written into the home folder of whoever runs the tests."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    with on_one_thread():
        yield


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


@pytest.fixture(scope="session")
def adapter(models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(models.base(), tmp_path_factory.mktemp("adapters") / "style")


@pytest.fixture(scope="session")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with eight new tokens."""
    model = nudge(tiny_llama(), 5)
    model.resize_token_embeddings(104)
    folder = tmp_path_factory.mktemp("grown") / "grown"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def twin(models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first run with other norms: it shares most tensors with it."""
    folder = tmp_path_factory.mktemp("twin") / "twin"
    model = AutoModelForCausalLM.from_pretrained(models.run(1), dtype="auto")
    nudge(model, 9, 0.1, only="norm").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def full(models: TinyModels, twin: Path, adapter: Path, grown: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a repository with two dense vectors that share tensors, one that grows, and an adapter."""
    root = tmp_path_factory.mktemp("full") / "work"
    persona.init(root, models.base(), author="Test <test@example.org>")
    repo = persona.open(root)
    persona.commit(repo, models.run(1), name="a", message="add a")
    persona.commit(repo, twin, name="b", message="add b")
    persona.commit(repo, grown, name="grown", message="add grown")
    persona.commit(repo, adapter, name="style", message="add style")
    return root
