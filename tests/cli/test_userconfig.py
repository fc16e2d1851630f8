"""Settings of the user's own, which a repository cannot change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import persona
from tests.cli.conftest import Run

OTHER = 65_534


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    file = tmp_path / "config" / "persona" / "config.toml"
    file.parent.mkdir(parents=True)
    return file


@pytest.fixture
def foreign(repo: persona.Repository) -> Path:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    os.chown(repo.folder, OTHER, OTHER)
    return repo.root


def test_a_repository_of_another_user_is_refused(foreign: Path, config: Path, run: Run) -> None:
    (foreign / "below").mkdir()
    done = run(foreign / "below", "status")
    assert done.code != 0
    assert f"error: {foreign} belongs to another user" in done.err
    assert f'in [safe]: directory = ["{foreign}"]' in done.err


@pytest.mark.parametrize("listed", ["{}", "*"])
def test_unless_the_user_trusts_it(foreign: Path, config: Path, run: Run, listed: str) -> None:
    config.write_text(f'[safe]\ndirectory = ["{listed.format(foreign)}"]\n')
    assert run(foreign, "status").code == 0


def test_another_one_is_not_trusted_with_it(foreign: Path, config: Path, run: Run, tmp_path: Path) -> None:
    config.write_text(f'[safe]\ndirectory = ["{tmp_path}"]\n')
    (foreign / ".persona" / "config.toml").write_text('[safe]\ndirectory = ["*"]\n')
    assert run(foreign, "status").code != 0


def test_root_may_use_what_belongs_to_the_one_who_called_sudo(
    foreign: Path, config: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_UID", str(OTHER))
    assert run(foreign, "status").code == 0


def test_a_mistake_in_the_file_is_named(foreign: Path, config: Path, run: Run) -> None:
    config.write_text("[safe\n")
    done = run(foreign, "status")
    assert done.code == 2
    assert str(config) in done.err
