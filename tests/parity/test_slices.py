"""What ``import`` makes of mergekit's slices is what mergekit merges.

Runs where mergekit can be imported, or where ``PERSONA_PEERS`` names the Python of an environment that has it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import persona
from persona.recipe.alphas import Depths
from tests.models import load
from tests.parity.runs import apart, folders
from tests.parity.test_mergekit import PEERS, PROGRAM

__all__ = ["folders"]  # the fixture: a base with its runs

pytestmark = pytest.mark.skipif(PEERS is None, reason="mergekit is not installed, and PERSONA_PEERS names no Python")

ARITHMETIC = {"merge_method": "task_arithmetic", "parameters": {"normalize": False}}
SLICES: dict[str, tuple[Mapping[str, Any], list[dict[str, Any]]]] = {
    "one slerp": (
        {"merge_method": "slerp", "parameters": {"t": 0.3}},
        [{"models": ["base", "run-1"]}],
    ),
    "one with depth": (
        ARITHMETIC,
        [{"models": ["base", "run-1", "run-2"], "parameters": {"weight": [0.2, 1.0]}}],
    ),
    "several": (
        ARITHMETIC,
        [
            {"models": ["base", "run-1", "run-2"], "parameters": {"weight": 0.7}},
            {"models": ["base", "run-1", "run-2"],
             "parameters": {"weight": [{"filter": "mlp", "value": 0.25}, {"value": -0.5}]}},
        ],
    ),
    "several ties": (
        {"merge_method": "ties", "parameters": {"density": 0.25, "weight": 1.0}},
        [
            {"models": ["base", "run-1", "run-2"], "parameters": {"density": 0.5}},
            {"models": ["base", "run-1", "run-2"], "parameters": {"density": 0.5, "weight": 0.5}},
        ],
    ),
}  # fmt: skip


def config(folder: Path, shared: Mapping[str, Any], slices: list[dict[str, Any]]) -> dict[str, Any]:
    """The slices, with the layers of the base shared out among them."""
    (layers,) = Depths.of(load(folder / "base")).blocks.values()
    written = []
    for number, piece in enumerate(slices):
        ends = [layers * number // len(slices), layers * (number + 1) // len(slices)]
        sources = [{"model": str(folder / name), "layer_range": ends} for name in piece["models"]]
        written.append({"sources": sources, **({"parameters": piece["parameters"]} if "parameters" in piece else {})})
    return {**shared, "slices": written, "base_model": str(folder / "base"), "dtype": "float32"}


def test_imported_slices_build_what_mergekit_merges(folders: Path, tmp_path: Path) -> None:
    assert PEERS is not None
    jobs = {name: config(folders, *said) for name, said in SLICES.items()}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    given = json.dumps({str(tmp_path / "theirs" / name): job for name, job in jobs.items()})
    done = subprocess.run(
        [PEERS, "-c", PROGRAM], input=given, env=environment, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    persona.init(tmp_path / "work", folders / "base", author="Test <test@example.org>")
    repo = persona.open(tmp_path / "work")
    found = {}
    for name, job in jobs.items():
        (tmp_path / "slices.yml").write_text(json.dumps(job))  # JSON is YAML
        persona.import_(repo, tmp_path / "slices.yml", replace=True)
        persona.build(repo, tmp_path / name)
        found[name] = apart(load(tmp_path / name), load(tmp_path / "theirs" / name))
    assert max(found.values()) < 5e-7, found
