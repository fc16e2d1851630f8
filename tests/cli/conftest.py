from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from persona.cli.main import invoke


@dataclass(frozen=True)
class Said:
    """What a command said."""

    code: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line in a folder, in this process: ``run(folder, "log", "-n", "1")``."""

    def run(folder: Path, *args: str | Path) -> Said:
        capsys.readouterr()
        monkeypatch.chdir(folder)
        code = invoke([str(arg) for arg in args])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run
