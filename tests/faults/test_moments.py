"""Long commands killed at seeded moments: whenever they, transformers or Optuna touch a file.

The same command then goes on, or begins anew, and ends where it would have ended; the repository passes fsck, and persona.toml
is the old one or the new one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

import persona
from persona.readout.folder import is_readout, read_readout
from tests.faults.conftest import Zygote
from tests.faults.starts import SWEEP, TUNE, Starts
from tests.faults.test_every_effect import Case, Trial, Trials, check_offer, check_taken, check_whole
from tests.models import TinyModels

DEFAULT = ("train",)
"""Commands that are killed once without --every, with which all are killed at every moment."""


def check_readout(root: Path, start: Path) -> None:
    """The readout is there and whole, or not there."""
    check_whole(root)
    if (root / "mood").exists():
        assert is_readout(root / "mood")
        read_readout(root / "mood")


def check_trained(root: Path, end: Path) -> None:
    """The readout is the one that an undisturbed run makes, and nothing else is left but unfinished files."""
    check_readout(root, end)
    left = {path.name for path in root.iterdir() if ".tmp-" not in path.name}
    assert left == {path.name for path in end.iterdir()}
    for path in (end / "mood").iterdir():
        assert (root / "mood" / path.name).read_bytes() == path.read_bytes()


def check_run(root: Path, end: Path) -> None:
    """The run's folder has its result, and no checkpoint any more; what a killed write left counts for nothing."""
    check_whole(root)
    kept = ["anchors.jsonl", "final", "lock", "log.jsonl", "result.json", "run.json"]
    found = {path.name for path in (root / "runs" / "data").iterdir() if ".tmp-" not in path.name}
    assert sorted(found) == kept


STEPS = ("max_steps=3", "save_every=1", "rank=2")
CASES = {
    "train": Case(
        ("train", "--data", "data.jsonl", *(word for step in STEPS for word in ("--set", step))),
        "taught",
        moves=True,
        done=check_run,
        calls=True,
    ),
    "readout train": Case(
        ("readout", "train", "--model", "model", "--pairs", "pairs.jsonl", "-o", "mood", "--layers", "1"),
        "labelled",
        whole=check_readout,
        done=check_trained,
        calls=True,
    ),
    "tune --write": Case((*TUNE, "--write"), "suited", whole=check_offer, done=check_taken, calls=True),
    "sweep --write": Case((*SWEEP, "--write"), "suited", whole=check_offer, done=check_taken, calls=True),
}


@pytest.fixture(scope="module")
def starts(models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Starts:
    return Starts(models, tmp_path_factory.mktemp("moments"))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_killed_at_seeded_moments(
    starts: Starts,
    zygote: Zygote,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    request: pytest.FixtureRequest,
    name: str,
) -> None:
    every = request.config.getoption("--every")
    if not every and name not in DEFAULT:
        pytest.skip("takes a minute: run with --every")
    trial = Trial(name, CASES[name], Trials(starts, zygote, tmp_path, record_property))
    calls = range(1, trial.run_whole() + 1)
    moments = list(calls) if every else [random.Random(name).choice(calls)]
    for at in moments:
        code = trial.run(at, "kill")
        assert code == -9 or (code == 0 and at > 0.8 * len(calls)), at
        if code:
            trial.check()
        assert persona.fsck(persona.open(trial.root)).ok
    record_property("fault points", len(moments))
