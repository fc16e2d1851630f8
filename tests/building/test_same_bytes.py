"""The same recipe gives the same bytes: on one core or two, in any blocks, in any shards, in any process."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import persona
from persona import kernels, methods, threads
from persona.building import run as engine
from persona.verbs.build import build
from tests.building.test_kernels import adapter
from tests.methods.test_golden import repository, write_recipe
from tests.models import TinyModels, assert_same, load

MakeRepo = Callable[[Path], persona.Repository]
NAMES = methods.names()
POSITIVE = {name for name in NAMES if hasattr(methods.load(name), "check_alphas")}
GIVEN: Mapping[str, dict[str, Any]] = {
    "dare_linear": {"rescale": "l1"}, "della": {"rescale": "l1"}, "della_linear": {"epsilon": 0.2}, "sce": {"select_topk": 0.3}
}  # fmt: skip


def strengths(method: str) -> list[float]:
    """An alpha for each vector of :func:`mixed` that the method takes."""
    most = methods.vectors_taken(methods.load(method))[1] or 3
    return [0.8, 0.7 if method in POSITIVE else -0.7, 0.3][:most] + [0.0] * max(0, 3 - most)


LARGE = {"vocab_size": 3000}


@pytest.fixture
def mixed(models: TinyModels, make_repo: MakeRepo, tmp_path: Path) -> persona.Repository:
    """A bf16 base, with a bf16 run, an adapter, and an fp32 run; embeddings have 96,000 entries, several blocks."""
    repo = make_repo(models.base(**LARGE))
    persona.commit(repo, models.run(1, **LARGE), name="v1")
    persona.commit(repo, adapter(tmp_path / "adapter"), name="v2")
    persona.commit(repo, fp32_run(models), name="v3")
    return repo


def fp32_run(models: TinyModels) -> Path:
    """A fine-tune of the bf16 base that was saved in fp32."""
    from transformers import AutoModelForCausalLM

    from tests.models import nudge

    path = models.folder / "run-fp32-of-bf16"
    if not path.exists():
        nudge(AutoModelForCausalLM.from_pretrained(models.base(**LARGE)).float(), 5).save_pretrained(path)
    return path


def digest(folder: Path) -> str:
    """Of all weights files, in order."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        found.update(path.read_bytes())
    return found.hexdigest()


Change = Callable[[pytest.MonkeyPatch], None]


def run_with(**values: int) -> Change:
    """Other values for what the engine is told."""
    return lambda patch: patch.setattr(engine.run, "__kwdefaults__", {**(engine.run.__kwdefaults__ or {}), **values})


def remember(nbytes: int) -> Change:
    """As much memory and no more."""
    return lambda patch: patch.setattr(build, "__kwdefaults__", {**(build.__kwdefaults__ or {}), "memory": nbytes})


CHANGES: dict[str, Change] = {
    "one core": lambda patch: patch.setattr(threads, "cores", lambda: 1),
    "five cores": lambda patch: patch.setattr(threads, "cores", lambda: 5),
    "small blocks": run_with(block=1 << 12),
    "large blocks": run_with(block=1 << 22),
    "no memory": remember(1),
    "compiled": lambda patch: patch.setattr(kernels, "WORTH", 0),
    "compiled, small blocks": lambda patch: (run_with(block=1 << 12)(patch), patch.setattr(kernels, "WORTH", 0))[1],
    "compiled, no memory": lambda patch: (remember(1)(patch), patch.setattr(kernels, "WORTH", 0))[1],
}


RECIPES = [*((name, GIVEN.get(name, {})) for name in NAMES), ("ties", {"trim": "model", "normalize": "weights"})]


@pytest.mark.parametrize(("method", "given"), RECIPES, ids=[f"{name} {given or ''}" for name, given in RECIPES])
def test_however_it_is_built(mixed: persona.Repository, tmp_path: Path, method: str, given: Mapping[str, Any]) -> None:
    pytest.importorskip("numba")
    write_recipe(mixed, method, strengths(method), given)
    assert_same_bytes(mixed, tmp_path)


FAMILY = [(name, given) for name, given in RECIPES if hasattr(methods.load(name), "FAMILY")]


@pytest.mark.parametrize(("method", "given"), FAMILY, ids=[f"{name} {given or ''}" for name, given in FAMILY])
def test_light_bf16_runs(
    models: TinyModels, make_repo: MakeRepo, tmp_path: Path, method: str, given: Mapping[str, Any]
) -> None:
    """All in BF16, and so light that thousands of magnitudes are equal at the edge."""
    pytest.importorskip("numba")
    repo = make_repo(models.base(**LARGE))
    for number in (1, 2, 3):
        persona.commit(repo, models.run(number, std=5e-5, **LARGE), name=f"v{number}")
    write_recipe(repo, method, [0.8, -0.7, 0.3], given)
    assert_same_bytes(repo, tmp_path)


