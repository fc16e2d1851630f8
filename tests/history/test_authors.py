"""Who makes a commit, and what reads one."""

from __future__ import annotations

from pathlib import Path

import pytest

import persona
from persona.authors import author_of
from tests.models import TinyModels


@pytest.fixture
def git_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "gitconfig"
    config.write_text("[user]\nname = Grace\nemail = grace@example.org\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("git_user")
@pytest.mark.parametrize(
    ("user", "wanted"),
    [
        ({}, "Grace <grace@example.org>"),
        ({"name": "Ada"}, "Ada <grace@example.org>"),
        ({"name": "Ada", "email": "ada@example.org"}, "Ada <ada@example.org>"),
    ],
)
def test_the_settings_of_the_repository_come_before_those_of_git(user: dict[str, str], wanted: str) -> None:
    assert author_of(user) == wanted


def test_without_git_it_is_the_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("LOGNAME", "gr\udcffce")
    assert author_of({}) == "gr\ufffdce"


@pytest.mark.usefixtures("git_user")
def test_the_library_records_the_same_author_as_the_commands(tmp_path: Path, models: TinyModels) -> None:
    persona.init(tmp_path / "work", models.base())
    repo = persona.open(tmp_path / "work")
    persona.commit(repo, models.run(1), name="a")
    assert {one.author for one in persona.log(repo)} == {"Grace <grace@example.org>"}
    (repo.folder / "config.toml").write_text('[user]\nname = "Ada"\nemail = ""\n')
    persona.alpha(persona.open(repo.root), {"a": 0.5})
    assert persona.log(repo)[0].author == "Ada <grace@example.org>"
    assert persona.log(repo)[0].author == persona.open(repo.root).author


def test_reading_a_commit_is_not_making_one(repo: persona.Repository) -> None:
    head = repo.head()
    assert repo.commit(head).subject.startswith("base")
    for wrong in ("runs/x", Path("runs/x"), head.short):
        with pytest.raises(persona.PersonaError) as refused:
            repo.commit(wrong)  # type: ignore[arg-type]
        assert "repo.commit reads a commit" in refused.value.message
        assert f'persona.commit(repo, "{wrong}")' in refused.value.hint
    with pytest.raises(persona.PersonaError, match="has no option 'alpha'"):
        repo.commit("runs/x", name="x", alpha=0.5)  # type: ignore[arg-type]
