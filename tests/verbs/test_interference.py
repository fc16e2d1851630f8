"""The interference report of repositories, beside whole tensors in plain torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import save_file

import persona
from persona import threads
from persona.building import measuring
from persona.building.interference import Interference, InterferenceRow, interference
from persona.errors import PersonaError
from persona.verbs.diff import diff
from persona.workspace.record import worktree_recipe
from tests.checkpoints.peft_folders import train
from tests.methods.test_golden import repository, write_recipe
from tests.models import TinyModels, load, nudge, tiny_llama

pytestmark = pytest.mark.filterwarnings("ignore")  # peft's

MakeRepo = Callable[[Path], persona.Repository]
Tensors = dict[str, torch.Tensor]


def flat(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@dataclass(frozen=True)
class Known:
    """A repository, and what plain torch knows of it: W_base, and τ of each vector where it changes something."""

    repo: persona.Repository
    base: Tensors
    taus: dict[str, Tensors]


def subtract(run: Tensors, base: Tensors) -> Tensors:
    return {name: run[name] - base[name] for name in base if not torch.equal(run[name], base[name])}


@pytest.fixture
def known(make_repo: MakeRepo, tmp_path: Path) -> Known:
    """Two fp32 fine-tunes, one of the MLPs alone, and a LoRA adapter of the attention; 3 blocks."""
    settings = {"num_hidden_layers": 3}
    model = tiny_llama(torch.float32, **settings)
    model.save_pretrained(tmp_path / "base")
    base = load(tmp_path / "base")
    repo = make_repo(tmp_path / "base")
    taus = {}
    for number, (name, only) in enumerate({"all": "", "mlp": "mlp"}.items(), 1):
        nudge(tiny_llama(torch.float32, **settings), number, only=only).save_pretrained(tmp_path / name)
        persona.commit(repo, tmp_path / name, name=name)
        taus[name] = subtract(load(tmp_path / name), base)
    trained = train(model, LoraConfig(r=2, target_modules=["q_proj", "up_proj"]), tmp_path / "lora")
    persona.commit(repo, tmp_path / "lora", name="lora")
    trained.merged.save_pretrained(tmp_path / "merged")
    taus["lora"] = subtract(load(tmp_path / "merged"), base)
    return Known(repo, base, taus)


def layer(name: str) -> str:
    parts = name.split(".")
    return ".".join(parts[:3]) if parts[1] == "layers" else name.removesuffix(".weight")


def near(found: float | None, part: Any, whole: Any) -> None:
    if float(whole) == 0:
        assert found is None
    else:
        assert found == pytest.approx(float(part) / float(whole), rel=2e-3, abs=2e-4)


def oracle(known: Known, names: list[str], alphas: dict[str, float], density: float, row: InterferenceRow) -> None:
    """Every number of a row that is about tensors of these names."""
    one = {v: {n: t.double() for n, t in known.taus[v].items() if n in names} for v in alphas}
    there = [v for v in alphas if one[v]]
    assert [found.name for found in row.vectors] == there
    assert row.tensors == len(names)
    assert row.entries == sum(known.base[n].numel() for n in names)
    wide, thin = {}, {}
    for v in there:
        wide[v] = torch.cat([alphas[v] * one[v].get(n, torch.zeros_like(known.base[n])).flatten() for n in names])
        thin[v] = torch.cat([alphas[v] * top(one[v].get(n), known.base[n], density) for n in names])
    base = math.sqrt(sum(float(known.base[n].double().square().sum()) for n in names))
    sign = sum(thin.values()).sign()
    for found in row.vectors:
        values = thin[found.name]
        near(found.norm, wide[found.name].norm() / abs(alphas[found.name]), base)
        near(found.survives, values[values * sign > 0].abs().sum(), values.abs().sum())
        near(found.survives_entries, (values * sign > 0).sum(), (values != 0).sum())
    assert [(pair.one, pair.other) for pair in row.pairs] == list(combinations(there, 2))
    for pair in row.pairs:
        x, y = wide[pair.one], wide[pair.other]
        near(pair.cosine, x @ y, x.norm() * y.norm())
        for share, values in ((pair.opposed, wide), (pair.opposed_trimmed, thin)):
            product = values[pair.one] * values[pair.other]
            near(share, (product < 0).sum(), (product != 0).sum())
    for share, values in ((row.opposed, wide), (row.opposed_trimmed, thin)):
        stack = torch.stack(list(values.values()))
        several = (stack != 0).sum(0) > 1
        near(share, ((stack > 0).any(0) & (stack < 0).any(0)).sum(), several.sum())
    whole = sum(v.abs().sum() for v in thin.values())
    near(row.survives, sum(v[v * sign > 0].abs().sum() for v in thin.values()), whole)


def top(tau: torch.Tensor | None, base: torch.Tensor, density: float) -> torch.Tensor:
    kept = torch.zeros(base.numel(), dtype=torch.double)
    if tau is not None:
        at = tau.flatten().abs().topk(max(1, round(density * base.numel()))).indices
        kept[at] = tau.flatten()[at]
    return kept


ALPHAS = {"all": 0.8, "mlp": -0.5, "lora": 1.5}


@pytest.mark.parametrize("method", ["linear", "ties"])
def test_every_number_is_that_of_whole_tensors(known: Known, method: str) -> None:
    persona.alpha(known.repo, ALPHAS)
    if method == "ties":
        text = known.repo.recipe_path.read_text()
        known.repo.recipe_path.write_text(text + '\n[merge]\nmethod = "ties"\ndensity = 0.35\n')
    density = 0.35 if method == "ties" else 0.2
    by_tensor, by_layer = (persona.interference(known.repo, by=by) for by in ("tensor", "layer"))
    assert by_tensor.whole == by_layer.whole
    assert (by_layer.method, by_layer.assumed, by_layer.densities) == (method, method == "linear", (density,) * 3)
    oracle(known, list(known.base), ALPHAS, density, by_layer.whole)
    assert [row.name for row in by_layer.rows] == [
        "model.embed_tokens", "model.layers.0", "model.layers.1", "model.layers.2", "lm_head", "model.norm"
    ]  # fmt: skip
    for row in by_layer.rows:
        oracle(known, [name for name in known.base if layer(name) == row.name], ALPHAS, density, row)
    assert {row.name for row in by_tensor.rows} == set(known.base)
    for row in by_tensor.rows:
        oracle(known, [row.name], ALPHAS, density, row)


def test_a_tensor_that_one_vector_touches_has_no_pair(known: Known) -> None:
    rows = {row.name: row for row in persona.interference(known.repo, by="tensor").rows}
    alone = rows["model.layers.0.self_attn.v_proj.weight"]
    assert [one.name for one in alone.vectors] == ["all"]
    assert alone.pairs == ()
    assert (alone.opposed, alone.opposed_trimmed, alone.survives) == (None, None, 1.0)


def test_a_vector_at_0_is_not_in_it(known: Known) -> None:
    persona.alpha(known.repo, {"mlp": 0})
    found = persona.interference(known.repo)
    assert found.vectors == ("all", "lora")
    assert [(pair.one, pair.other) for pair in found.whole.pairs] == [("all", "lora")]


def test_only_and_alphas_by_pattern_count(known: Known) -> None:
    text = known.repo.recipe_path.read_text().replace("alpha = 1.0", 'alpha = {"*.0.*" = -1, "*" = 2.0}', 1)
    known.repo.recipe_path.write_text(text.replace("alpha = 1.0", 'alpha = 1.0\nonly = ["*.1.*"]', 1))
    rows = {row.name: row for row in persona.interference(known.repo).rows}
    assert [one.name for one in rows["model.layers.0"].vectors] == ["all", "lora"]
    assert [one.name for one in rows["model.layers.1"].vectors] == ["all", "mlp", "lora"]
    taus = known.taus
    name = "model.layers.0.self_attn.q_proj.weight"
    x, y = -taus["all"][name].double().flatten(), taus["lora"][name].double().flatten()
    by_tensor = {row.name: row for row in persona.interference(known.repo, by="tensor").rows}
    near(by_tensor[name].pairs[0].cosine, x @ y, x.norm() * y.norm())


def measured(repo: persona.Repository, **options: Any) -> Interference:
    recipe = worktree_recipe(repo)
    return interference(recipe, repo.base(recipe.base_id), repo.vectors(recipe), repo.tensors, by="tensor", **options)


@pytest.mark.parametrize("method", ["linear", "ties", "breadcrumbs"])
def test_blocks_cores_and_memory_change_nothing(known: Known, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    text = known.repo.recipe_path.read_text()
    known.repo.recipe_path.write_text(text + f'\n[merge]\nmethod = "{method}"\n')
    wanted = measured(known.repo)
    assert measured(known.repo, memory=0) == wanted
    monkeypatch.setattr(threads, "cores", lambda: 1)
    assert measured(known.repo) == wanted
    for block in (1 << 7, 1 << 10):
        monkeypatch.setattr(measuring, "BLOCK", block)
        assert measured(known.repo) == wanted
        assert measured(known.repo, memory=0) == wanted


def test_compiled_edges_are_the_same(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    wanted = measured(known.repo)
    monkeypatch.setattr("persona.kernels.WORTH", 0)
    assert measured(known.repo) == wanted


def test_the_authors_trim_is_of_the_whole_vector(make_repo: MakeRepo, tmp_path: Path) -> None:
    # Half of v1's four entries, over both tensors, are 5 and 4; nothing of it is left where v2 is 1, 1.
    base = {"a": torch.full((2,), 8.0), "b": torch.full((2,), 8.0), "anchor": torch.full((100,), 1000.0)}
    folders = [base, {**base, "a": base["a"] + flat(5, 4), "b": base["b"] + flat(-1, 2)}, {**base, "b": base["b"] + 1}]
    for number, tensors in enumerate(folders):
        (tmp_path / f"{number}").mkdir()
        save_file(tensors, tmp_path / f"{number}" / "model.safetensors")
    repo = make_repo(tmp_path / "0")
    for number in (1, 2):
        persona.commit(repo, tmp_path / f"{number}", name=f"v{number}")
    write_recipe(repo, "ties", [1, 1], {"density": 0.5, "trim": "model"})
    rows = {row.name: row for row in persona.interference(repo, by="tensor").rows}
    assert rows["b"].pairs[0].opposed == 0.5
    assert rows["b"].pairs[0].opposed_trimmed is None
    assert (rows["b"].vectors[0].survives, rows["b"].vectors[1].survives) == (None, 1.0)


def test_small_numbers_by_hand(make_repo: MakeRepo, tmp_path: Path) -> None:
    # ‖W‖² of [3, 4] and the anchor, a hundred times 1000², is 25 + 10⁸; in the tensor's own row ‖W‖ = 5.
    # ‖τ₁‖ = ‖[1, 2]‖ = √5, ‖τ₂‖ = ‖[2, -1]‖ = √5, ⟨τ₁, τ₂⟩ = 0; α₂ = -1 turns the signs: [-2, 1].
    # Opposed in the first, 1 - 2 < 0: v₁ loses 1 of 3, v₂ nothing; half of the entries, and none.
    repo = repository(make_repo, tmp_path, flat(3, 4), [flat(1, 2), flat(2, -1)])
    write_recipe(repo, "ties", [1, -1], {"density": 1})
    found = persona.interference(repo, by="tensor")
    (row,) = found.rows
    assert (row.name, row.tensors, row.entries, found.whole.tensors, found.whole.entries) == ("w", 1, 2, 2, 102)
    one, other = row.vectors
    assert one.norm == pytest.approx(math.sqrt(5) / 5)
    assert found.whole.vectors[0].norm == pytest.approx(math.sqrt(5 / (25 + 1e8)))
    assert (one.survives, one.survives_entries) == (pytest.approx(2 / 3), 0.5)
    assert (other.survives, other.survives_entries) == (1, 1)
    assert (row.pairs[0].cosine, row.pairs[0].opposed, row.pairs[0].opposed_trimmed) == (0, 0.5, 0.5)
    assert row.survives == pytest.approx(5 / 6)


def test_a_vector_that_was_trained_again(make_repo: MakeRepo, tmp_path: Path) -> None:
    # τ' = [3, 0], τ = [3, 4]: ‖τ - τ'‖/‖τ'‖ = 4/3, cos = 9/15. With α 1 → 2 and ½ for v2 = [0, 2] on both sides:
    # δ' = [3, 0] + [0, 1] = [3, 1], δ = [6, 8] + [0, 1] = [6, 9]; δ - δ' = [3, 8];
    # ‖W‖ = ‖[8, 8]‖ = √128, cos = (18 + 9)/√(10 · 117).
    repo = repository(make_repo, tmp_path, flat(8, 8), [flat(3, 0), flat(0, 2), flat(3, 4)])
    persona.rm(repo, ["v3"])
    persona.alpha(repo, {"v2": 0.5})
    persona.commit(repo, tmp_path / "run-3", name="v1", alpha=2)
    report = diff(repo, "HEAD~1", "HEAD", weights=True, by="tensor").weights
    assert report is not None
    (row,) = report.rows
    (again,) = row.retrained
    assert (again.name, again.norm, again.cosine) == ("v1", pytest.approx(4 / 3), pytest.approx(0.6))
    assert row.change is not None
    assert row.change.norm == pytest.approx(math.sqrt(73 / 128))
    assert row.change.cosine == pytest.approx(27 / math.sqrt(1170))
    assert report.whole.retrained == row.retrained


def test_a_scale_and_a_vector_that_left_are_a_change(make_repo: MakeRepo, tmp_path: Path) -> None:
    # δ' = [3, 0] + [0, 2]; δ = 2 · [3, 0]: δ - δ' = [3, -2].
    repo = repository(make_repo, tmp_path, flat(8, 8), [flat(3, 0), flat(0, 2)])
    persona.rm(repo, ["v2"])
    repo.recipe_path.write_text(repo.recipe_path.read_text() + "\n[merge]\nscale = 2\n")
    report = diff(repo, "HEAD~1", weights=True).weights
    assert report is not None
    (row,) = report.rows
    assert row.change is not None
    assert row.change.norm == pytest.approx(math.sqrt(13 / 128))
    assert row.change.cosine == pytest.approx(18 / (6 * math.sqrt(13)))
    assert ([one.name for one in row.vectors], row.pairs, row.retrained) == (["v1"], (), ())


def test_nothing_changed_is_a_change_of_0(known: Known) -> None:
    report = diff(known.repo, weights=True).weights
    assert report is not None
    assert report.whole.change is not None
    assert (report.whole.change.norm, report.whole.change.cosine) == (0.0, 1.0)


def test_new_rows_have_nothing_to_be_measured_by(models: TinyModels, make_repo: MakeRepo, tmp_path: Path) -> None:
    repo = make_repo(models.base("float32"))
    model = nudge(tiny_llama(torch.float32), 3)
    model.resize_token_embeddings(100, mean_resizing=False)
    model.save_pretrained(tmp_path / "grown")
    persona.commit(repo, tmp_path / "grown", name="grown")
    persona.commit(repo, models.run(1, "float32"), name="one")
    rows = {row.name: row for row in persona.interference(repo, by="tensor").rows}
    row = rows["model.embed_tokens.weight"]
    base, run = load(models.base("float32"))[row.name], load(tmp_path / "grown")[row.name]
    assert row.entries == base.numel() < run.numel()
    near(row.vectors[0].norm, (run[: len(base)] - base).norm(), base.norm())
    assert row.pairs[0].cosine is not None


def test_a_nan_is_no_number(make_repo: MakeRepo, tmp_path: Path) -> None:
    repo = repository(make_repo, tmp_path, flat(8, 8), [flat(np.nan, 1), flat(1, 2)])
    (row,) = persona.interference(repo, by="tensor").rows
    one, other = row.vectors
    assert (one.norm, row.pairs[0].cosine) == (None, None)
    assert other.norm == pytest.approx(math.sqrt(5 / 128))
    assert row.pairs[0].opposed == 0  # in the second entry, where both have a sign


def test_no_vectors_are_an_empty_report(models: TinyModels, make_repo: MakeRepo) -> None:
    found = persona.interference(make_repo(models.base()))
    assert (found.vectors, found.densities, found.rows) == ((), (), ())
    assert (found.whole.vectors, found.whole.pairs, found.whole.survives) == ((), (), None)


def test_a_row_is_a_layer_or_a_tensor(known: Known) -> None:
    with pytest.raises(PersonaError, match="cannot report by 'module'") as caught:
        persona.interference(known.repo, by="module")
    assert "layer or tensor" in caught.value.hint


def test_a_revision_is_reported(known: Known) -> None:
    assert persona.interference(known.repo, "HEAD~1").vectors == ("all", "mlp")
