"""The numbers of trials that docs/format.md names are those of the tests."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.docs.session import ROOT
from tests.faults import test_every_effect as effects
from tests.faults import test_large_flips as flips
from tests.recipe import test_parse_fuzz as recipes
from tests.store import test_packs_fuzz as packs

PAGE = " ".join((ROOT / "docs" / "format.md").read_text().split())
COUNTS = {"packs": packs.INDEXES + packs.PAYLOADS, "texts": recipes.TEXTS + recipes.MUTATIONS + recipes.TABLES}


@pytest.mark.parametrize("what", COUNTS)
def test_examples(what: str, record_property: Callable[[str, object], None]) -> None:
    assert re.search(rf"\b{COUNTS[what]:,} {what}\b", PAGE)
    record_property("fuzz examples", COUNTS[what])


def test_flips_and_commands() -> None:
    assert f"and {flips.FLIPS} ({flips.FEW}) all over" in PAGE
    assert f"every ninth file effect of {len(effects.CASES)} commands (every eighteenth without" in PAGE
    assert (effects.LARGER_SHARE, effects.SHARE) == (9, 18)
