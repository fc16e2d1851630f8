"""What other implementations fell into, one test for each.

Order of sets: ``tests/building/test_same_bytes.py`` builds under several hash seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

import persona
from persona import kernels, methods
from persona.building import run as engine
from persona.errors import Refusal, UsageError, WrongBase
from persona.methods.parts import order, ranks
from persona.methods.parts.share import Share
from persona.methods.parts.sums import Dot
from tests.methods.by_rule import merged, wanted
from tests.methods.test_golden import repository, write_recipe
from tests.models import TinyModels, load

MakeRepo = Callable[[Path], persona.Repository]
NAMES = methods.names()
POSITIVE = 0.5
"""An alpha that every method takes."""


def count_for(method: str) -> int:
    """Two vectors are what every method takes."""
    least, most = methods.vectors_taken(methods.load(method))
    assert least <= 2 <= (most or 2)
    return 2


@pytest.mark.parametrize("method", ["ties", "breadcrumbs", "breadcrumbs_ties"])
@pytest.mark.parametrize("entries", [1, 2, 3, 7])
def test_a_trim_leaves_something_of_a_tiny_tensor(method: str, entries: int) -> None:
    tau = np.arange(1, entries + 1, dtype=np.float32)
    given = {"density": 0.01}
    shares = [Share(1.0, 0, methods.settings(methods.load(method).PARAMETERS, given))]
    found = merged(method, tau * 0, [tau], shares, given, 4096)
    assert found.tolist() == [0.0] * (entries - 1) + [entries]


@pytest.mark.parametrize("method", ["breadcrumbs", "breadcrumbs_ties"])
@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_breadcrumbs_without_an_outlier_to_drop_keeps_its_share(method: str, density: float) -> None:
    """γn < 1: "all but the last 0" is nothing where a slice counts from the end."""
    tau = np.arange(1, 51, dtype=np.float32)
    given = {"density": density, "gamma": 0.01}
    shares = [Share(1.0, 0, methods.settings(methods.load(method).PARAMETERS, given))]
    found = merged(method, tau * 0, [tau], shares, given, 4096)
    assert np.count_nonzero(found) == 50 * density
    assert found[-1] == 50


def test_energies_of_a_light_fine_tune_still_weigh() -> None:
    """SCE's weights are ratios: a floor on the energies makes them uniform for runs that moved by 1e-4."""
    base = np.zeros(3, np.float32)
    taus = [np.array([3, 0, 1], np.float32) * np.float32(2**-13), np.array([-1, 1, 2], np.float32) * np.float32(2**-13)]
    shares = [Share(1.0, number, {"select_topk": 1.0}) for number in range(2)]
    for found in (merged("sce", base, taus, shares, {}, 4096), wanted("sce", base, taus, shares, {})):
        np.testing.assert_allclose(found * 2**13, [3, 1, 1.375], rtol=1e-6)
        assert abs(found[2] * 2**13 - 1.5) > 0.1, "the uniform mean"


def test_ranks_are_whole_numbers() -> None:
    """In bf16 there are 256 numbers from 256 to 512, and only 128 from 512 to 1024, where a row may have thousands."""
    row = np.random.default_rng(0).permutation(5000).astype(np.float32)[None]
    assert sorted(ranks.ranked(row)[0].tolist()) == list(range(5000))
    assert len(np.unique(ranks.chances(row, 0.5, 0.4))) == 5000


