"""Any recipe as an adapter of a given rank: the nearest one, and what it misses is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

import persona
from persona.errors import Refusal
from tests.checkpoints.peft_folders import build, train
from tests.models import TinyModels, load, nudge
from tests.verbs.test_build_adapter import CASES, TOKENS, adapted, committed, deltas

pytestmark = pytest.mark.filterwarnings("ignore")  # peft's and transformers' own

MakeRepo = Callable[[Path], persona.Repository]
UNIT = 2.0**-24


def changes(base: Path, out: Path) -> dict[str, torch.Tensor]:
    """W_build − W_base in fp64."""
    before = load(base)
    return {name: tensor.double() - before[name].double() for name, tensor in load(out).items()}


def test_a_full_fine_tune_is_told_as_it_is(models: TinyModels, make_repo: MakeRepo, tmp_path: Path) -> None:
    """The oracle is torch's SVD of an fp32 build; two vectors, so that the sum counts and not the vectors."""
    repo = make_repo(models.base())
    persona.commit(repo, models.run(1), name="one", alpha=0.8)
    persona.commit(repo, models.run(2), name="two", alpha=-0.4)
    done = persona.build(repo, tmp_path / "out", as_adapter=True, rank=3)
    persona.build(repo, tmp_path / "whole", dtype="fp32")
    change = changes(models.base(), tmp_path / "whole")
    report = done.adapter
    assert report is not None
    told = {one.name: one for one in report.tensors}
    change = {name: delta for name, delta in change.items() if delta.any()}
    norms = {name for name, delta in change.items() if delta.ndim == 1}
    assert {one.name for one in report.left_out} == norms
    assert set(told) == set(change) - norms
    missed = whole = 0.0
    for name, delta in change.items():
        whole += float(delta.square().sum())
        if name in norms:
            missed += float(delta.square().sum())
            continue
        best = float(torch.linalg.svdvals(delta)[3:].square().sum())
        missed += best
        assert told[name].norm == pytest.approx(float(delta.norm()), rel=1e-6)
        assert told[name].error == pytest.approx((best / float(delta.square().sum())) ** 0.5, rel=1e-5)
    assert report.error == pytest.approx((missed / whole) ** 0.5, rel=1e-5)
    assert persona.verify(tmp_path / "out").ok


def test_peft_loads_the_nearest_one(models: TinyModels, make_repo: MakeRepo, tmp_path: Path) -> None:
    repo = make_repo(models.base())
    persona.commit(repo, models.run(1), name="one")
    persona.build(repo, tmp_path / "out", as_adapter=True, rank=5)
    persona.build(repo, tmp_path / "whole", dtype="fp32")
    for name, delta in changes(models.base(), tmp_path / "whole").items():
        if delta.ndim == 2:
            u, s, vt = torch.linalg.svd(delta, full_matrices=False)
            best = u[:, :5] * s[:5] @ vt[:5]
            found = deltas(models.base(), tmp_path / "out")[name.removesuffix(".weight")]
            torch.testing.assert_close(found, best, rtol=0, atol=100 * UNIT * float(s[0]))


def test_a_planted_rank_comes_back(models: TinyModels, make_repo: MakeRepo, tmp_path: Path) -> None:
    """A fine-tune that moved one matrix by a product of rank 3: found up to the rounding of W + δ and of the factors."""
    base = load(models.base("float32"))
    name = "model.layers.1.mlp.up_proj.weight"
    generator = torch.Generator().manual_seed(0)
    planted = torch.randn(48, 3, generator=generator) @ torch.randn(3, 32, generator=generator) * 0.01
    model = AutoModelForCausalLM.from_pretrained(models.base("float32"))
    model.load_state_dict({**base, name: base[name] + planted})
    model.save_pretrained(tmp_path / "run")
    repo = make_repo(models.base("float32"))
    persona.commit(repo, tmp_path / "run", name="planted")
    done = persona.build(repo, tmp_path / "out", as_adapter=True, rank=3)
    assert done.adapter is not None
    [told] = done.adapter.tensors
    assert (told.name, told.rank) == (name, 3)
    rounded = float((UNIT * (base[name].abs() + 2 * planted.abs())).norm()) + 10 * UNIT * float(planted.norm())
    assert told.error * told.norm <= rounded
    with torch.no_grad():
        answers = adapted(models.base("float32"), tmp_path / "out")(TOKENS)[0]
        torch.testing.assert_close(answers, model.eval()(TOKENS)[0])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rank", [2, 64])
def test_lora_vectors_are_compressed_as_factors(make_repo: MakeRepo, tmp_path: Path, case: str, rank: int) -> None:
    """The oracle is torch's SVD of peft's own ΔW; ranks that fit are kept as they are."""
    name, vectors = CASES[case]
    repo, _ = committed(make_repo, tmp_path, name, vectors)
    done = persona.build(repo, tmp_path / "out", as_adapter=True, rank=rank)
    wanted: dict[str, torch.Tensor] = {}
    for number, (alpha, _) in enumerate(vectors):
        for module, delta in deltas(tmp_path / "base", tmp_path / f"a{number}").items():
            wanted[module] = wanted.get(module, torch.zeros_like(delta)) + alpha * delta
    assert done.adapter is not None
    told = {one.name.removesuffix(".weight"): one for one in done.adapter.tensors}
    found = deltas(tmp_path / "base", tmp_path / "out")
    assert set(told) == set(found) == set(wanted)
    for module, delta in wanted.items():
        s = torch.linalg.svdvals(delta)
        best, whole = float(s[rank:].square().sum().sqrt()), float(delta.norm())
        missed = float((found[module] - delta).norm())
        assert best * (1 - 1e-9) <= missed + 1e-14 * whole <= best + 30 * UNIT * whole, module
        assert told[module].error * whole == pytest.approx(missed, rel=1e-6, abs=30 * UNIT * whole)
        assert told[module].rank <= rank


