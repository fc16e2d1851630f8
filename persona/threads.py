"""Work on all cores that stops when it should: at the first error, or when the user interrupts."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from threading import Event
from typing import TypeVar

J = TypeVar("J")
K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Stopped(Exception):
    """What a job may raise when it sees that it was asked to stop."""


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def run_all(jobs: Mapping[K, Callable[[], T]], stop: Event | None = None) -> dict[K, T]:
    """The results of all jobs, begun in the order given.

    On an error or Ctrl-C ``stop`` is set, jobs that have not begun are dropped, those that have are waited for,
    and the first error is raised.
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
    """``work(job)`` of each job, in order; ``jobs`` is taken from at most two per core ahead of the consumer.

    ``work`` runs in threads, ``jobs`` is advanced in the caller's thread. The first error ends everything; on
    any way out, no job is left running.
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
