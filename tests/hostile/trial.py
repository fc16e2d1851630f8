"""Runs command lines on one forged repository, in a forked child that notices what it may not do.

A child has little memory and little time. What it does is seen by an audit hook: every way to start a process, to import or run Python
of the repository, to load a library of it, to unpickle by name, and every file that is opened for writing elsewhere. After each
command all that stands around the repository is compared, by name, type, mode, size and times.
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona.cli.main import invoke
from tests.hostile.forge import Link, Special, Thing, Tree

ROOM = 1 << 30
"""Bytes of address space that a child may take beyond what it begins with."""

PATIENCE = 20
"""Seconds that one command may take."""

ENDINGS = frozenset({0, 1, 2, 12})
"""How a command may end: done, declined, a mistake of the user's, or damage."""

ENVIRONMENT = {
    "PAGER": "false",
    "EDITOR": "false",
    "COLUMNS": "100",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}

SHOWN = 1500
"""Bytes of what a command says that are kept."""

NO_MEMORY = "there is not enough memory"


@dataclass(frozen=True)
class Trial:
    """How one command line ended on one forgery, and what it did that it may not do."""

    forgery: str
    line: str
    code: int
    said: str
    breaches: tuple[str, ...]


def put(root: Path, tree: Tree) -> None:
    """Make the files of a repository."""
    shutil.rmtree(root, ignore_errors=True)
    for name, thing in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        place(path, thing)
    for name in ("objects", "packs", "refs", "op", "tmp"):
        if not os.path.lexists(root / ".persona" / name):
            (root / ".persona" / name).mkdir(parents=True)


def place(path: Path, thing: Thing) -> None:
    """Make a file, or what is no file."""
    if isinstance(thing, Link):
        path.symlink_to(thing.to)
    elif isinstance(thing, Special):
        os.mkfifo(path) if thing.kind == "fifo" else path.mkdir()
    else:
        path.write_bytes(thing)


def seen(top: Path, but: Sequence[Path]) -> dict[str, tuple[int, ...]]:
    """Everything below ``top``, except below the folders in ``but``."""
    found: dict[str, tuple[int, ...]] = {}
    skip = {str(path) for path in but}
    stack = [str(top)]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                if entry.path in skip:
                    continue
                info = entry.stat(follow_symlinks=False)
                is_folder = entry.is_dir(follow_symlinks=False)
                # a folder's own times change with what may be written below it
                found[entry.path] = (
                    (info.st_mode,) if is_folder else (info.st_mode, info.st_size, info.st_mtime_ns, info.st_ino)
                )
                if is_folder:
                    stack.append(entry.path)
    return found


class Watch:
    """The audit hook's findings."""

    def __init__(self, lab: Path, allowed: Sequence[Path]) -> None:
        self.lab = str(lab)
        self.allowed = (*(f"{path}/" for path in allowed), "/dev/null")
        self.found: list[str] = []
        self.on = False

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in STARTS and not _asks_git(event, args):
            self.found.append(f"{event} {args[:2]!r}"[:300])
        elif event == "open":
            self._opened(*args)
        elif event in ("exec", "compile"):
            name = getattr(args[0], "co_filename", "") if event == "exec" else str(args[1])
            if name.startswith(self.lab):
                self.found.append(f"ran {name}")
        elif event == "ctypes.dlopen" and str(args[0] or "").startswith(self.lab):
            self.found.append(f"loaded {args[0]}")
        elif event == "pickle.find_class":
            self.found.append(f"unpickled {args!r}"[:300])

    def _opened(self, path: Any, mode: Any, flags: int) -> None:
        if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) or isinstance(path, int):
            return
        full = str(Path.cwd() / os.fsdecode(path))
        if not full.startswith(self.allowed):
            self.found.append(f"opened {full} for writing")


def _asks_git(event: str, args: tuple[Any, ...]) -> bool:
    """Whether git is asked for the user's own name, or about a run with all that it could run switched off."""
    words = list(args[1]) if event == "subprocess.Popen" else []
    return words[:3] == ["git", "config", "--get"] or (
        words[:2] == ["git", "-C"] and "core.hooksPath=/dev/null" in words
    )


STARTS = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "pty.spawn", "webbrowser.open", "socket.connect"}
)  # fmt: skip


