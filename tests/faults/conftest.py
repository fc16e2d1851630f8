from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Zygote:
    """The process that forks children which fail."""

    process: subprocess.Popen[str]

    def run(self, cwd: Path, argv: list[str], at: int = 0, fault: str = "none", split: int = 0) -> tuple[int, int]:
        """Exit code (or minus a signal) and the number of effects of a command line."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = {"cwd": str(cwd), "argv": argv, "at": at, "fault": fault, "split": split}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["status"], answer["effects"]


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.zygote"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        yield Zygote(process)
        assert process.stdin is not None
        process.stdin.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many points, and how many examples, were tried."""
    for what in ("fault points", "fuzz examples"):
        found = [
            (report.nodeid.rpartition("::")[2], value)
            for report in terminalreporter.stats.get("passed", [])
            for name, value in getattr(report, "user_properties", [])
            if name == what and report.when == "call"
        ]
        if found:
            terminalreporter.section(f"{what} tried")
            for name, value in found:
                terminalreporter.write_line(f"{value:5}  {name}")
            terminalreporter.write_line(f"{sum(value for _, value in found):5}  in all")
