"""llama.cpp loads a build, the adapter of the same recipe, and a readout as control vector, and says what transformers says.

pytest tests/served/test_llama_cpp.py --real --llama-python ENV/bin/python --llama-source vendor/llama.cpp

The source has the scripts that convert folders to GGUF; they need ``sentencepiece`` besides what the tests have.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

import persona
from persona.readout.pairs import write_pairs
from tests.real.contrasts import MOOD, contrast, report
from tests.served.conftest import Answers, Served, ask, needed, run

pytestmark = pytest.mark.filterwarnings("ignore")
LAYER = 18


@pytest.fixture(scope="module")
def python(request: pytest.FixtureRequest) -> str:
    return needed(request, "--llama-python", "a Python with llama_cpp")


@pytest.fixture(scope="module")
def source(request: pytest.FixtureRequest) -> Path:
    return Path(needed(request, "--llama-source", "the sources of llama.cpp"))


def to_gguf(source: Path, folder: Path, out: Path) -> str:
    run([sys.executable, str(source / "convert_hf_to_gguf.py"), str(folder), "--outfile", str(out), "--outtype", "f32"])
    return str(out)


def same(told: dict[str, Any], said: Answers) -> None:
    apart = np.abs(np.array(told["logits"]) - said.logits).max()
    spread = said.logits.std()
    report(f"llama-cpp-python {told['version']}: logits apart by at most {apart:.1e}, of {spread:.1f} (std)")
    assert told["tokens"] == said.tokens
    assert apart < 0.01 * spread


def test_a_build(python: str, source: Path, served: Served, said: Answers, tmp_path: Path) -> None:
    model = to_gguf(source, served.build, tmp_path / "build.gguf")
    same(ask(python, "ask_llama.py", tmp_path, {"model": model, "prompts": served.prompts}), said)


def test_an_adapter(python: str, source: Path, served: Served, said: Answers, tmp_path: Path) -> None:
    model, lora = to_gguf(source, served.base, tmp_path / "base.gguf"), tmp_path / "adapter.gguf"
    convert = str(source / "convert_lora_to_gguf.py")
    run([sys.executable, convert, str(served.adapter), "--base", str(served.base), "--outfile", str(lora)])
    same(ask(python, "ask_llama.py", tmp_path, {"model": model, "lora": str(lora), "prompts": served.prompts}), said)


@pytest.mark.parametrize("strength", [4.0, -4.0])
def test_a_readout(python: str, source: Path, served: Served, said: Answers, tmp_path: Path, strength: float) -> None:
    write_pairs(tmp_path / "pairs.jsonl", contrast("mood", MOOD, 40, 1))
    persona.readout_train(tmp_path / "pairs.jsonl", tmp_path / "mood", served.build, layers="17-19")
    persona.readout_export(None, tmp_path / "mood", tmp_path / "out", format="gguf", layers=[LAYER])
    live = served.load()
    with persona.readout.steer(live, {"mood": strength}, tmp_path / "mood", layers=[LAYER]) as push:
        steered = served.answers(live)
    length = np.linalg.norm(push[LAYER]) * np.sign(strength)
    model = to_gguf(source, served.build, tmp_path / "build.gguf")
    told = ask(
        python, "ask_llama.py", tmp_path,
        {"model": model, "prompts": served.prompts, "push": as_llama_loads(tmp_path / "out/mood.gguf", length, 30)},
    )  # fmt: skip
    report(f"steered by {length:+.1f}: logits move by up to {np.abs(steered.logits - said.logits).max():.1f}")
    assert steered.tokens != said.tokens
    same(told, steered)


def as_llama_loads(file: Path, strength: float, layers: int) -> list[float]:
    """Lay a control vector out as ``common_control_vector_load`` does: `direction.N` at place N − 1."""
    tensors = {tensor.name: tensor.data for tensor in GGUFReader(file).tensors}
    (width,) = {data.size for data in tensors.values()}
    laid = np.zeros((layers, width), np.float32)
    for name, data in tensors.items():
        laid[int(name.removeprefix("direction.")) - 1] = strength * data
    return [float(value) for value in laid.reshape(-1)]
