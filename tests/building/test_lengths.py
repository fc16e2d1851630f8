"""A note where a build's change is much longer or shorter than linear's would be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import persona
from persona import kernels
from persona.building import lengths
from persona.progress import Silent
from tests.models import TinyModels, load

VECTORS = 3


class Notes(Silent):
    """Keeps notes."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def tuned(models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> persona.Repository:
    """A base and fine-tunes that have nothing in common."""
    root = tmp_path_factory.mktemp("lengths")
    persona.init(root / "work", models.base("float32"), author="Test")
    repo = persona.open(root / "work")
    for number in range(VECTORS):
        persona.commit(repo, models.run(number + 1, "float32"), name=f"v{number}")
    return repo


def built(repo: persona.Repository, out: Path, said: str, device: str = "cpu") -> list[str]:
    """The notes of a build."""
    repo.recipe_path.write_text(repo.head_text().partition("\n[merge]")[0] + f"\n[merge]\n{said}\n")
    notes = Notes()
    persona.build(repo, out, device=device, progress=notes)
    return notes.said


def ratio(note: str) -> float:
    found = re.fullmatch(
        r"the merged change has (\S+) times the norm that linear would give it \(method '\w+'\); "
        r"'scale' in \[merge\] changes it", note,
    )  # fmt: skip
    assert found is not None, note
    return float(found[1])


WRONG = {
    "dropped": ('method = "dare_linear"\ndensity = 0.02\nrescale = "none"', 0.02**0.5),
    "by rows": ('method = "della_linear"\ndensity = 0.02\nepsilon = 0.0', 0.02**-0.5),
    "strengthened": ('method = "dare_ties"\ndensity = 0.02\nnormalize = "none"', 0.02**-0.5),
    "below epsilon": ('method = "ram"\nepsilon = 1.0', 0.0),
}
RIGHT = [
    'method = "linear"\nscale = 0.01', 'method = "task_arithmetic"\nscale = 9.0', 'method = "ties"', 'method = "tsv_m"',
    'method = "dare_linear"\ndensity = 0.02\nrescale = "none"\nscale = 7.0', 'method = "ram"', 'method = "karcher"',
]  # fmt: skip


@pytest.mark.parametrize("who", ["numba", "numpy", "torch"])
@pytest.mark.parametrize("case", WRONG)
def test_much_more_or_less_is_said(
    tuned: persona.Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, who: str
) -> None:
    monkeypatch.setattr(kernels, "WORTH", 0 if who == "numba" else 1 << 60)
    said, wanted = WRONG[case]
    (note,) = built(tuned, tmp_path / "out", said, "torch" if who == "torch" else "cpu")
    assert ratio(note) == pytest.approx(wanted, rel=0.15)


@pytest.mark.parametrize("said", RIGHT)
def test_nothing_is_said_of_what_is_near_or_made_up_for(tuned: persona.Repository, tmp_path: Path, said: str) -> None:
    assert built(tuned, tmp_path / "out", said) == []


@pytest.mark.parametrize("method", ["model_stock", "sce", "tsv_m"])
def test_the_lengths_are_those_of_the_builds(
    models: TinyModels, tuned: persona.Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(lengths, "_TIMES", 1.0)
    (note,) = built(tuned, tmp_path / "out", f'method = "{method}"')
    assert built(tuned, tmp_path / "sum", "") == []
    base = load(models.base("float32"))
    changes = [torch.cat([(w - base[n]).flatten() for n, w in load(tmp_path / one).items()]) for one in ("out", "sum")]
    assert ratio(note) == pytest.approx(float(changes[0].norm() / changes[1].norm()), rel=0.02)
