"""Who does the arithmetic of a build: a rule, a fall-back, and never a different byte."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import persona
from persona import kernels
from persona.building import run as engine
from persona.building.plan import Output, Plan, Term
from persona.ids import TensorId
from persona.kernels import plain
from persona.store.nouns import TensorSpec
from tests.models import TinyModels, load

MakeRepo = Callable[[Path], persona.Repository]
BIG = 1 << 60


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As in a process that has not loaded anything yet."""
    monkeypatch.setattr(kernels, "_tried", False)
    monkeypatch.setattr(kernels, "_compiled", None)
    monkeypatch.delattr(kernels, "compiled", raising=False)
    monkeypatch.delitem(sys.modules, "persona.kernels.compiled", raising=False)
    return monkeypatch


def test_small_jobs_are_numpys_whatever_was_loaded() -> None:
    kernels.choose(BIG)
    assert kernels.choose(kernels.WORTH - 1) is plain
    assert kernels.choose(0).name() == "numpy"


def test_large_jobs_are_numbas() -> None:
    numba = pytest.importorskip("numba")
    assert kernels.choose(kernels.WORTH).name() == f"numba {numba.__version__}"
    assert kernels.current().name() == f"numba {numba.__version__}"


def test_without_numba_numpy_does_it(untried: pytest.MonkeyPatch) -> None:
    untried.setitem(sys.modules, "numba", None)
    assert kernels.choose(BIG) is plain
    assert kernels.current() is plain


