"""The torch path, on torch's CPU: the same plan gives the engine's bytes, or its numbers where sums are whole-tensor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import persona
from persona import methods
from persona.building import device
from persona.errors import UsageError
from tests.building.test_kernels import mixed
from tests.diagonals import put_diagonals
from tests.models import TinyModels, load

MakeRepo = Callable[[Path], persona.Repository]
SUMS = {"model_stock", "slerp", "nuslerp", "karcher", "sce", "iso_c", "tsv_m", "wudi", "svc"}


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("name", methods.names())
def test_torch_builds_what_the_engine_builds(
    models: TinyModels, make_repo: MakeRepo, tmp_path: Path, name: str, dtype: str
) -> None:
    repo = make_repo(models.base(dtype))
    mixed(repo, models, tmp_path / "adapter", dtype)
    _, most = methods.vectors_taken(methods.load(name))
    text = repo.recipe_path.read_text()
    for vector in ("a", "lora", "b")[: 3 - (most or 3)]:
        text = text.replace(f"[vectors.{vector}]", f"[vectors.{vector}] # off").replace("alpha = 0.8", "alpha = 0.0")
    text = text.replace("-0.7", "0.7") if hasattr(methods.load(name), "check_alphas") else text
    repo.recipe_path.write_text(f'{text}\n[merge]\nmethod = "{name}"\nscale = 0.9\n')
    if methods.weighs(methods.load(name)):
        put_diagonals(repo)
    for where in ("cpu", "torch"):
        persona.build(repo, tmp_path / where, device=where)
    ours, theirs = load(tmp_path / "cpu"), load(tmp_path / "torch")
    assert ours.keys() == theirs.keys()
    for key, tensor in ours.items():
        if name in SUMS:
            torch.testing.assert_close(
                theirs[key].float(), tensor.float(), rtol=2**-7 if dtype == "bfloat16" else 1e-4, atol=1e-6
            )
        else:
            assert torch.equal(tensor.view(torch.uint8), theirs[key].view(torch.uint8)), key
    assert persona.verify(tmp_path / "torch").ok


def test_a_device_that_is_not_there_is_named(repo: persona.Repository, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match=r"no device 'cuda'.*torch sees 0 CUDA devices"):
            persona.build(repo, tmp_path / "out", device="cuda")
    for wrong in ("gpu", "cuda:", "cuda:x", "mps"):
        with pytest.raises(UsageError, match=f"unknown device '{wrong}'"):
            device.find(wrong)


def test_the_receipt_names_the_device(repo: persona.Repository, models: TinyModels, tmp_path: Path) -> None:
    persona.commit(repo, models.run(1), name="a", alpha=0.5)
    persona.build(repo, tmp_path / "out", device="torch")
    receipt = (tmp_path / "out" / "persona.json").read_text()
    assert '"device": "cpu, torch"' in receipt
    assert f'"kernels": "torch {torch.__version__}"' in receipt
