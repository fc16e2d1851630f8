"""What a forged repository can do: nothing, with every command, whatever is forged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile import commands
from tests.hostile.world import grow

ROOT = Path(__file__).parents[2]
SAMPLE = 8
"""Forgeries of the default suite; ``--every`` tries all of them."""


def test_no_command_is_forgotten() -> None:
    assert commands.without_a_line() == []


def test_nothing_believes_a_forgery(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    lab = tmp_path / "lab"
    grow(lab)
    found = tmp_path / "found.jsonl"
    sample = [] if request.config.getoption("--every") else ["--sample", str(SAMPLE)]
    command = [sys.executable, "-m", "tests.hostile", "--world", str(lab), "--breaches", str(found), *sample]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    breaches = [json.loads(line) for line in found.read_text().splitlines()] if found.exists() else [done.stderr]
    assert done.returncode == 0, breaches
    assert json.loads(done.stdout.splitlines()[-1])["forgeries"] >= SAMPLE