def test_a_numba_that_breaks_when_it_is_imported_is_as_none(untried: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text("raise SystemError('LLVM is of another version')")
    untried.syspath_prepend(tmp_path)
    untried.delitem(sys.modules, "numba", raising=False)
    assert kernels.choose(BIG) is plain


def test_kernels_that_give_other_bits_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = pytest.importorskip("persona.kernels.compiled")
    monkeypatch.setattr(kernels, "_tried", False)
    monkeypatch.setattr(kernels, "_compiled", None)

    def fused(left: np.ndarray, right: np.ndarray, scale: float, out: np.ndarray) -> None:
        out[:] = (left.astype(np.float64) @ right) * scale  # rounded once

    monkeypatch.setattr(compiled, "low_rank_rows", fused)
    assert kernels.choose(BIG) is plain


def test_it_is_tried_once_by_however_many_threads(untried: pytest.MonkeyPatch) -> None:
    untried.setitem(sys.modules, "numba", None)
    found: list[kernels.Kernels] = []
    threads = [threading.Thread(target=lambda: found.append(kernels.choose(BIG))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [plain] * 8


def test_with_nowhere_to_keep_what_is_compiled_it_is_compiled_for_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    numba = pytest.importorskip("numba")
    njit, asked = numba.njit, []

    def no_place(*functions: object, **options: object) -> object:
        asked.append(options)
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(*functions, **options)

    monkeypatch.setattr(numba, "njit", no_place)
    spec = importlib.util.find_spec("persona.kernels.compiled")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert {"nogil": True} in asked
    out = np.empty(3, np.float32)
    module.widen_bf16(np.array([0x3F80, 0, 0xC000], np.uint16), out)
    assert out.tolist() == [1.0, 0.0, -2.0]


def test_a_small_build_starts_no_compiler(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    persona.commit(repo, models.run(1), name="a", alpha=0.5)
    program = (
        "import sys, persona\n"
        f"persona.build(persona.open({str(repo.root)!r}), {str(tmp_path / 'out')!r})\n"
        "assert not {'numba', 'llvmlite'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_work_of_a_build_is_what_has_to_be_decoded_or_computed() -> None:
    base, tuned = (TensorSpec(TensorId(digit * 64), "BF16", (8, 4)) for digit in "ab")
    terms = (Term("a", 0.5, tuned), Term("b", 1.0, tuned))
    outputs = (
        Output("kept", "BF16", (8, 4), base, copy=base),
        Output("copied", "BF16", (8, 4), base, copy=tuned),
        Output("computed", "BF16", (8, 4), base, terms=terms),
    )
    asked: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "choose", asked.append)
        engine.loops_for(Plan(outputs, "linear", 1.0))
    assert asked == [0 + 32 + 32 * (2 + 2)]


def mixed(repo: persona.Repository, models: TinyModels, folder: Path, dtype: str) -> None:
    """A recipe of dense vectors with an adapter between them."""
    persona.commit(repo, models.run(1, dtype), name="a", alpha=0.8)
    persona.commit(repo, adapter(folder), name="lora", alpha=-0.7)
    persona.commit(repo, models.run(2, dtype), name="b", alpha=0.3)


def adapter(folder: Path) -> Path:
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 5, "target_modules": ["up_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    tensors = {}
    for layer in (0, 1):
        name = f"base_model.model.model.layers.{layer}.mlp.up_proj"
        tensors[f"{name}.lora_A.weight"] = torch.randn(3, 32) / 8
        tensors[f"{name}.lora_B.weight"] = torch.randn(48, 3) / 8
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize("asked", [None, "fp32", "fp16"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_the_bytes_are_the_same_with_and_without(
    models: TinyModels, make_repo: MakeRepo, tmp_path: Path, dtype: str, asked: str | None
) -> None:
    pytest.importorskip("numba")
    repo = make_repo(models.base(dtype))
    mixed(repo, models, tmp_path / "adapter", dtype)
    folders = {}
    for name, least in (("numba", 0), ("numpy", BIG)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernels, "WORTH", least)
            patch.setattr(kernels, "_compiled", kernels.choose(BIG) if not least else None)
            assert kernels.choose(1).name().startswith(name)
            persona.build(repo, tmp_path / name, dtype=asked)
        folders[name] = {p.name: p.read_bytes() for p in (tmp_path / name).glob("*.safetensors")}
    assert folders["numba"] == folders["numpy"]


@pytest.mark.parametrize("least", [0, BIG], ids=["numba", "numpy"])
@pytest.mark.parametrize("block", [7, 4096])
def test_nans_that_meet_give_the_same_in_any_block(
    make_repo: MakeRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, least: int
) -> None:
    """Which of two NaNs an addition keeps differs along one numpy array; what is written may not."""
    bits = {"base": 0x7FC1, "a": 0xFFC2, "b": 0x7FC4}
    for folder, value in bits.items():
        (tmp_path / folder).mkdir()
        weight = torch.from_numpy(np.full(100, value, np.uint16).view(np.int16)).view(torch.bfloat16)
        save_file({"w": weight, "one": torch.ones(1000)}, tmp_path / folder / "model.safetensors")
    repo = make_repo(tmp_path / "base")
    for name in ("a", "b"):
        persona.commit(repo, tmp_path / name, name=name, alpha=0.5)
    monkeypatch.setattr(kernels, "WORTH", least)
    monkeypatch.setattr(engine.run, "__kwdefaults__", {**engine.run.__kwdefaults__, "block": block, "memory": 1 << 20})
    persona.build(repo, tmp_path / "out")
    assert set(load(tmp_path / "out")["w"].view(torch.int16).tolist()) == {0x7FC0}


def test_rows_that_one_vector_brings_keep_every_bit(make_repo: MakeRepo, tmp_path: Path) -> None:
    rows = torch.from_numpy(np.array([[0x7F81, 0xFFE2], [0x8000, 1]], np.uint16).view(np.int16)).view(torch.bfloat16)
    base = torch.ones(3, 2, dtype=torch.bfloat16)
    for folder, weight in (("base", base), ("run", torch.cat([base * 1.5, rows]))):
        (tmp_path / folder).mkdir()
        save_file({"w": weight}, tmp_path / folder / "model.safetensors")
    repo = make_repo(tmp_path / "base")
    persona.commit(repo, tmp_path / "run", name="tokens", alpha=0.5)
    persona.build(repo, tmp_path / "out")
    built = load(tmp_path / "out")["w"]
    assert built[:3].tolist() == [[1.25, 1.25]] * 3
    assert torch.equal(built[3:].view(torch.int16), rows.view(torch.int16))
