"""Derived vectors in the engine: one τ to every method, the same bytes in every way, and what does not add up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import persona
from persona import methods
from persona.workspace.record import worktree_recipe
from tests.building.test_device import SUMS
from tests.building.test_kernels import adapter
from tests.building.test_same_bytes import GIVEN, LARGE, POSITIVE, assert_same_bytes, digest, fp32_run
from tests.diagonals import put_diagonals
from tests.methods.test_golden import repository
from tests.models import TinyModels, load, same_bits

MakeRepo = Callable[[Path], persona.Repository]
NAMES = methods.names()


def summed(parts: list[tuple[float, np.ndarray]]) -> np.ndarray:
    """Σ cᵢ·τᵢ, every product and sum rounded to fp32."""
    total = np.float32(parts[0][0]) * parts[0][1]
    for coefficient, tau in parts[1:]:
        total = total + np.float32(coefficient) * tau
    return total.astype(np.float32)


def only(repo: persona.Repository, method: str, alphas: Mapping[str, float], given: Mapping[str, Any] = {}) -> None:
    """A recipe of some of the vectors of HEAD, merged by ``method``."""
    recipe = repo.recipe(repo.head())
    lines = ["[base]", f'name = "{recipe.base_name}"', f'id = "{recipe.base[:12]}"', "[merge]", f'method = "{method}"']
    lines += [f"{key} = {value!r}" for key, value in given.items()]
    for name, alpha in alphas.items():
        entry = recipe.entry(name)
        assert entry is not None
        lines += [f"[vectors.{name}]", f'id = "{entry.id[:12]}"', f"alpha = {alpha}"]
    repo.recipe_path.write_text("\n".join([*lines, ""]))
    if methods.weighs(methods.load(method)):
        put_diagonals(repo)


@pytest.fixture
def zero(make_repo: MakeRepo, tmp_path: Path) -> persona.Repository:
    """A base of zeros, where τ is what was trained: two runs, another, and the sum of the two as a run of its own."""
    rng = np.random.default_rng(1)
    one, two, other = (rng.normal(0, 1, (48, 64)).astype(np.float32) for _ in range(3))
    whole = summed([(1.0, one), (-0.3, two)])
    repo = repository(make_repo, tmp_path, np.zeros((48, 64), np.float32), [one, two, other, whole])
    persona.derive(repo, "sum", "v1 - 0.3 * v2")
    return repo


@pytest.mark.parametrize("method", [name for name in NAMES if "seed" not in methods.load(name).PARAMETERS])
def test_a_sum_is_merged_as_the_run_that_it_would_be(zero: persona.Repository, tmp_path: Path, method: str) -> None:
    strengths = (0.8, 0.7 if method in POSITIVE else -0.7)
    for name in ("sum", "v4"):
        only(zero, method, {name: strengths[0], "v3": strengths[1]}, GIVEN.get(method, {}))
        persona.build(zero, tmp_path / name)
    assert same_bits(load(tmp_path / "sum")["w"], load(tmp_path / "v4")["w"])


@pytest.mark.parametrize("method", NAMES)
def test_a_sum_is_one_vector_to_the_reference(zero: persona.Repository, tmp_path: Path, method: str) -> None:
    alphas = {"sum": 0.8, "v3": 0.7 if method in POSITIVE else -0.7}
    only(zero, method, alphas, GIVEN.get(method, {}))
    persona.build(zero, tmp_path / "out")
    recipe = worktree_recipe(zero)
    plan = zero.prepare(recipe).plan
    [output] = [o for o in plan.outputs if o.name == "w"]
    taus = [persona.vector(zero, name)["w"] for name in alphas]
    shares = [term.share for term in output.terms]
    counts = [zero.tensors.read(term.weight.source.id).view(np.float32) for term in output.terms if term.weight]
    more = [[torch.from_numpy(one).reshape(48, 64) for one in counts]] if counts else []
    delta = methods.load(method).reference(torch.zeros(48, 64), taus, shares, plan.parameters, *more)
    torch.testing.assert_close(load(tmp_path / "out")["w"], delta, rtol=1e-4, atol=1e-5)


@pytest.fixture
def mixed(models: TinyModels, make_repo: MakeRepo, tmp_path: Path) -> persona.Repository:
    """Sums of everything: a bf16 run, an adapter, an fp32 run of a bf16 base."""
    repo = make_repo(models.base(**LARGE))
    persona.commit(repo, models.run(1, **LARGE), name="run")
    persona.commit(repo, adapter(tmp_path / "adapter"), name="lora")
    persona.commit(repo, fp32_run(models), name="wide")
    persona.commit(repo, models.run(2, **LARGE), name="other")
    persona.derive(repo, "sum", "run - 0.3 * lora + wide / 7")
    persona.derive(repo, "runs", "2 * run - other")
    return repo


WAYS: list[tuple[str, dict[str, Any]]] = [
    ("linear", {}), ("ties", {}), ("ties", {"trim": "model"}), ("dare_ties", {}), ("breadcrumbs", {}), ("della", {}),
    ("slerp", {}), ("tsv_m", {}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "given"), WAYS, ids=[f"{name} {given or ''}" for name, given in WAYS])
def test_the_same_bytes_however_it_is_built(
    mixed: persona.Repository, tmp_path: Path, method: str, given: dict[str, Any]
) -> None:
    pytest.importorskip("numba")
    only(mixed, method, {"sum": 0.8, "runs": -0.7}, given)
    assert_same_bytes(mixed, tmp_path)


@pytest.mark.parametrize("method", NAMES)
def test_torch_builds_what_the_engine_builds(mixed: persona.Repository, tmp_path: Path, method: str) -> None:
    only(mixed, method, {"sum": 0.8, "runs": 0.7 if method in POSITIVE else -0.7}, GIVEN.get(method, {}))
    for where in ("cpu", "torch"):
        persona.build(mixed, tmp_path / where, device=where, dtype="fp32")
    ours, theirs = load(tmp_path / "cpu"), load(tmp_path / "torch")
    for name, tensor in ours.items():
        if method in SUMS:
            torch.testing.assert_close(theirs[name], tensor, rtol=1e-4, atol=1e-6)
        else:
            assert same_bits(tensor, theirs[name]), name


def test_one_tensor_worked_by_hand(make_repo: MakeRepo, tmp_path: Path) -> None:
    """W = 1 + α(2·(1.5 − 1) − (1.25 − 1)) = 1 + 0.75α."""
    ones = np.ones((2, 2), np.float32)
    repo = repository(make_repo, tmp_path, ones, [ones * 0.5, ones * 0.25])
    persona.derive(repo, "sum", "2 * v1 - v2", alpha=2.0)
    only(repo, "linear", {"sum": 2.0})
    persona.build(repo, tmp_path / "out")
    assert load(tmp_path / "out")["w"].tolist() == [[2.5, 2.5], [2.5, 2.5]]
    assert persona.vector(repo, "sum")["w"].tolist() == [[0.75, 0.75], [0.75, 0.75]]


def test_what_only_one_term_changes_is_copied(mixed: persona.Repository, models: TinyModels, tmp_path: Path) -> None:
    """run − 0.3 lora: the adapter leaves the norms and the attention alone, and there the sum is the run, bit for bit."""
    persona.derive(mixed, "near", "run - 0.3 * lora")
    only(mixed, "linear", {"near": 1.0})
    built = persona.build(mixed, tmp_path / "out")
    ours, run = load(tmp_path / "out"), load(models.run(1, **LARGE))
    for name, tensor in ours.items():
        assert same_bits(tensor, run[name]) == ("up_proj" not in name), name
    assert built.combined == 2


def test_ties_trims_the_sum_and_not_its_terms(make_repo: MakeRepo, tmp_path: Path) -> None:
    """(4 0 0 3) − (4 0 2 0) = (0 0 −2 3): half of it are −2 and 3."""
    rows = [np.array([[4, 0, 0, 3]], np.float32), np.array([[4, 0, 2, 0]], np.float32)]
    repo = repository(make_repo, tmp_path, np.zeros((1, 4), np.float32), rows)
    persona.derive(repo, "sum", "v1 - v2")
    only(repo, "ties", {"sum": 1.0}, {"density": 0.25})
    persona.build(repo, tmp_path / "out")
    assert load(tmp_path / "out")["w"].tolist() == [[0, 0, 0, 3]]


def test_the_report_measures_the_sum(zero: persona.Repository) -> None:
    figures = {}
    for name in ("sum", "v4"):
        only(zero, "ties", {name: 0.8, "v3": 0.7})
        found = persona.interference(zero).whole
        figures[name] = [(v.norm, v.survives) for v in found.vectors], [(p.cosine, p.opposed) for p in found.pairs]
    assert figures["sum"] == figures["v4"]


def test_a_baked_sum_is_the_sum(mixed: persona.Repository, tmp_path: Path) -> None:
    only(mixed, "linear", {"sum": 0.8})
    persona.commit(mixed, message="the sum alone")
    persona.build(mixed, tmp_path / "before")
    persona.bake(mixed, ["sum"], "baked")
    persona.build(mixed, tmp_path / "after")
    assert digest(tmp_path / "before") == digest(tmp_path / "after")
