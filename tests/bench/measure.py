"""Runs a command and says what it took: wall, processor time, peak memory."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

MB = 1e6


@dataclass(frozen=True)
class Took:
    """Seconds, and bytes at the peak, sampled each 5 ms. ``anonymous`` leaves out file-backed pages.

    Processor time and memory are of the command and the processes that it starts; of those, memory is their sum.
    """

    wall: float
    cpu: float
    rss: float
    anonymous: float


def run(command: Sequence[str | Path], cwd: Path | None = None) -> Took:
    """Run a command to its end; it must succeed."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command], cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    watch = _Watch(process.pid)
    watch.start()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    watch.stop.set()
    watch.join()
    assert process.stderr is not None
    if status:
        raise SystemExit(f"{' '.join(map(str, command))}\n{process.stderr.read().decode()}")
    process.returncode = 0
    process.stderr.close()
    return Took(wall, usage.ru_utime + usage.ru_stime, watch.peaks["VmHWM"], watch.peaks["RssAnon"])


class _Watch(threading.Thread):
    """Looks at a process's memory while it runs; ``ru_maxrss`` would count what its parent had before the exec."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.stop = threading.Event()
        self.peaks = {"VmHWM": 0.0, "RssAnon": 0.0}

    def run(self) -> None:
        while not self.stop.wait(0.005):
            found = [sizes for pid in _family(self.pid) if (sizes := _sizes(pid))]
            if not found:
                return
            resident = sum(sizes.get("VmRSS", 0.0) for sizes in found)
            self.peaks["VmHWM"] = max(self.peaks["VmHWM"], resident, found[0].get("VmHWM", 0.0))
            self.peaks["RssAnon"] = max(self.peaks["RssAnon"], sum(sizes.get("RssAnon", 0.0) for sizes in found))


def _family(pid: int) -> list[int]:
    """A process and those that it started, as git starts git-lfs."""
    found = [pid]
    for one in found:  # grows while it is walked
        try:
            for path in Path(f"/proc/{one}/task").glob("*/children"):
                found += map(int, path.read_text().split())
        except OSError:  # it has ended
            continue
    return found


def _sizes(pid: int) -> dict[str, float]:
    """Bytes of memory of a process; nothing if it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.splitlines())
    return {name: float(value.split()[0]) * 1024 for name, _, value in lines if name in ("VmHWM", "VmRSS", "RssAnon")}


def middle(runs: Sequence[Took]) -> Took:
    """The median of each figure."""
    return Took(*(median(getattr(took, name) for took in runs) for name in ("wall", "cpu", "rss", "anonymous")))


def row(name: str, took: Took) -> str:
    """A line of a Markdown table."""
    return f"| {name} | {took.wall:.2f} s | {took.cpu:.2f} s | {took.rss / MB:.0f} MB | {took.anonymous / MB:.0f} MB |"


HEAD = "| | wall | CPU | peak memory | of it anonymous |\n|---|---|---|---|---|"
