"""Work that takes long: it runs in a thread of its own, one at a time, and says how far it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from persona.errors import PersonaError
from persona.progress import Progress, Task
from persona.visible import visible

KEPT = 16
"""Results that are kept."""

_UNKNOWN = "this is a bug in persona"


@dataclass
class Job:
    """A piece of work. ``label``, ``done`` and ``total`` say how far it is; ``error`` is set if it failed.

    ``text`` grows while it runs, for work that says something. ``stopped`` asks it to end early.
    """

    number: int
    label: str
    done: int = 0
    total: int = 0
    result: Any = None
    error: PersonaError | None = None
    text: str = ""
    ended: threading.Event = field(default_factory=threading.Event)
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def state(self) -> dict[str, object]:
        """What the page is told."""
        return {
            "label": self.label,
            "done": self.done,
            "total": self.total,
            "text": visible(self.text),
            "ended": self.ended.is_set(),
        }

    @property
    def progress(self) -> Progress:
        """Progress of a verb, as the state of this job."""
        return _JobProgress(self)


class _JobProgress:
    """Progress of a verb, as the state of its job: that of the task that was begun last."""

    def __init__(self, job: Job) -> None:
        self._job = job

    @contextmanager
    def task(self, label: str, total: int, unit: str = "bytes") -> Iterator[Task]:
        self._job.label, self._job.done, self._job.total = label, 0, total
        yield _JobTask(self._job)

    def note(self, text: str) -> None:
        self._job.label = text


class _JobTask:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._lock = threading.Lock()

    def advance(self, amount: int) -> None:
        with self._lock:
            self._job.done += amount


class Jobs:
    """The work of one server, by what it is for."""

    def __init__(self) -> None:
        self._by_key: dict[Hashable, Job] = {}
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._number = 0

    def of(self, key: Hashable) -> Job | None:
        """The job for ``key``, running or ended."""
        return self._by_key.get(key)

    def numbered(self, number: int) -> Job | None:
        """The job with this number."""
        with self._lock:
            return next((job for job in self._by_key.values() if job.number == number), None)

    def start(self, key: Hashable, work: Callable[[Job], Any]) -> Job:
        """Start work for ``key``, unless it runs or is done already; what failed is tried again."""
        with self._lock:
            known = self._by_key.get(key)
            if known is not None and known.error is None:
                return known
            self._number += 1
            job = self._by_key[key] = Job(self._number, "waiting")
            ended = [other for other, one in self._by_key.items() if one.ended.is_set()]
            for other in ended[: max(0, len(self._by_key) - KEPT)]:
                del self._by_key[other]
        threading.Thread(target=self._run, args=(job, work), daemon=True).start()
        return job

    def stop(self, seconds: float) -> None:
        """Ask all work to end, and wait so long for it."""
        with self._lock:
            running = [job for job in self._by_key.values() if not job.ended.is_set()]
        for job in running:
            job.stopped.set()
        for job in running:
            job.ended.wait(seconds)

    def _run(self, job: Job, work: Callable[[Job], Any]) -> None:
        try:
            with self._turn:
                job.result = work(job)
        except PersonaError as error:
            job.error = error
        except Exception as error:
            job.error = PersonaError(f"{_UNKNOWN}: {type(error).__name__}: {error}", "Your repository is intact.")
        finally:
            job.ended.set()