def assert_same_bytes(repo: persona.Repository, folder: Path) -> None:
    """Build it in every way."""
    persona.build(repo, folder / "out")
    wanted = digest(folder / "out")
    for number, (name, change) in enumerate(CHANGES.items()):
        with pytest.MonkeyPatch.context() as patch:
            change(patch)
            persona.build(repo, folder / f"out-{number}")
        assert digest(folder / f"out-{number}") == wanted, name


@pytest.mark.parametrize("method", NAMES)
def test_however_it_is_sharded(mixed: persona.Repository, tmp_path: Path, method: str) -> None:
    write_recipe(mixed, method, strengths(method), GIVEN.get(method))
    persona.build(mixed, tmp_path / "one")
    assert persona.build(mixed, tmp_path / "many", shard_size=200_000).shards > 2
    assert_same(load(tmp_path / "many"), load(tmp_path / "one"))


PROGRAM = """
import json, sys
from pathlib import Path
import persona
root, out, recipes = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
repo = persona.open(root)
for name, text in recipes.items():
    repo.recipe_path.write_text(text)
    persona.build(repo, out / name)
"""


@pytest.mark.slow
def test_whatever_the_hash_seed(mixed: persona.Repository, tmp_path: Path) -> None:
    """An order that comes from a set would differ from process to process."""
    start, recipes = mixed.recipe_path.read_text(), {}
    for method in NAMES:
        mixed.recipe_path.write_text(start)
        write_recipe(mixed, method, strengths(method), GIVEN.get(method))
        recipes[method] = mixed.recipe_path.read_text()
    for seed in ("0", "1", "4242"):
        command = [sys.executable, "-c", PROGRAM, str(mixed.root), str(tmp_path / seed), json.dumps(recipes)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed}, timeout=300)
    for method in NAMES:
        assert len({digest(tmp_path / seed / method) for seed in ("0", "1", "4242")}) == 1, method


@pytest.mark.parametrize("method", NAMES)
def test_the_seed_and_nothing_else_changes_a_random_choice(
    mixed: persona.Repository, tmp_path: Path, method: str
) -> None:
    if "seed" not in methods.load(method).PARAMETERS:
        pytest.skip("no random choice in it")
    start = mixed.recipe_path.read_text()
    found = []
    for number, seed in enumerate((7, 7, 8)):
        mixed.recipe_path.write_text(start)
        write_recipe(mixed, method, strengths(method), {"seed": seed})
        persona.build(mixed, tmp_path / f"out-{number}")
        found.append(digest(tmp_path / f"out-{number}"))
    assert found[0] == found[1] != found[2]


MASKED = ["ties", "breadcrumbs", "breadcrumbs_ties"]


@pytest.mark.parametrize("method", MASKED)
def test_one_vector_taken_away_is_the_base_without_it(make_repo: MakeRepo, tmp_path: Path, method: str) -> None:
    """W(α = -1) - W_base = -(W(α = 1) - W_base), and each is the τ̂ that was kept."""
    rng = np.random.default_rng(3)
    base = rng.integers(-100, 100, (40, 50)).astype(np.float32)
    tau = (rng.permutation(2000).reshape(40, 50) - 1000).astype(np.float32) / 256
    repo = repository(make_repo, tmp_path, base, [tau])
    start, deltas = repo.recipe_path.read_text(), []
    for alpha in (1.0, -1.0):
        repo.recipe_path.write_text(start)
        write_recipe(repo, method, [alpha], {"density": 0.25})
        persona.build(repo, tmp_path / f"out{alpha}")
        deltas.append(load(tmp_path / f"out{alpha}")["w"].numpy() - base)
    assert deltas[1].tolist() == (-deltas[0]).tolist()
    kept = deltas[0] != 0
    assert kept.sum() == 500
    assert deltas[0][kept].tolist() == tau[kept].tolist()


@pytest.mark.parametrize("density", [0.2, 1.0])
def test_a_difference_of_vectors_never_amplifies(make_repo: MakeRepo, tmp_path: Path, density: float) -> None:
    """a - b under ties: |δ| is at most the larger of |a| and |b|, entry by entry."""
    rng = np.random.default_rng(4)
    base = rng.integers(-100, 100, (40, 50)).astype(np.float32)
    taus = [rng.integers(-500, 500, (40, 50)).astype(np.float32) / 256 for _ in range(2)]
    repo = repository(make_repo, tmp_path, base, taus)
    write_recipe(repo, "ties", [1.0, -1.0], {"density": density})
    persona.build(repo, tmp_path / "out")
    delta = load(tmp_path / "out")["w"].numpy() - base
    assert np.all(np.abs(delta) <= np.maximum(np.abs(taus[0]), np.abs(taus[1])))
    assert np.count_nonzero(delta) > 300