@pytest.mark.parametrize("least", [0, 1 << 60], ids=["numba", "numpy"])
@pytest.mark.parametrize("method", ["dare_linear", "dare_ties", "della", "della_linear"])
def test_an_l1_norm_beyond_fp16(
    make_repo: MakeRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, least: int
) -> None:
    """30,000 entries that moved by 8 have a norm of 240,000, and fp16 ends at 65,504."""
    pytest.importorskip("numba")
    base, anchor = torch.ones(100, 300, dtype=torch.float16), torch.full((100, 300), 100.0)
    for name, weights in (("base", base), ("run", base + 8)):
        (tmp_path / name).mkdir()
        save_file({"w": weights, "anchor": anchor}, tmp_path / name / "model.safetensors")
    repo = make_repo(tmp_path / "base")
    persona.commit(repo, tmp_path / "run", name="v1")
    write_recipe(repo, method, [1.0], {"rescale": "l1", "density": 0.5})
    monkeypatch.setattr(kernels, "WORTH", least)
    persona.build(repo, tmp_path / "out")
    delta = load(tmp_path / "out")["w"].float() - 1
    kept = delta != 0
    assert 0.48 < kept.float().mean() < 0.52
    torch.testing.assert_close(
        delta[kept], torch.full_like(delta[kept], 8 / float(kept.float().mean())), rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("method", NAMES)
def test_a_dtype_that_is_asked_for_is_given(
    models: TinyModels, repo: persona.Repository, tmp_path: Path, method: str, dtype: str
) -> None:
    for number in range(count_for(method)):
        persona.commit(repo, models.run(number + 1), name=f"v{number + 1}")
    write_recipe(repo, method, [POSITIVE] * count_for(method))
    persona.build(repo, tmp_path / "out", dtype=dtype)
    wanted = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    assert {tensor.dtype for tensor in load(tmp_path / "out").values()} == {wanted}


@pytest.mark.parametrize("method", NAMES)
def test_a_tied_head_is_one_tensor(models: TinyModels, make_repo: MakeRepo, tmp_path: Path, method: str) -> None:
    repo = make_repo(models.base(tie_word_embeddings=True))
    for number in range(count_for(method)):
        persona.commit(repo, models.run(number + 1, tie_word_embeddings=True), name=f"v{number + 1}")
    write_recipe(repo, method, [POSITIVE] * count_for(method))
    persona.build(repo, tmp_path / "out")
    assert "lm_head.weight" not in load(tmp_path / "out")
    built = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert built.lm_head.weight.data_ptr() == built.model.embed_tokens.weight.data_ptr()


def test_another_size_is_an_error_and_no_warning(models: TinyModels, repo: persona.Repository) -> None:
    with pytest.raises(WrongBase, match=r"\[48, 32\].*\[64, 32\]|\[64, 32\].*\[48, 32\]|mlp"):
        persona.commit(repo, models.base(intermediate_size=64), name="other")


@pytest.mark.parametrize("method", NAMES)
def test_new_tokens_are_there_under_every_method(make_repo: MakeRepo, tmp_path: Path, method: str) -> None:
    base = torch.linspace(1, 2, 60).reshape(10, 6)
    runs = [base + 0.125, torch.cat([base + 0.25, torch.full((2, 6), 7.0)])]
    for number, weights in enumerate([base, *runs]):
        (tmp_path / f"run-{number}").mkdir()
        save_file({"embed.weight": weights}, tmp_path / f"run-{number}" / "model.safetensors")
    repo = make_repo(tmp_path / "run-0")
    for number in (1, 2):
        persona.commit(repo, tmp_path / f"run-{number}", name=f"v{number}")
    write_recipe(repo, method, [POSITIVE, POSITIVE])
    persona.build(repo, tmp_path / "out")
    built = load(tmp_path / "out")["embed.weight"]
    assert built.shape == (12, 6)
    assert built[10:].tolist() == [[7.0] * 6] * 2


@pytest.mark.parametrize("device", ["cpu", "torch"])
@pytest.mark.parametrize("method", ["iso_c", "tsv_m"])
def test_a_matrix_without_singular_values_is_refused_by_name(
    make_repo: MakeRepo, tmp_path: Path, method: str, device: str
) -> None:
    broken = np.full((3, 4), 0.5, np.float32)
    broken[1, 2] = np.nan
    repo = repository(make_repo, tmp_path, np.ones((3, 4), np.float32), [broken, np.ones((3, 4), np.float32) / 4])
    write_recipe(repo, method, [1.0, 1.0])
    with pytest.raises(Refusal, match="w contains NaN or infinity") as error:
        persona.build(repo, tmp_path / "out", device=device)
    assert 'except = ["w"]' in error.value.hint


def test_sums_do_not_depend_on_where_blocks_end() -> None:
    """Rows of 70 entries make blocks of 4060, which are no multiple of what is added up together."""
    values = np.random.default_rng(1).normal(0, 1, 50_000).astype(np.float32)
    sums = set()
    for step in (4096, 4060, 70, 1 << 17, 12_345):
        total = Dot()
        for start in range(0, len(values), step):
            total.add(values[start : start + step], values[start : start + step])
        sums.add(total.value)
    assert len(sums) == 1


def test_a_density_holds_where_magnitudes_are_few(make_repo: MakeRepo, tmp_path: Path) -> None:
    """Twelve entries of one magnitude, density ¼: three stay, spread over the tensor, not all and not none."""
    repo = repository(make_repo, tmp_path, np.ones(12, np.float32), [np.full(12, 0.5, np.float32)])
    write_recipe(repo, "ties", [1.0], {"density": 0.25})
    persona.build(repo, tmp_path / "out")
    assert int((load(tmp_path / "out")["w"] != 1).sum()) == 3
    assert order.kept_of(0.25, 12) == 3


def test_a_block_that_cuts_a_row_does_not_matter(make_repo: MakeRepo, tmp_path: Path) -> None:
    """DELLA ranks within rows: rows of 5000 entries, blocks of 4096."""
    rng = np.random.default_rng(2)
    base = rng.normal(0, 1, (3, 5000)).astype(np.float32)
    repo = repository(make_repo, tmp_path, base, [rng.normal(0, 0.01, (3, 5000)).astype(np.float32)])
    write_recipe(repo, "della", [1.0], {"rescale": "l1"})
    found = []
    for block in (4096, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine.run, "__kwdefaults__", {**engine.run.__kwdefaults__, "block": block})
            persona.build(repo, tmp_path / f"out-{block}")
        found.append(load(tmp_path / f"out-{block}")["w"].numpy().tobytes())
    assert found[0] == found[1]


ODD = [(), (1,), (1, 1), (3, 1), (1, 5), (2, 3, 4), (2, 1, 3, 3)]


@pytest.mark.parametrize("least", [0, 1 << 60], ids=["numba", "numpy"])
@pytest.mark.parametrize("method", NAMES)
def test_tensors_of_any_shape(
    make_repo: MakeRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, least: int
) -> None:
    """Scalars, single rows and columns, convolutions, tensors without entries."""
    pytest.importorskip("numba")
    generator = torch.Generator().manual_seed(0)
    for number in range(3):
        (tmp_path / f"run-{number}").mkdir()
        tensors = {
            f"w{n}": torch.ones(shape) + 0.1 * number * torch.rand(shape, generator=generator)
            for n, shape in enumerate(ODD)
        }
        tensors = {name: tensor.bfloat16() for name, tensor in tensors.items()} | {"none": torch.empty(0, 7)}
        save_file(tensors, tmp_path / f"run-{number}" / "model.safetensors")
    repo = make_repo(tmp_path / "run-0")
    for number in (1, 2):
        persona.commit(repo, tmp_path / f"run-{number}", name=f"v{number}")
    write_recipe(repo, method, [POSITIVE, POSITIVE])
    monkeypatch.setattr(kernels, "WORTH", least)
    persona.build(repo, tmp_path / "out", dtype="fp32")
    built = load(tmp_path / "out")
    assert [tuple(built[f"w{n}"].shape) for n in range(len(ODD))] == ODD
    assert built["none"].shape == (0, 7)
    assert all(
        tensor.isfinite().all() and (tensor - 1).abs().max() < 0.7 for name, tensor in built.items() if name != "none"
    )


REFUSED = [
    ("nuslerp", [1.0], "nuslerp merges 2 vectors, and the recipe has 1: v1"),
    ("nuslerp", [1.0, 1.0, 1.0], "nuslerp merges 2 vectors, and the recipe has 3: v1, v2, v3"),
    ("slerp", [1.0, 1.0, 1.0], "slerp merges 1 or 2 vectors, and the recipe has 3"),
    ("nuslerp", [1.0, -1.0], "nuslerp takes alphas of one sign"),
    ("karcher", [1.0, -0.5], "karcher takes positive alphas"),
]


@pytest.mark.parametrize(("method", "alphas", "said"), REFUSED, ids=[f"{m} {a}" for m, a, _ in REFUSED])
def test_what_a_method_cannot_merge_is_refused(
    make_repo: MakeRepo, tmp_path: Path, method: str, alphas: list[float], said: str
) -> None:
    """By name, before anything is written."""
    taus = [np.full((2, 2), 0.25 * (n + 1), np.float32) for n in range(len(alphas))]
    repo = repository(make_repo, tmp_path, np.ones((2, 2), np.float32), taus)
    write_recipe(repo, method, alphas)
    with pytest.raises(UsageError, match=said) as error:
        persona.build(repo, tmp_path / "out")
    assert error.value.hint
    assert not (tmp_path / "out").exists()


def test_a_vector_at_0_is_not_counted(make_repo: MakeRepo, tmp_path: Path) -> None:
    taus = [np.full((2, 2), 0.25 * (n + 1), np.float32) for n in range(3)]
    repo = repository(make_repo, tmp_path, np.ones((2, 2), np.float32), taus)
    write_recipe(repo, "nuslerp", [1.0, 0.0, 1.0])
    persona.build(repo, tmp_path / "out")
    assert load(tmp_path / "out")["w"].tolist() == [[1.5, 1.5]] * 2  # no angle: the mean of 0.25 and 0.75
