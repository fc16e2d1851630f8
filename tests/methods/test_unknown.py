"""A recipe may name a method that is not here: a teammate's own, or a newer version's. Looking at it must still work."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import persona
from persona import methods
from persona.errors import UsageError
from persona.recipe import edit
from persona.recipe.builds import build_digest
from tests.models import TinyModels


@pytest.fixture
def repo(
    models: TinyModels, make_repo: Callable[[Path], persona.Repository], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> persona.Repository:
    """Two vectors, merged by a module that was there when they were committed."""
    repo = make_repo(models.base())
    for seed, name in enumerate(("calm", "quick"), 1):
        persona.commit(repo, models.run(seed), name=name, author="Test")
    shutil.copy(Path(methods.__path__[0]) / "linear.py", tmp_path / "mine.py")
    with monkeypatch.context() as here:
        here.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
        methods.names.cache_clear()
        repo.recipe_path.write_text(edit.set_merge(repo.recipe_path.read_text(), "mine", 1.0, {}))
        persona.commit(repo, message="merge by mine", author="Test")
        digest = build_digest(repo.recipe(repo.head()))
    del sys.modules["persona.methods.mine"]
    methods.names.cache_clear()
    assert build_digest(repo.recipe(repo.head())) == digest  # what was measured is still found
    return repo


def test_it_can_be_looked_at_and_left(repo: persona.Repository, tmp_path: Path) -> None:
    assert persona.log(repo)[0].subject == "merge by mine"
    assert persona.status(repo).recipe.method == "mine"
    persona.show(repo, "HEAD")
    assert persona.fsck(repo).ok
    persona.checkout(repo, "HEAD~1")
    persona.build(repo, tmp_path / "built")


def test_it_cannot_be_built_and_says_why(repo: persona.Repository, tmp_path: Path) -> None:
    for rev in (None, "HEAD"):
        with pytest.raises(UsageError, match="unknown method 'mine'") as caught:
            persona.build(repo, tmp_path / "built", rev)
        assert "another version of persona" in caught.value.hint
    assert not (tmp_path / "built").exists()


def test_a_mistake_inside_a_module_is_not_taken_for_its_absence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        methods.load("broken")


@pytest.mark.parametrize("name", ["", "../linear", "parts", "parts.core", "a b", "linear\0", "__init__"])
def test_what_is_no_name_of_a_method_is_unknown(name: str) -> None:
    with pytest.raises(UsageError, match="unknown method"):
        methods.load(name)
