"""Merges beside mergekit's own: where the settings mean the same, the weights are the same up to the rounding of fp32.

Runs where mergekit can be imported, or where ``PERSONA_PEERS`` names the Python of an environment that has it.
``docs/methods.md`` has the table of what differs on purpose; the tests below show each of these.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

import persona
from tests.models import load
from tests.parity.runs import LIGHT, Tensors, apart
from tests.parity.runs import folders as folders  # the fixture

PEERS = os.environ.get("PERSONA_PEERS") or (sys.executable if importlib.util.find_spec("mergekit") else None)
pytestmark = pytest.mark.skipif(PEERS is None, reason="mergekit is not installed, and PERSONA_PEERS names no Python")


@dataclass(frozen=True)
class Case:
    """One merge, said in both ways. ``runs`` are those of :func:`folders`."""

    ours: str
    theirs: str
    alphas: list[float]
    given: Mapping[str, Any] = field(default_factory=dict)
    shared: Mapping[str, Any] = field(default_factory=dict)
    each: Mapping[str, Any] = field(default_factory=dict)
    runs: tuple[str, ...] = ("run-1", "run-2", "run-3")
    base_is_a_model: bool = False
    weights: bool = True

    @property
    def name(self) -> str:
        """Of its folder."""
        parts = [self.ours, *(f"{alpha:g}" for alpha in self.alphas), *(f"{value}" for value in self.given.values())]
        return "_".join([*parts, *self.runs[: len(self.alphas)]])

    def config(self, folder: Path) -> dict[str, Any]:
        """As mergekit is told."""
        models = []
        for run, alpha in zip(self.runs, self.alphas, strict=False):
            said = {**({"weight": alpha} if self.weights else {}), **self.each}
            models.append({"model": str(folder / run), **({"parameters": said} if said else {})})
        if self.base_is_a_model:
            models.insert(0, {"model": str(folder / "base")})
        config = {"merge_method": self.theirs, "models": models, "parameters": dict(self.shared), "dtype": "float32"}
        return config if self.theirs in ("linear", "karcher") else {**config, "base_model": str(folder / "base")}


QUARTER = {"density": 0.25}  # of every tensor a whole number of entries
COUNTED, SUMMED = {"normalize": True}, {"normalize": False}
BY_WEIGHTS, NOTHING = {"normalize": "weights"}, {"normalize": "none"}

SAME = [
    Case("linear", "task_arithmetic", [0.5, -0.3, 1.2], shared=SUMMED),
    Case("linear", "task_arithmetic", [0.5, 1.0], {"scale": 0.7}, {**SUMMED, "lambda": 0.7}),
    Case("linear", "linear", [0.2, 0.3, 0.5], shared=COUNTED),
    Case("ties", "ties", [1.0, 0.5, 0.3], {**QUARTER, **BY_WEIGHTS}, COUNTED, QUARTER),
    Case("ties", "ties", [1.0, -0.5, 0.3], {**QUARTER, **NOTHING}, SUMMED, QUARTER),
    Case("ties", "ties", [1.0, 1.0, 1.0], {**QUARTER, "normalize": "count"}, COUNTED, QUARTER),
    Case("dare_linear", "dare_linear", [0.5, -0.3], {"density": 1.0}, SUMMED, {"density": 1.0}),
    Case("dare_ties", "dare_ties", [0.5, 0.3], {"density": 1.0, **BY_WEIGHTS}, COUNTED, {"density": 1.0}),
    Case("della_linear", "della_linear", [0.5, -0.3], {"density": 1.0}, SUMMED, {"density": 1.0}),
    Case("della", "della", [0.5, 0.3], {"density": 1.0, **BY_WEIGHTS}, COUNTED, {"density": 1.0}),
    Case("breadcrumbs", "breadcrumbs", [0.5, -0.3], {**QUARTER, "gamma": 0.125}, SUMMED, {**QUARTER, "gamma": 0.125}),
    Case(
        "breadcrumbs_ties", "breadcrumbs_ties", [0.5, 0.3], {**QUARTER, "gamma": 0.01, **NOTHING},
        SUMMED, {**QUARTER, "gamma": 0.01},
    ),
    Case("sce", "sce", [1.0, 1.0, 1.0], weights=False),
    Case("sce", "sce", [1.0, 1.0, 1.0], {"select_topk": 0.25}, {"select_topk": 0.25}, weights=False),
    Case("model_stock", "model_stock", [1.0, 1.0, 1.0], weights=False),
    Case("slerp", "slerp", [1.0], {"t": 0.3}, {"t": 0.3}, weights=False, base_is_a_model=True),
    Case("nuslerp", "nuslerp", [1.0, 3.0]),
    Case("karcher", "karcher", [1.0, 1.0, 1.0], weights=False),
    Case("ram", "ram", [1.0, 1.0, 1.0], {"epsilon": 1e-2}, {"epsilon": 1e-2}, weights=False),
    Case("ram", "ram", [1.0, 1.0], weights=False, runs=LIGHT),
    Case(
        "ramplus_tl", "ramplus_tl", [1.0, 1.0, 1.0], {"r": 0.5, "limit": 3.0, "epsilon": 1e-2},
        {"r": 0.5, "alpha": 3.0, "epsilon": 1e-2}, weights=False,
    ),
    Case("ramplus_tl", "ramplus_tl", [1.0, 1.0], weights=False, runs=LIGHT),
]  # fmt: skip

NEGATED = Case("ties", "ties", [-1.0], {**QUARTER, **BY_WEIGHTS}, COUNTED, QUARTER)
EQUAL = Case("ties", "ties", [0.3, 0.3, 0.3], {**QUARTER, "normalize": "count"}, COUNTED, QUARTER)
FIFTH = Case("ties", "ties", [1.0], {"density": 0.2, **NOTHING}, SUMMED, {"density": 0.2})
SCE_LIGHT = Case("sce", "sce", [1.0, 1.0], weights=False, runs=LIGHT)
SLERP_LIGHT = Case("slerp", "slerp", [1.0], {"t": 0.3}, {"t": 0.3}, weights=False, base_is_a_model=True, runs=LIGHT)
APART = Case("model_stock", "model_stock", [1.0, 1.0], weights=False, runs=("run-1", "mirror"))
DIFFERENT = [NEGATED, EQUAL, FIFTH, SCE_LIGHT, SLERP_LIGHT, APART]

PROGRAM = """
import json, sys
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
options = MergeOptions(copy_tokenizer=False, quiet=True, write_model_card=False)
for folder, config in json.load(sys.stdin).items():
    run_merge(MergeConfiguration.model_validate(config), folder, options=options)
