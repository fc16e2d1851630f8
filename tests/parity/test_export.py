"""What ``export`` writes, merged by mergekit itself, is what ``build`` makes of the recipe.

Runs where mergekit can be imported, or where ``PERSONA_PEERS`` names the Python of an environment that has it.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.models import load
from tests.parity.runs import apart, folders
from tests.parity.test_mergekit import PEERS
from tests.verbs.conftest import adapted
from tests.verbs.test_export import RECIPES, exported, exporting

__all__ = ["adapted", "exported", "exporting", "folders"]  # fixtures: a base with its runs, and what was exported

pytestmark = [
    pytest.mark.skipif(PEERS is None, reason="mergekit is not installed, and PERSONA_PEERS names no Python"),
    pytest.mark.filterwarnings("ignore"),  # PEFT's and transformers' own
]

PROGRAM = """
import json, os, sys
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
for path in json.load(sys.stdin):
    os.chdir(os.path.dirname(path))
    options = MergeOptions(copy_tokenizer=False, quiet=True, write_model_card=False,
                           lora_merge_cache="merged", lora_merge_dtype="float32")
    with open(path) as file:
        run_merge(MergeConfiguration.model_validate(yaml.safe_load(file)), "theirs", options=options)
"""


@pytest.fixture(scope="module")
def merged(exported: Path) -> Path:
    """Every configuration as mergekit merges it, in one process."""
    paths = [str(path) for path in sorted(exported.glob("*/recipe.yml"))]
    assert PEERS is not None
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    done = subprocess.run(
        [PEERS, "-c", PROGRAM], input=json.dumps(paths), env=environment, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return exported


@pytest.mark.parametrize("name", RECIPES)
def test_mergekit_makes_the_same_of_it(merged: Path, name: str) -> None:
    place = merged / name.replace(" ", "-")
    assert apart(load(place / "ours"), load(place / "theirs")) < 1e-6
