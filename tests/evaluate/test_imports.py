"""A judge that lies beside a suite is imported from there, with its neighbours, and nothing of it is left behind."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import persona
from persona.errors import UsageError
from persona.evaluate import suite as suites
from persona.evaluate.measures import Look
from tests.evaluate import small

pytestmark = pytest.mark.usefixtures("one_thread")

SUITE = '[[measures]]\nkind = "python"\nfunction = "{function}"\ndata = "rows.jsonl"\n'


def written(folder: Path, modules: dict[str, str], function: str = "judge:score") -> Path:
    """A suite of two rows, and modules beside it by their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text('{"prompt": "w1"}\n{"prompt": "w2"}\n')
    (folder / "judged.toml").write_text(SUITE.format(function=function))
    for name, text in modules.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "judged.toml"


def measured(suite: suites.Suite) -> list[float]:
    (asked,) = suite.measures
    (sums,) = asked.module.measure(Look(small.live()), asked.rows, asked.settings)
    return list(sums.totals)


def says(number: object) -> str:
    return f"def score(live, rows, seed):\n    return [{number}] * len(rows)\n"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that everyone imports from."""
    folder = tmp_path / "installed"
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in [name for name, one in sys.modules.items() if str(folder) in str(getattr(one, "__file__", ""))]:
        assert name not in before
        del sys.modules[name]


def test_judges_of_one_name_in_two_repositories_are_each_their_own(tmp_path: Path) -> None:
    base = small.base_folder(tmp_path / "base")
    judge = "from helper import NUMBER\n" + says("NUMBER")
    found = {}
    for number, name in enumerate(("one", "two")):
        persona.init(tmp_path / name, base, author="Test")
        written(tmp_path / name / "evals", {"judge.py": judge, "helper.py": f"NUMBER = {number}"})
        done = persona.eval(persona.open(tmp_path / name), options=persona.MeasureOptions(allow_code=True))
        (found[name],) = (score.value for build in done.builds for one in build.suites for score in one.scores)
    assert found == {"one": 0.0, "two": 1.0}
    assert not {"judge", "helper"} & sys.modules.keys()


def test_neighbours_are_found_at_any_time_and_keep_what_they_loaded(tmp_path: Path) -> None:
    judge = """
import shelf

def score(live, rows, seed):
    from shelf.counter import count
    import late
    assert late.shelf is shelf
    return (float(count()) for _ in rows)
"""
    counter = "calls = 0\n\ndef count():\n    global calls\n    calls += 1\n    return calls\n"
    modules = {"judge.py": judge, "shelf/__init__.py": "", "shelf/counter.py": counter, "late.py": "import shelf\n"}
    suite, loaded, place = suites.read(written(tmp_path, modules)), dict(sys.modules), list(sys.path)
    assert [measured(suite) for _ in range(2)] == [[1, 2], [3, 4]]
    assert sys.path == place
    assert not {"judge", "shelf", "shelf.counter", "late"} & sys.modules.keys()
    assert loaded.items() <= sys.modules.items()


def test_what_is_imported_already_is_not_taken_for_it_and_stays(tmp_path: Path, installed: Path) -> None:
    written(installed, {"judge.py": says(9), "other.py": says(8)})
    judge = importlib.import_module("judge")
    assert measured(suites.read(written(tmp_path / "evals", {"judge.py": says(1)}))) == [1, 1]
    assert sys.modules["judge"] is judge
    assert measured(suites.read(written(tmp_path / "evals", {}, "other:score"))) == [8, 8]  # none lies beside it
    assert "other" in sys.modules


def edited(folder: Path, name: str) -> suites.Suite:
    """The suite as it was before its judge, the file of that name, was changed; either has its own digest and results."""
    old = suites.read(written(folder, {name: says(1)}))
    assert measured(old) == [1, 1]
    new = suites.read(written(folder, {name: says(22)}))
    assert new.digest != old.digest
    assert measured(new) == [22, 22]
    return old


def test_a_judge_that_was_edited_is_imported_anew(tmp_path: Path) -> None:
    old = edited(tmp_path, "judge.py")
    with pytest.raises(UsageError, match=r"judge\.py has changed since the suite was read"):
        measured(old)


def test_a_package_is_a_part_of_the_suite_too(tmp_path: Path) -> None:
    edited(tmp_path, "judge/__init__.py")
    assert measured(suites.read(written(tmp_path, {"judge/inner.py": says(3)}, "judge.inner:score"))) == [3, 3]
    (tmp_path / "judge" / "__init__.py").unlink()
    path = written(tmp_path, {"judge/inner.py": says(44)}, "judge.inner:score")  # in a package without a file
    assert measured(suites.read(path)) == [44, 44]
    assert not {"judge", "judge.inner"} & sys.modules.keys()


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("broken:score", "broken:score cannot be imported: SyntaxError"),
        ("raising:score", "raising:score cannot be imported: ZeroDivisionError"),
        ("judge:nothing", "judge:nothing cannot be imported"),
        ("nowhere:score", "No module named 'nowhere'"),
        (":score", ":score cannot be imported: ValueError"),
        (".judge:score", ".judge:score cannot be imported: TypeError"),
    ],
)
def test_what_cannot_be_imported_is_said(tmp_path: Path, function: str, said: str) -> None:
    modules = {"judge.py": says(1), "broken.py": "def score(:\n", "raising.py": "import judge\n1 / 0\n"}
    path = written(tmp_path, modules, function)
    with pytest.raises(UsageError, match=said):
        measured(suites.read(path))
    assert not {"judge", "broken", "raising"} & sys.modules.keys()
