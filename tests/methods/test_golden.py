"""Every method on a few entries, worked by hand: its reference, its rule in blocks, and a real build.

τ₁ and τ₂ are the task vectors; below, P and N are the sums of the positive and the negative vᵢ of an entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import cos, pi, sin, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import persona
from persona import kernels, methods
from persona.methods.parts.share import Share, Size
from tests.diagonals import put_diagonal, put_diagonals
from tests.methods.by_rule import ROUGH, merged, wanted
from tests.models import load

MakeRepo = Callable[[Path], persona.Repository]
Array = list[float] | list[list[float]]


@dataclass(frozen=True)
class Case:
    """δ is what ``taus`` come to; ``base`` is 8 everywhere unless said."""

    what: str
    method: str
    taus: list[Array]
    delta: Array
    alphas: list[float] = field(default_factory=list)
    given: Mapping[str, float | str] = field(default_factory=dict)
    base: Array | None = None
    weights: list[Array] = field(default_factory=list)

    def arrays(self) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        """W_base, the τᵢ and δ."""
        taus = [np.array(tau, np.float32) for tau in self.taus]
        base = np.full_like(taus[0], 8) if self.base is None else np.array(self.base, np.float32)
        return base, taus, np.array(self.delta, np.float32)

    @property
    def counts(self) -> list[np.ndarray]:
        """The Fᵢ."""
        return [np.array(one, np.float32) for one in self.weights]

    def sizes(self) -> list[Size]:
        """Mean and L2 norm of each Fᵢ: ``w`` is the only tensor that has one."""
        found = [Size(float(one.mean()), float(np.sqrt((one.astype(np.float64) ** 2).sum()))) for one in self.counts]
        return found or [Size()] * len(self.taus)

    @property
    def strengths(self) -> list[float]:
        """The alphas, 1 unless said."""
        return self.alphas or [1.0] * len(self.taus)


T1, T2, T3 = [6.0, -5, 4, 1, 2, 3], [1.0, 5, 6, -4, 2, 3], [-4.0, 3, -1, -5, 2, 1]
# Half of six entries is three: the largest magnitudes are
#   τ̂₁ = [ 6, -5, 4,  0, 0, 0]
#   τ̂₂ = [ 0,  5, 6, -4, 0, 0]
#   τ̂₃ = [-4,  3, 0, -5, 0, 0]
HALF = {"density": 0.5}

TIES = [
    # P + N = [6 - 4, 8 - 5, 10, -9, 0, 0], so the signs are + + + - 0 0,
    # and who has them is [6], [5, 3], [4, 6], [-4, -5].
    Case("the mean of those that agree", "ties", [T1, T2, T3], [6, 4, 5, -4.5, 0, 0], given=HALF),
    Case("their sum", "ties", [T1, T2, T3], [6, 8, 10, -9, 0, 0], given={**HALF, "normalize": "none"}),
    # v₁ = τ̂₁, v₂ = 2 τ̂₂ = [0, 10, 12, -8, 0, 0], v₃ = τ̂₃/2 = [-2, 1.5, 0, -2.5, 0, 0];
    # P + N = [4, 6.5, 16, -10.5, 0, 0]; the sums are divided by 1, 2 + ½, 1 + 2 and 2 + ½.
    Case(
        "divided by their weights", "ties", [T1, T2, T3], [6, 11.5 / 2.5, 16 / 3, -10.5 / 2.5, 0, 0], [1, 2, 0.5],
        {**HALF, "normalize": "weights"},
    ),
    # The same by the count: 6/1, 11.5/2, 16/2, -10.5/2. An alpha is a strength, and twice as strong is felt.
    Case("divided by the count", "ties", [T1, T2, T3], [6, 5.75, 8, -5.25, 0, 0], [1, 2, 0.5], HALF),
    Case("masses that are equal give nothing", "ties", [[3, 1], [-3, 2]], [0, 1.5], given={"density": 1}),
    # Two small votes against a large one: by mass it is 5 against 4, by heads it would be 1 against 2.
    Case("mass and not heads", "ties", [[5.0], [-2], [-2]], [5], given={"density": 1}),
    # a - b: v₂ = [2, 6]; P + N = [6, 4]; agreeing: [4, 2], [6].
    Case("a negative alpha is another vector", "ties", [[4, -2], [-2, -6]], [3, 6], [1, -1], {"density": 1}),
    Case("one vector, taken away", "ties", [[5, -1, 3, 2]], [-5, 0, -3, 0], [-1], HALF),
    Case("and by weights too", "ties", [[5, -1, 3, 2]], [-5, 0, -3, 0], [-1], {**HALF, "normalize": "weights"}),
    Case("a hundredth of three entries is one", "ties", [[1, -3, 2]], [0, -3, 0], given={"density": 0.01}),
]  # fmt: skip

SUMS = [
    # ½·1 - 2·4, ½·2 - 2·0, ½·3 + 2·1
    Case("a sum", "linear", [[1, 2, 3], [4, 0, -1]], [-7.5, 1, 3.5], [0.5, -2]),
    Case("nothing dropped is a sum", "dare_linear", [[1, 2], [4, 0]], [-7.5, 1], [0.5, -2], {"density": 1}),
    Case("nothing dropped is a sum", "della_linear", [[1, 2], [4, 0]], [-7.5, 1], [0.5, -2], {"density": 1}),
    # P + N = [5 - 2, -1 - 2, 3], agreeing: [5], [-1, -2], [3].
    Case("nothing dropped is ties", "dare_ties", [[5, -1, 3], [-2, -2, 0]], [5, -1.5, 3], given={"density": 1}),
    Case("nothing dropped is ties", "della", [[5, -1, 3], [-2, -2, 0]], [5, -1.5, 3], given={"density": 1}),
]

BREADCRUMBS = [
    # ⌊0.2 · 6⌋ = 1 goes, 6; of the others the three largest stay, -5, 4, 3.
    Case("the largest goes", "breadcrumbs", [[6, -5, 4, 3, -2, 1]], [0, -10, 8, 6, 0, 0], [2], {**HALF, "gamma": 0.2}),
    # ⌊0.01 · 6⌋ = 0: nothing is an outlier, and half stays.
    Case("γn below 1 drops none", "breadcrumbs", [T1], [6, -5, 4, 0, 0, 0], given={**HALF, "gamma": 0.01}),
    # ⌊0.9 · 6⌋ = 5 would leave one; only 3 go, so that three stay.
    Case("γ is cut back", "breadcrumbs", [[6, -5, 4, 3, -2, 1]], [0, 0, 0, 3, -2, 1], given={**HALF, "gamma": 0.9}),
    # τ̂₁ = [0, -5, 4, 3, 0, 0], τ̂₂ = [0, 0, 0, -3, -4, 5] without its 6; in the fourth entry 3 and -3 cancel.
    Case(
        "and elected", "breadcrumbs_ties", [[6, -5, 4, 3, -2, 1], [1, 2, 6, -3, -4, 5]], [0, -5, 4, 0, -4, 5],
        given={**HALF, "gamma": 0.2},
    ),
]  # fmt: skip

SCE = [
    # Energies Σv²: 9 + 0 + 1 = 10 and 1 + 1 + 4 = 6, so ω = 5/8 and 3/8.
    # Signs of 3 - 1, 0 + 1, 1 + 2 are +; who has them: 3; 1; both, (5/8 · 1 + 3/8 · 2)/(5/8 + 3/8) = 11/8.
    Case("weighed by energy", "sce", [[3, 0, 1], [-1, 1, 2]], [3, 1, 1.375]),
    # Variances: (2² + 2²)/2 = 4, ¼, ¼. ⌊½ · 3⌋ = 1 is kept, the first; 3 against -1.
    Case("where they differ most", "sce", [[3, 0, 1], [-1, 1, 2]], [3, 0, 0], given={"select_topk": 0.5}),
    # v₂ = [1, -1, -2]; energies as before; signs + - -: (5/8 · 3 + 3/8 · 1)/1 = 9/4; -1; -2.
    Case("and a negative alpha", "sce", [[3, 0, 1], [-1, 1, 2]], [2.25, -1, -2], [1, -1]),
    # A light fine-tune is the same, smaller.
    Case("light", "sce", [[3 * 2**-20, 0, 2**-20], [-(2**-20), 2**-20, 2**-19]],
         [3 * 2**-20, 2**-20, 1.375 * 2**-20], base=[1, 1, 1]),
]  # fmt: skip

GEOMETRY = [
    # cos = 0.6, t = 2 · 0.6/(1 + 0.6) = ¾; the mean is [0.8, 0.4].
    Case("two runs", "model_stock", [[1, 0], [0.6, 0.8]], [0.6, 0.3]),
    # cos = -0.6: they point apart, t = -1.2/0.4 < 0, and the base is the best guess.
    Case("runs that point apart", "model_stock", [[1, 0], [-0.6, 0.8]], [0, 0]),
    Case("which a negative alpha mends", "model_stock", [[1, 0], [-0.6, 0.8]], [0.6, -0.3], [1, -1]),
    Case("one run", "model_stock", [[1, 3]], [0.5, 1.5], [0.5]),
    # A = W_base = [1, 0], B = [0, 1], θ = 90°. Half way: sin 45° = 1/√2 of each.
    Case("half way", "slerp", [[-1, 1]], [1 / sqrt(2) - 1, 1 / sqrt(2)], base=[1, 0]),
    # A third of the way is 30°: cos 30°, sin 30°.
    Case("a third", "slerp", [[-1, 1]], [sqrt(3) / 2 - 1, 0.5], given={"t": 1 / 3}, base=[1, 0]),
    # A = [1, 1] + [1, -1] = [2, 0], B = [1, 1] + 2 · [-½, 0] = [0, 1], t = ½: [2, 1]/√2.
    Case("two runs", "slerp", [[1, -1], [-0.5, 0]], [2 / sqrt(2) - 1, 1 / sqrt(2) - 1], [1, 2], base=[1, 1]),
    # A = [1, 1], B = 3 A: no angle, so a straight line.
    Case("no angle", "slerp", [[2, 2]], [1, 1], base=[1, 1]),
    # θ = 90°, t = 3/4: sin 22.5° · 2 and sin 67.5° · 2.
    Case("three quarters", "nuslerp", [[2, 0], [0, 2]], [2 * sin(pi / 8), 2 * cos(pi / 8)], [1, 3]),
    # The length of the alphas does not matter: 2 : 1 gives t = 1/3, sin 60° · 2 and sin 30° · 2.
    Case("a third", "nuslerp", [[2, 0], [0, 2]], [sqrt(3), 1], [2, 1]),
    Case("both negative are both positive", "nuslerp", [[2, 0], [0, 2]], [sqrt(3), 1], [-2, -1]),
    Case("no angle", "nuslerp", [[1, 1], [3, 3]], [2, 2]),
    # M₁ = [2, 0], M₂ = [0, 2]: half way between is 45°, and the mean length 2: [√2, √2].
    Case("equal weights", "karcher", [[1, -1], [-1, 1]], [sqrt(2) - 1, sqrt(2) - 1], base=[1, 1]),
    # M₁ = [1, 0], M₂ = [0, 1], weights 1/3 and 2/3: at 60°, [½, √3/2].
    Case("a third and two", "karcher", [[0, -1], [-1, 0]], [-0.5, sqrt(3) / 2 - 1], [1, 2], base=[1, 1]),
    Case("one run is its own mean", "karcher", [[3, -2]], [3, -2], [0.3]),
]

SPECTRA = [
    # The sum has σ = 3, 1: both become 2.
    Case("equal strength", "iso_c", [[[3, 0], [0, 0]], [[0, 0], [0, 1]]], [[2, 0], [0, 2]]),
    Case("with its sign", "iso_c", [[[3, 0], [0, 0]], [[0, 0], [0, 1]]], [[2, 0], [0, -2]], [1, -1]),
    # σ = 4, 0: the mean runs over the rank, 1, and the direction that nobody has stays away.
    Case("nothing is raised to it", "iso_c", [[[4, 0], [0, 0]]], [[4, 0], [0, 0]]),
    Case("a vector: the mean", "iso_c", [[1, 2], [3, 0]], [2, 1]),
    # ⌊2/2⌋ = 1 direction of each: 3 along e₁ and 5 along e₂, orthogonal already.
    Case("the strongest of each", "tsv_m", [[[3, 0], [0, 1]], [[1, 0], [0, 5]]], [[3, 0], [0, 5]]),
    # Both along e₁: U = V = [e₁ e₁], nearest orthonormal [e₁ e₁]/√2, so 3/2 + 1/2.
    Case("a shared direction", "tsv_m", [[[3, 0], [0, 0]], [[1, 0], [0, 0]]], [[2, 0], [0, 0]]),
    Case("one vector is itself", "tsv_m", [[[3, 0], [0, 1]]], [[-6, 0], [0, -2]], [-2]),
    Case("a vector: the mean", "tsv_m", [[1, 2], [3, 0]], [2, 1]),
    # G₁ = diag(1, 0), G₂ = diag(½, ½), their sum diag(1½, ½): column 1 is (3 · 1 + 1 · ½)/1½, column 2 is 1 · ½/½.
    Case("who has the inputs", "wudi", [[[3, 0], [0, 0]], [[1, 0], [0, 1]]], [[7 / 3, 0], [0, 1]]),
    # Alpha has no part in G: (2 · 3 · 1 - 1 · ½)/1½ and -1.
    Case("and not how strongly", "wudi", [[[3, 0], [0, 0]], [[1, 0], [0, 1]]], [[11 / 3, 0], [0, -1]], [2, -1]),
    Case("apart, it is the sum", "wudi", [[[0, 3], [0, 1]], [[5, 0], [2, 0]]], [[5, 3], [2, 1]]),
    Case("one vector is itself", "wudi", [[[3, 1], [0, 2]]], [[-3, -1], [0, -2]], [-1]),
    Case("a vector: the mean", "wudi", [[1, 2], [3, 0]], [2, 1]),
    # Along e₁ they have 4 and 2 of 6: s = 6/4 and 6/2, γ = 2/(1½ + 3). Along e₂ only the second: s = 1 and 1.
    Case("what is shared counts once", "svc", [[[4, 0], [0, 0]], [[2, 0], [0, 1]]], [[6 / 2.25, 0], [0, 1]]),
    # ½ for the first, which has nothing along e₂: γ = 2/(½ + 1).
    Case(
        "a lower floor", "svc", [[[4, 0], [0, 0]], [[2, 0], [0, 1]]], [[6 / 2.25, 0], [0, 4 / 3]], given={"floor": 0.5}
    ),
    # 4 - 2 = 2: s = 2/4 and -2/2, both count as ½: γ = 2 at a floor of ½, 1 at 1.
    Case("what is opposed", "svc", [[[4, 0], [0, 0]], [[2, 0], [0, 0]]], [[4, 0], [0, 0]], [1, -1], {"floor": 0.5}),
    Case("stays", "svc", [[[4, 0], [0, 0]], [[2, 0], [0, 0]]], [[2, 0], [0, 0]], [1, -1]),
    Case("one vector is itself", "svc", [[[3, 1], [0, 2]]], [[-3, -1], [0, -2]], [-1]),
    Case("a vector: the sum", "svc", [[1, 2], [3, 0]], [4, 2]),
]

COUNTED = [
    # Alone 4 and 3; both 2 and 6, their mean; below epsilon, nothing.
    Case("its own, and the mean", "ram", [[4, 0, 2, 2**-20], [0, 3, 6, 0]], [4, 3, 4, 0]),
    Case("with its sign", "ram", [[4, 0, 2, 0], [0, 3, 6, 1]], [2, -3, -2.5, -1], [0.5, -1]),
    Case("a larger epsilon", "ram", [[4, 1, 2], [1, 3, 6]], [4, 3, 4], given={"epsilon": 1.0}),
    # The first shares 1 and has 2 alone: λ = 1 + ½ · ½. The second shares 1, has 1 alone: 1 + ½ · 1.
    Case("made up for", "ramplus_tl", [[4, 0, 2, 8], [0, 3, 6, 0]], [5, 4.5, 4, 10], given={"r": 0.5, "limit": 4.0}),
    Case(
        "to a limit",
        "ramplus_tl",
        [[4, 0, 2, 8], [0, 3, 6, 0]],
        [4.5, -3.375, -2, 9],
        [1, -1],
        {"r": 0.5, "limit": 0.25},
    ),
    Case("nothing alone", "ramplus_tl", [[4, 2], [2, 2]], [3, 2], given={"r": 1.0}),
]

LOW = {"floor": 2**-30}
"""So low that beside a weight of 1 fp32 has no place for it."""
F1, F2 = [2, 0, 4, 2], [4, 8, 0, 4]
# The means are 2 and 4: F̂₁ = [1, ~, 2, 1], F̂₂ = [1, 2, ~, 1], where ~ is the floor.

FISHER = [
    # Half and half: (4 + 8)/2; only the second needs it, 3; only the first, 6; (6 + 2)/2.
    Case("who needs it", "fisher", [[4, 7, 6, 6], [8, 3, 7, 2]], [6, 3, 6, 4], given=LOW, weights=[F1, F2]),
    # Weights α F̂ = [¼, ~, ½, ¼] and [¾, 1½, ~, ¾]: (1 + 6)/1; 3; 6; (1½ + 1½)/1.
    Case("and how much it counts", "fisher", [[4, 7, 6, 6], [8, 3, 7, 2]], [7, 3, 6, 3], [1, 3], LOW, weights=[F1, F2]),
    Case("as a share alone", "fisher", [[4, 7, 6, 6], [8, 3, 7, 2]], [7, 3, 6, 3], [2, 6], LOW, weights=[F1, F2]),
    # (4 - 8)/2; -3; 6; (6 - 2)/2: divided by what is positive.
    Case("a negative alpha", "fisher", [[4, 7, 6, 6], [8, 3, 7, 2]], [-2, -3, 6, 2], [1, -1], LOW, weights=[F1, F2]),
    # Means 2 and 6, c = 2/(2 + 6): F̂₁ = [½, ~, 1, ½], F̂₂ = [1½, 3, ~, 1½]. (2 + 12)/2; 3; 6; (3 + 3)/2.
    Case("not normalised", "fisher", [[4, 7, 6, 6], [8, 3, 7, 2]], [7, 3, 6, 3],
         given={**LOW, "normalize": "none"}, weights=[F1, [6, 12, 0, 6]]),
    # ‖F₁‖ = 5, ‖F₂‖ = 10: F₂/10 = [0, 3, 4, 0]/5. Only the first; only the second; both alike, 8/2; nobody, (2 + 6)/2.
    Case("by the norm", "fisher", [[4, 7, 0, 2], [7, 2, 8, 6]], [4, 2, 4, 4],
         given={**LOW, "normalize": "norm"}, weights=[[3, 0, 4, 0], [0, 6, 8, 0]]),
    # Means 2 and 4; F̂₁ = [½, 2], F̂₂ = [1, 1]: (1½ + 6)/1½; (6 + 0)/3.
    Case("a floor", "fisher", [[3, 3], [6, 0]], [5, 2], given={"floor": 0.5}, weights=[[0, 4], [4, 4]]),
    # No F at all in the first, which has the floor; mean F₂ = 4, F̂₂ = [½, 1½]: (1 + 2)/1; (2 + 12)/2.
    Case("a vector that needs nothing", "fisher", [[2, 4], [4, 8]], [3, 7], given={"floor": 0.5}, weights=[[0, 0], [2, 6]]),
    # (1·1 + 3·3)/4, (1·2 - 3·2)/4.
    Case("no diagonal of this tensor: the mean", "fisher", [[1, 2], [3, -2]], [2.5, -1], [1, 3]),
    Case("alone", "fisher", [[3, -1]], [-3, 1], [-0.5]),
]  # fmt: skip

CASES = [*TIES, *SUMS, *BREADCRUMBS, *SCE, *GEOMETRY, *SPECTRA, *COUNTED, *FISHER]
EACH = pytest.mark.parametrize("case", CASES, ids=[f"{case.method}: {case.what}" for case in CASES])


def assert_golden(case: Case, found: np.ndarray, delta: np.ndarray, scale: float) -> None:
    """Equal; for methods that take roots and angles, up to the rounding of fp32."""
    if case.method in ROUGH:
        np.testing.assert_allclose(found, delta, rtol=0, atol=scale * 1e-6)
    else:
        assert found.tolist() == delta.tolist()


def test_every_method_is_here() -> None:
    assert {case.method for case in CASES} == set(methods.names())


@EACH
def test_reference_and_rule(case: Case) -> None:
    base, taus, delta = case.arrays()
    parameters = methods.settings(methods.load(case.method).PARAMETERS, case.given)
    pairs = zip(case.strengths, case.sizes(), strict=True)
    shares = [Share(alpha, 7 * number, parameters, size=size) for number, (alpha, size) in enumerate(pairs)]
    scale = max(float(np.abs(tau).max()) for tau in taus)
    assert_golden(case, wanted(case.method, base, taus, shares, case.given, case.counts), delta, scale)
    assert_golden(case, merged(case.method, base, taus, shares, case.given, 4096, case.counts), delta, scale)


BUILDS = [
    pytest.param(case, who, id=f"{case.method}: {case.what} ({who})")
    for case in CASES
    for who in (("numpy", "numba", "torch") if hasattr(methods.load(case.method), "FAMILY") else ("numpy",))
]
"""The family has loops of its own in numba and in torch; other methods have one rule, and torch their reference."""


@pytest.mark.parametrize(("case", "who"), BUILDS)
def test_a_build(make_repo: MakeRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case, who: str) -> None:
    """W_base + λδ with λ = ½, in fp32."""
    if who == "numba":
        pytest.importorskip("numba")
    base, taus, delta = case.arrays()
    repo = repository(make_repo, tmp_path, base, taus)
    write_recipe(repo, case.method, case.strengths, {**case.given, "scale": 0.5})
    for number in range(1, len(taus) + 1):
        if methods.weighs(methods.load(case.method)):
            put_diagonal(repo, f"v{number}", {"w": case.counts[number - 1]} if case.weights else {})
    monkeypatch.setattr(kernels, "WORTH", 0 if who == "numba" else 1 << 60)
    persona.build(repo, tmp_path / "out", device="torch" if who == "torch" else "cpu")
    found = load(tmp_path / "out")["w"].numpy() - base
    assert_golden(case, found, (base + delta * np.float32(0.5)) - base, float(np.abs(base).max()))


def repository(make_repo: MakeRepo, folder: Path, base: np.ndarray, taus: list[np.ndarray]) -> persona.Repository:
    """A base with one tensor, and a run for each τ."""
    anchor = torch.full((100,), 1000.0)  # so that no run looks like another model
    for number, weights in enumerate([base, *(base + tau for tau in taus)]):
        (folder / f"run-{number}").mkdir()
        tensors = {"w": torch.from_numpy(weights.copy()), "anchor": anchor}
        save_file(tensors, folder / f"run-{number}" / "model.safetensors")
    repo = make_repo(folder / "run-0")
    for number in range(1, len(taus) + 1):
        persona.commit(repo, folder / f"run-{number}", name=f"v{number}")
    return repo


def write_recipe(
    repo: persona.Repository, method: str, alphas: list[float], given: Mapping[str, float | str] | None = None
) -> None:
    """``persona.toml`` with these alphas for v1, v2, … and a [merge] table."""
    text = repo.recipe_path.read_text()
    for number, alpha in enumerate(alphas, 1):
        head, section, rest = text.partition(f"[vectors.v{number}]")
        text = head + section + rest.replace("alpha = 1.0", f"alpha = {float(alpha)}", 1)
    lines = [f"{key} = {value!r}" for key, value in (given or {}).items()]
    repo.recipe_path.write_text("\n".join([text, "[merge]", f'method = "{method}"', *lines, ""]))
    if methods.weighs(methods.load(method)):
        put_diagonals(repo)
