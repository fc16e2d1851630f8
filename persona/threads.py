"""Run work on all cores, and stop it at the first error or when the user interrupts."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path
from threading import Event
from typing import TypeVar

J = TypeVar("J")
K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Stopped(Exception):
    """May be raised by a job that sees that it should stop."""


def cores() -> int:
    """Return the number of cores that this process may use, at most what a container grants it."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        allowed = os.cpu_count() or 1
    return min(allowed, quota() or allowed)


def free_cores(load: float | None = None) -> int:
    """Return the number of cores that other programs leave free, at least 1.

    Args:
        load: Average number of running threads; by default that of the last minute, 0 where the system does not say.
    """
    if load is None:
        try:
            load = os.getloadavg()[0]
        except (AttributeError, OSError):
            load = 0.0
    return max(1, cores() - round(load))


@cache
def quota(process: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The CPU time that the control groups of this process grant it, in cores, rounded up; None without a limit.

    The affinity does not say: a container with ``--cpus 2`` may run on all cores of the machine, for a share of the time.
    """
    try:
        lines = [line.split(":", 2) for line in process.read_text().splitlines()]
    except OSError:
        return None
    limits = []
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "cpu" if controllers else root
        own = top / path.lstrip("/")
        for group in (own, *own.parents):
            if group == top or top in group.parents:
                limits.append(_limit(group))
    return min((limit for limit in limits if limit is not None), default=None)


def _limit(group: Path) -> int | None:
    """The limit of one control group, of version 2 or 1."""
    try:
        if (group / "cpu.max").is_file():
            granted, period = (group / "cpu.max").read_text().split()
        else:
            granted, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return max(1, -(-int(granted) // int(period))) if int(granted) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return None


def run_all(jobs: Mapping[K, Callable[[], T]], stop: Event | None = None) -> dict[K, T]:
    """Run all jobs, in the order given, and return their results by key.

    On an error or Ctrl-C, ``stop`` is set, jobs that have not started are cancelled, running ones are waited for, and
    the first error is raised.
    """
    pool = ThreadPoolExecutor(cores(), thread_name_prefix="persona")
    futures = {key: pool.submit(job) for key, job in jobs.items()}
    try:
        done, _ = wait(futures.values(), return_when=FIRST_EXCEPTION)
        for future in done:
            error = future.exception()
            if error is not None and not isinstance(error, Stopped):
                raise error
        return {key: future.result() for key, future in futures.items()}
    finally:
        if stop is not None and not all(future.done() for future in futures.values()):
            stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def in_order(work: Callable[[J], T], jobs: Iterable[J]) -> Iterator[T]:
    """Yield ``work(job)`` for each job, in order, reading at most two jobs per core ahead of the consumer.

    ``work`` runs in threads; ``jobs`` is iterated in the caller's thread. The first error ends everything, and no job
    is left running, however the loop ends.
    """
    ahead = 2 * cores() + 1
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(cores(), "persona") as pool:
        try:
            for job in jobs:
                pending.append(pool.submit(work, job))
                if len(pending) >= ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
