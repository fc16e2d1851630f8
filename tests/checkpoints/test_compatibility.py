"""The checks of ``docs/compatibility.md``: a few families by default, all of them with ``--slow``."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.tools.compatibility import PAGE, mark, read
from tests.compatibility import CHECKS
from tests.families import FAMILIES

pytestmark = pytest.mark.filterwarnings("ignore")  # peft's and transformers' own
FEW = ("Llama, tied", "GPT-2", "Qwen3-MoE", "Mamba 2", "BART", "Whisper", "Qwen2-VL")


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("family", FEW)
def test_a_few_families(family: str, check: str, tmp_path: Path) -> None:
    CHECKS[check](family, tmp_path)


def test_the_page_lists_every_family() -> None:
    assert list(read(PAGE.read_text())) == list(FAMILIES)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_as_the_page_says(family: str, tmp_path: Path) -> None:
    found = {check: mark(family, check, tmp_path / check.replace(" ", "-")).sign for check in CHECKS}
    assert found == read(PAGE.read_text())[family]