"""


@pytest.fixture(scope="module")
def theirs(folders: Path) -> Path:
    """Every case as mergekit merges it, in one process."""
    assert PEERS is not None
    out = folders / "theirs"
    jobs = {str(out / case.name): case.config(folders) for case in [*SAME, *DIFFERENT]}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    done = subprocess.run(
        [PEERS, "-c", PROGRAM], input=json.dumps(jobs), env=environment, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return out


@pytest.fixture(scope="module")
def repo(folders: Path) -> persona.Repository:
    """A repository with every run, under its own name."""
    persona.init(folders / "work", folders / "base", author="Test <test@example.org>")
    made = persona.open(folders / "work")
    for run in ("run-1", "run-2", "run-3", *LIGHT, "mirror"):
        persona.commit(made, folders / run, name=run)
    return made


def built(repo: persona.Repository, folders: Path, case: Case) -> Tensors:
    """The case as persona builds it."""
    ids = {one.name: one.id for one in persona.vectors(repo, "HEAD")}
    text = repo.recipe_path.read_text().partition("[vectors")[0].partition("[merge")[0]
    vectors = [
        f'[vectors.{run}]\nid = "{ids[run]}"\nalpha = {alpha}\n'
        for run, alpha in zip(case.runs, case.alphas, strict=False)
    ]
    said = {"method": case.ours, **case.given}
    merge = ["[merge]", *(f"{key} = {value!r}" for key, value in said.items()), ""]
    repo.recipe_path.write_text("\n".join([text, *vectors, *merge]))
    out = folders / "ours" / case.name
    out.parent.mkdir(exist_ok=True)
    persona.build(repo, out)
    return load(out)


@pytest.mark.parametrize("case", SAME, ids=[case.name for case in SAME])
def test_the_same(repo: persona.Repository, folders: Path, theirs: Path, case: Case) -> None:
    assert apart(built(repo, folders, case), load(theirs / case.name)) < 5e-7


def moves(repo: persona.Repository, folders: Path, theirs: Path, case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """δ of both, all tensors in a row."""
    base, ours, other = load(folders / "base"), built(repo, folders, case), load(theirs / case.name)
    return tuple(torch.cat([(w[name] - base[name]).flatten() for name in base]) for w in (ours, other))  # type: ignore[return-value]


def test_they_give_back_what_is_to_be_taken_away(repo: persona.Repository, folders: Path, theirs: Path) -> None:
    """One vector at -1: divided by the sum of the weights, which is -1, it comes back as +τ̂."""
    ours, other = moves(repo, folders, theirs, NEGATED)
    tau = torch.cat([(w - load(folders / "base")[name]).flatten() for name, w in load(folders / "run-1").items()])
    kept = ours != 0
    torch.testing.assert_close(ours[kept], -tau[kept], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(other[kept], tau[kept], rtol=1e-4, atol=1e-7)
    assert float(torch.cosine_similarity(ours, other, dim=0)) == pytest.approx(-1, abs=1e-6)


def test_their_mean_adds_up_whole_weights(repo: persona.Repository, folders: Path, theirs: Path) -> None:
    """(Σ wᵢWᵢ) / Σ wᵢ beside W_base + Σ wᵢτᵢ / Σ wᵢ: every bit of both, and how far each is from the mean in fp64."""
    case = next(case for case in SAME if case.theirs == "linear")
    made = folders / "ours" / case.name
    ours = load(made) if made.exists() else built(repo, folders, case)
    base, other = load(folders / "base"), load(theirs / case.name)
    runs, weights = [load(folders / run) for run in case.runs], torch.tensor(case.alphas)
    off = {"ours": 0.0, "theirs": 0.0}
    for name, w in base.items():
        total, change = torch.zeros_like(w), torch.zeros_like(w)
        for run, weight in zip(runs, weights, strict=True):
            total.addcmul_(run[name], weight)
            change += weight * (run[name] - w)
        assert torch.equal(total / weights.sum(), other[name])
        assert torch.equal(w + change, ours[name])
        exact = sum(weight * run[name].double() for run, weight in zip(runs, case.alphas, strict=True))
        off["ours"] += float((ours[name] - exact).square().sum())
        off["theirs"] += float((other[name] - exact).square().sum())
    assert off["ours"] < off["theirs"]


def test_their_equal_weights_cancel(repo: persona.Repository, folders: Path, theirs: Path) -> None:
    """0.3 for each is what 1 for each is; here an alpha stays a strength."""
    ours, other = moves(repo, folders, theirs, EQUAL)
    assert float(ours.norm() / other.norm()) == pytest.approx(0.3, rel=1e-5)


def test_their_density_is_rounded_down(repo: persona.Repository, folders: Path, theirs: Path) -> None:
    """A fifth of 1024 entries is 204.8: they keep 204, we keep 205; of 32, both keep 6."""
    base, ours, other = load(folders / "base"), built(repo, folders, FIFTH), load(theirs / FIFTH.name)
    counts = {
        name: (int((ours[name] != w).sum()), int((other[name] != w).sum()), w.numel()) for name, w in base.items()
    }
    assert {(one, two) for one, two, size in counts.values() if size == 1024} == {(205, 204)}
    assert {(one, two) for one, two, size in counts.values() if size == 32} == {(6, 6)}


def test_their_energies_have_a_floor(repo: persona.Repository, folders: Path, theirs: Path) -> None:
    """Runs that moved by 1e-4: below 1e-6 of energy every vector weighs the same, whatever it did."""
    ours, other = moves(repo, folders, theirs, SCE_LIGHT)
    assert 0.02 < float((ours - other).norm() / other.norm()) < 1


def test_their_slerp_is_straight_where_it_is_near(repo: persona.Repository, folders: Path, theirs: Path) -> None:
    """Within 1.8° (cos 0.9995) they go straight; between fine-tunes both are the same to fp32."""
    assert apart(built(repo, folders, SLERP_LIGHT), load(theirs / SLERP_LIGHT.name)) < 5e-7


def test_their_model_stock_has_no_bounds(repo: persona.Repository, folders: Path, theirs: Path) -> None:
    """Two runs that point apart, cos near -½: t = 2 cos/(1 + cos) is near -2, a step away from both. We stay."""
    ours, other = moves(repo, folders, theirs, APART)
    base, runs = load(folders / "base"), [load(folders / run) for run in APART.runs]
    mean = torch.cat([((runs[0][name] + runs[1][name]) / 2 - w).flatten() for name, w in base.items()])
    assert ours.abs().max() == 0
    assert float(torch.cosine_similarity(other, mean, dim=0)) < -0.5
