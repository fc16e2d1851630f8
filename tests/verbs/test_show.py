"""``show``: a commit or a vector by name."""

from __future__ import annotations

import pytest

import persona
from persona.errors import UsageError
from persona.verbs.show import ShownCommit, ShownVector
from tests.models import TinyModels


def test_a_vector_is_first_where_it_was_committed_even_if_all_commits_are_of_one_second(
    repo: persona.Repository, models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persona.workspace.record.now", lambda: "2026-01-01T00:00:00+00:00")
    first = persona.commit(repo, models.run(1), name="a", author="Test").recorded
    assert first is not None
    persona.tag(repo, "then")
    for alpha in (0.5, 0.25, 0.125):
        persona.alpha(repo, {"a": alpha}, author="Test")
    assert persona.show(repo, "a@then").commit == first.commit
    assert persona.show(repo, "a").commit == first.commit


def test_a_commit_and_a_vector(added: persona.Repository) -> None:
    vector = persona.show(added, "a")
    assert isinstance(vector, ShownVector)
    assert vector.vector == persona.vectors(added)[0]
    assert vector.commit == added.head()
    commit = persona.show(added)
    assert isinstance(commit, ShownCommit)
    assert commit.commit == added.head()


def test_a_name_of_nothing(added: persona.Repository) -> None:
    with pytest.raises(UsageError, match="'nowhere' is not a vector, readout or revision") as caught:
        persona.show(added, "nowhere")
    assert caught.value.hint == "Known: HEAD, a, main."
