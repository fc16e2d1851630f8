"""Run work on all cores, and stop it at the first error or when the user interrupts."""

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
    """May be raised by a job that sees that it should stop."""


def cores() -> int:
    """Return the number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


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
