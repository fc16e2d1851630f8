"""Python beside a suite is run when its user has said so, and never before; what was allowed is known by its content."""

from __future__ import annotations

import importlib.util
import py_compile
from pathlib import Path

import pytest

import persona
from persona import MeasureOptions
from persona.cli import allowing
from persona.errors import UsageError
from persona.evaluate import suite as suites
from persona.evaluate.trust import SuiteCode, check_allowed, code_of
from tests.cli.conftest import Run, run
from tests.evaluate import small
from tests.evaluate.test_imports import measured, says, written

__all__ = ["run"]
pytestmark = pytest.mark.usefixtures("one_thread")


def digest(path: Path) -> str:
    code = code_of(suites.read(path))
    assert code is not None
    return code.digest


def test_what_is_asked_about(tmp_path: Path) -> None:
    """Everything that an import could reach, wherever the folder is, and nothing else."""
    modules = {
        "judge.py": says(1),
        "pkg/__init__.py": "",
        "pkg/deep/x.py": "",
        "notes.txt": "",
        "not-a-package/y.py": "",
    }
    path = written(tmp_path / "evals", modules)
    code = code_of(suites.read(path))
    assert code is not None
    assert code.functions == ("judge:score",)
    names = [file.relative_to(path.parent).as_posix() for file in code.files]
    assert names == ["judge.py", "pkg/__init__.py", "pkg/deep/x.py"]
    assert digest(written(tmp_path / "elsewhere", modules)) == code.digest
    known = {code.digest}
    for change in ({"pkg/deep/x.py": "1"}, {"judge.abi3.so": "x"}, {"os.pyc": "x"}, {"more/__init__.py": ""}):
        written(tmp_path / "evals", change)
        assert digest(path) not in known, change
        known.add(digest(path))
    assert digest(written(tmp_path / "evals", {}, "judge:other")) not in known
    written(tmp_path / "evals", {"notes.txt": "other", "__pycache__/judge.pyc": "x"})
    assert digest(written(tmp_path / "evals", {})) in known


def test_a_suite_without_code_is_not_asked_about(tmp_path: Path) -> None:
    path = written(tmp_path, {"judge.py": says(1)}, "an-entry-point")
    assert code_of(suites.read(path)) is None
    (tmp_path / "plain.toml").write_text('[[measures]]\nkind = "loss"\ndata = "rows.jsonl"\n')
    check_allowed(suites.read(tmp_path / "plain.toml"), False)


def test_a_judge_of_replies_is_asked_about_too(tmp_path: Path) -> None:
    path = written(tmp_path, {"judge.py": says(1)})
    path.write_text('[[measures]]\nkind = "replies"\nfunction = "judge:score"\ndata = "rows.jsonl"\n')
    (tmp_path / "rows.jsonl").write_text('{"prompt": "hi"}\n')
    with pytest.raises(UsageError, match="judge:score"):
        check_allowed(suites.read(path), False)


def test_an_installed_module_is_asked_about_too(tmp_path: Path) -> None:
    """A suite may name any function that is installed."""
    with pytest.raises(UsageError, match="os:abort"):
        check_allowed(suites.read(written(tmp_path, {}, "os:abort")), False)


def test_bytecode_that_came_with_a_suite_is_not_run(tmp_path: Path) -> None:
    """It may be of another source than the one that was read, and Python would believe its time and size."""
    path = written(tmp_path, {"judge.py": says(2)})
    (tmp_path / "other.py").write_text(says(1))
    cached = Path(importlib.util.cache_from_source(str(tmp_path / "judge.py")))
    py_compile.compile(
        str(tmp_path / "other.py"), str(cached), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    (tmp_path / "other.py").unlink()
    before = cached.read_bytes()
    assert measured(suites.read(path)) == [2, 2]
    assert cached.read_bytes() == before


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a suite that leaves a file behind when its code is imported."""
    root = tmp_path_factory.mktemp("judged") / "work"
    persona.init(root, small.base_folder(root.with_name("base")), author="Test")
    written(root / "evals", {"judge.py": f"open({str(root / 'ran')!r}, 'a').close()\n" + says(1)})
    return root


def test_nothing_is_run_before_it_is_allowed(
    judged: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    ran = judged / "ran"
    for command in (("eval",), ("sweep", "a", "--alpha", "1"), ("blame",), ("verify-vectors",), ("tune",)):
        assert run(judged, *command).code == 2, command
    done = run(judged, "eval")
    assert done.code == 2
    assert "judged.toml runs Python code that you have not allowed: judge:score" in done.err
    assert "judge.py" in done.err
    assert "--allow-code" in done.err
    with pytest.raises(UsageError, match="not allowed"):
        persona.eval(persona.open(judged))
    assert not ran.exists()
    assert not list(tmp_path.rglob("allowed-code/*"))

    assert run(judged, "eval", "--allow-code").code == 0
    assert ran.exists()
    assert run(judged, "eval", "--seed", "1").code == 0, "it is remembered"
    with (judged / "evals" / "judge.py").open("a") as file:
        file.write("# edited\n")
    assert run(judged, "eval", "--seed", "2").code == 2, "but not when it changed"
    asked: list[SuiteCode] = []
    allowed = MeasureOptions(seed=3, allow_code=lambda code: not asked.append(code))
    persona.eval(persona.open(judged), options=allowed)
    assert {code.suite.name for code in asked} == {"judged.toml"}


def test_the_question_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: object) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    code = code_of(suites.read(written(tmp_path, {"judge.py": says(1)})))
    assert code is not None
    answers = iter([False, True])
    monkeypatch.setattr("click.confirm", lambda *text, **options: next(answers))
    decide = allowing.trusting(False)
    assert [decide(code), decide(code), decide(code)] == [False, True, True]
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null")
    assert allowing.trusting(True)(code), "an answer that cannot be kept counts all the same"
