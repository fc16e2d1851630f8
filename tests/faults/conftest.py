from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

HEAVY = {
    "build --as-adapter": ("transformers.conversion_mapping", "transformers.models.llama.modeling_llama"),
    "train": ("persona.training.run",),
    "tune": ("optuna",),
    "readout train": (
        "persona.readout.capturing",
        "persona.inference.load",
        "transformers.models.llama.modeling_llama",
    ),
    "fisher": ("persona.training.fisher", "persona.inference.load", "transformers.models.llama.modeling_llama"),
}
"""What commands import that takes long. They have a zygote of their own: a fork with torch in it takes four times as long as one without."""


LONG = ("persona.training.run", "optuna", "persona.readout.capturing", "transformers.models.llama.modeling_llama")
"""The same for commands that are killed at calls: one process for all of them."""


class Zygote:
    """The processes that fork children which fail."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._processes: dict[tuple[str, ...], subprocess.Popen[str]] = {}

    def run(
        self, cwd: Path, argv: list[str], at: int = 0, fault: str = "none", split: int = 0, *, calls: bool = False
    ) -> tuple[int, int]:
        """Exit code (or minus a signal) and the number of effects, or calls, of a command line."""
        command = "build --as-adapter" if "--as-adapter" in argv else argv[0]
        process = self._with(LONG if calls else HEAVY.get(command, ()))
        assert process.stdin is not None
        assert process.stdout is not None
        request = {"cwd": str(cwd), "argv": argv, "at": at, "fault": fault, "split": split, "calls": calls}
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        return answer["status"], answer["effects"]

    def _with(self, modules: tuple[str, ...]) -> subprocess.Popen[str]:
        """The process that has these modules; it ends with its standard input."""
        if modules not in self._processes:
            started = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.zygote", *modules],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[2],
                env={**os.environ, "OMP_NUM_THREADS": "1"} if modules == LONG else None,
            )
            self._processes[modules] = self._stack.enter_context(started)
        return self._processes[modules]


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    with ExitStack() as stack:
        yield Zygote(stack)


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
