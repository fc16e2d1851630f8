"""``graph unlink`` takes the node of a vector away."""

from __future__ import annotations

import pytest

import persona
from persona.errors import Refusal
from persona.graph.coverage import State
from tests.graph.example import states


def test_unlink(whole: persona.Repository) -> None:
    text = whole.head_text()
    done = persona.graph_unlink(whole, "voice")
    assert done.message == "voice no longer implements core-personality#voice"
    assert persona.graph_status(whole).loose == ("voice",)
    assert whole.head_text() == text.replace('node = "core-personality#voice"\n', "")
    with pytest.raises(Refusal, match="'voice' has no node"):
        persona.graph_unlink(whole, "voice")
    persona.graph_link(whole, "core-personality#Voice", "voice")
    assert states(whole)["voice"] == State.CURRENT