class Laboratory:
    """Where forgeries are tried."""

    def __init__(self, lab: Path, looking: Sequence[str]) -> None:
        self.lab, self.root, self.out = lab, lab / "parent" / "work", lab / "out"
        self._looking = frozenset(looking)
        self._words = {"lab": str(lab), "out": str(self.out)}

    def run(self, name: str, tree: Tree, lines: Sequence[str]) -> Iterator[Trial]:
        """Try each line on a forgery; one child goes on until it dies, then another does with the lines that are left."""
        rest = list(lines)
        while rest:
            done = list(self._child(name, tree, rest))
            yield from done
            rest = rest[len(done) :]

    def _child(self, name: str, tree: Tree, lines: Sequence[str]) -> Iterator[Trial]:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            try:
                self._work(tree, lines, writer)
            except BaseException as error:
                os.write(writer, json.dumps({"code": -99, "said": repr(error), "breaches": []}).encode() + b"\n")
            os._exit(0)
        os.close(writer)
        done = 0
        with os.fdopen(reader) as pipe:
            for answer in pipe:
                found = json.loads(answer)
                yield _judged(name, lines[done], found["code"], found["said"], found["breaches"])
                done += 1
        _, status = os.waitpid(child, 0)
        if done < len(lines) and os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            what = "took too long" if number == signal.SIGALRM else f"was ended by signal {number}"
            yield Trial(name, lines[done], -number, "", (what,))

    def _work(self, tree: Tree, lines: Sequence[str], writer: int) -> None:
        """In the child: run the lines, each on the forgery as it was, and answer how they ended."""
        said, watch = self._confined()
        fresh = False
        around = inside = dict[str, tuple[int, ...]]()
        for line in lines:
            if not fresh:
                shutil.rmtree(self.out, ignore_errors=True)
                self.out.mkdir()
                put(self.root, tree)
                around, inside = seen(self.lab, (self.root, self.out)), seen(self.root, ())
            code, breaches = self._invoke(line, said, watch)
            after, now = seen(self.root, ()), seen(self.lab, (self.root, self.out))
            fresh = after == inside and not any(self.out.iterdir())
            if now != around:
                breaches.append(f"changed {_differences(around, now)}")
                around = now
            if line in self._looking and after != inside:
                breaches.append(f"changed the repository: {_differences(inside, after)}")
            answer = {"code": code, "said": _text(said), "breaches": breaches}
            os.write(writer, json.dumps(answer).encode() + b"\n")

    def _confined(self) -> tuple[int, Watch]:
        """Leave this process nothing but the laboratory; what it says goes to the file that is returned."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        said = os.memfd_create("said")
        for stream, number in ((os.open(os.devnull, os.O_RDONLY), 0), (said, 1), (said, 2)):
            os.dup2(stream, number)
        os.fsync = lambda fd: None
        os.environ.clear()
        os.environ.update(ENVIRONMENT, HOME=str(self.lab / "home"), PATH=str(self.lab / "home"), TMPDIR=str(self.out))
        tempfile.tempdir = None
        watch = Watch(self.lab, (self.root, self.out))
        sys.addaudithook(watch)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, resource.RLIM_INFINITY))
        return said, watch

    def _invoke(self, line: str, said: int, watch: Watch) -> tuple[int, list[str]]:
        """Run one line; its exit code, and what it did that it may not do."""
        os.chdir(self.root)
        os.truncate(said, 0)
        os.lseek(said, 0, os.SEEK_SET)
        watch.found.clear()
        signal.alarm(PATIENCE)
        watch.on = True
        code = invoke([word.format(**self._words) for word in shlex.split(line)])
        watch.on = False
        signal.alarm(0)
        sys.stdout.flush()
        sys.stderr.flush()
        return code, list(watch.found)


def _text(said: int) -> str:
    """The beginning and the end of what was said."""
    size = os.fstat(said).st_size
    return (os.pread(said, SHOWN, 0) + os.pread(said, SHOWN, max(SHOWN, size - SHOWN))).decode(errors="replace")


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return ", ".join(names[:5])


def _judged(name: str, line: str, code: int, said: str, breaches: Sequence[str]) -> Trial:
    found = [f"ended with {code}"] if code not in ENDINGS | allowed(name) else []
    found += ["took too much memory"] if NO_MEMORY in said else []
    found += breaches
    return Trial(name, line, code, said, tuple(found))


def allowed(name: str) -> frozenset[int]:
    """Other endings that a forgery may have: that there is no repository at all."""
    place, _, what = name.partition(": ")
    return frozenset({10} if place.endswith("format") or what == "folder" else ())