def test_a_mixed_recipe(models: TinyModels, make_repo: MakeRepo, tmp_path: Path) -> None:
    """A full fine-tune of the MLPs and an adapter of the attention, each compressed in its own way."""
    base = AutoModelForCausalLM.from_pretrained(models.base("float32"))
    train(base, LoraConfig(r=4, target_modules=["q_proj"]), tmp_path / "adapter")
    repo = make_repo(models.base("float32"))
    persona.commit(repo, models.run(1, "float32", only="mlp"), name="dense")
    persona.commit(repo, tmp_path / "adapter", name="lora", alpha=0.5)
    done = persona.build(repo, tmp_path / "out", as_adapter=True, rank=8)
    persona.build(repo, tmp_path / "whole")
    assert done.adapter is not None
    told = {one.name: one.error for one in done.adapter.tensors}
    for name, delta in changes(models.base("float32"), tmp_path / "whole").items():
        if ".mlp." in name:
            s = torch.linalg.svdvals(delta)
            assert told[name] == pytest.approx(float(s[8:].norm() / s.norm()), rel=1e-5)
    assert all(error <= 4 * UNIT for name, error in told.items() if "q_proj" in name)


def test_new_rows_tensors_and_settings_are_named(models: TinyModels, make_repo: MakeRepo, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(models.base("float32"))
    model.resize_token_embeddings(100, mean_resizing=False)
    nudge(model, 1).save_pretrained(tmp_path / "run")
    repo = make_repo(models.base("float32"))
    persona.commit(repo, tmp_path / "run", name="grown")
    done = persona.build(repo, tmp_path / "out", as_adapter=True, rank=4)
    assert done.adapter is not None
    left = {one.name: one for one in done.adapter.left_out}
    assert left["model.embed_tokens.weight"].why == "it has rows that the base does not have"
    wanted = load(tmp_path / "run")["model.embed_tokens.weight"].double()
    wanted[:96] -= load(models.base("float32"))["model.embed_tokens.weight"].double()
    assert left["model.embed_tokens.weight"].norm == pytest.approx(float(wanted.norm()), rel=1e-6)


def test_conv1d_and_embeddings_of_a_full_fine_tune(make_repo: MakeRepo, tmp_path: Path) -> None:
    """GPT-2 stores [in, out], square matrices included, and positions are embeddings, too."""
    model = build("GPT2LMHeadModel", tie_word_embeddings=False)
    model.save_pretrained(tmp_path / "base")
    nudge(model, 3).save_pretrained(tmp_path / "run")
    repo = make_repo(tmp_path / "base")
    persona.commit(repo, tmp_path / "run", name="a")
    done = persona.build(repo, tmp_path / "out", as_adapter=True, rank=64)
    assert done.adapter is not None
    assert all(len(load(tmp_path / "base")[one.name].shape) == 1 for one in done.adapter.left_out)
    change = changes(tmp_path / "base", tmp_path / "run")
    found = deltas(tmp_path / "base", tmp_path / "out")
    assert {f"{name}.weight" for name in found} == {name for name, delta in change.items() if delta.ndim == 2}
    for name, delta in found.items():
        torch.testing.assert_close(delta, change[f"{name}.weight"], rtol=0, atol=1e-6)


def test_nan_is_refused_by_name(make_repo: MakeRepo, tmp_path: Path) -> None:
    for folder, value in (("base", 0.0), ("run", float("nan"))):
        (tmp_path / folder).mkdir()
        save_file({"up.weight": torch.full((8, 8), value)}, tmp_path / folder / "model.safetensors")
    repo = make_repo(tmp_path / "base")
    persona.commit(repo, tmp_path / "run", name="broken")
    with pytest.raises(Refusal, match=r"the change to up\.weight contains NaN"):
        persona.build(repo, tmp_path / "out", as_adapter=True, rank=2)
    assert not (tmp_path / "out").exists()


def test_nothing_that_an_adapter_could_say(models: TinyModels, make_repo: MakeRepo, tmp_path: Path) -> None:
    repo = make_repo(models.base())
    persona.commit(repo, models.run(1, only="norm", std=0.1), name="norms")
    with pytest.raises(Refusal, match=r"no adapter can represent this recipe: model\.\S+norm"):
        persona.build(repo, tmp_path / "out", as_adapter=True, rank=2)


def test_the_same_bytes_each_time_and_whatever_the_threads(
    models: TinyModels, make_repo: MakeRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = make_repo(models.base())
    persona.commit(repo, models.run(1), name="one")
    persona.build(repo, tmp_path / "first", as_adapter=True, rank=3)
    monkeypatch.setattr("persona.threads.cores", lambda: 1)
    persona.build(repo, tmp_path / "second", as_adapter=True, rank=3)
    one, two = ((tmp_path / folder / "adapter_model.safetensors").read_bytes() for folder in ("first", "second"))
    assert one == two
