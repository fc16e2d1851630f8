"""vLLM loads a build, and the adapter of the same recipe onto the base, and says what transformers says.

pytest tests/served/test_vllm.py --real --vllm-python ENV/bin/python
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.real.contrasts import report
from tests.served.conftest import Answers, Served, ask, needed

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def python(request: pytest.FixtureRequest) -> str:
    return needed(request, "--vllm-python", "a Python with vllm")


def same(told: dict[str, Any], said: Answers) -> None:
    logprobs = torch.log_softmax(torch.tensor(said.logits), -1)
    apart = max(abs(float(logprobs[row, told["tokens"][row][0]]) - value) for row, value in enumerate(told["logprobs"]))
    report(f"vLLM {told['version']}: first log-probability apart by at most {apart:.1e}")
    assert told["tokens"] == said.tokens
    assert apart < 1e-3


def test_a_build(python: str, served: Served, said: Answers, tmp_path: Path) -> None:
    same(ask(python, "ask_vllm.py", tmp_path, {"model": str(served.build), "prompts": served.prompts}), said)


def test_an_adapter(python: str, served: Served, said: Answers, tmp_path: Path) -> None:
    request = {"model": str(served.base), "lora": str(served.adapter), "rank": 16, "prompts": served.prompts}
    same(ask(python, "ask_vllm.py", tmp_path, request), said)
