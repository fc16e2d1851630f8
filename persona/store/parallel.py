"""Work on all cores, with results in order and little in flight."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_order(work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """``work(job)`` of each job, in order; ``jobs`` is taken from at most two per core ahead of the consumer.

    ``work`` runs in threads, ``jobs`` is advanced in the caller's thread. The first error ends everything; on
    any way out, no job is left running.
    """
    ahead = 2 * cores() + 1
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(cores(), "persona-store") as pool:
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
