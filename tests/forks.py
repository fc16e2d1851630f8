"""Programs that run in a fork of a process that has torch and transformers already.

Importing them takes seconds, and many tests need a process of its own: one that is killed, or one that a person would start. A
server imports them once and forks for every program; the child gets the program's arguments, environment, folder and standard
streams, and its signals are the defaults. Variables that a library reads while it is imported have no effect here.

``Forks.run`` is ``subprocess.run`` for ``python …`` and ``persona …``. ``Forks.bin`` is a folder of two commands of those names, for
a shell's PATH.
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

HEAVY = (
    "torch",
    "transformers.trainer",
    "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama",
    "peft",
    "accelerate",
    "persona.cli.main",
    "persona.inference.load",
    "persona.training.run",
    "persona.verbs.build",
    "persona.verbs.commit",
)
"""What the server imports; everything else is imported by whoever needs it."""

CLIENT = """\
#!{python} -SE
import json, os, socket, sys
ask = socket.socket(socket.AF_UNIX)
ask.connect({address!r})
request = {{"argv": [{name!r}, *sys.argv[1:]], "cwd": os.getcwd(), "env": dict(os.environ)}}
socket.send_fds(ask, [json.dumps(request).encode() + b"\\n"], [0, 1, 2])
code = int(ask.makefile().readline())
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


class Forks:
    """A running server, and how to ask it."""

    def __init__(self, folder: Path) -> None:
        self._address = str(folder / "forks")
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("python", "persona"):
            path = self.bin / name
            path.write_text(CLIENT.format(python=sys.executable, address=self._address, name=name))
            path.chmod(0o755)
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, "-m", "tests.forks", self._address]
        self._server = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **threads}, stdout=subprocess.PIPE)
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == b"ready\n"

    def run(
        self, argv: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """What ``subprocess.run(argv, capture_output=True, text=True)`` gives; ``argv`` begins with ``python`` or ``persona``."""
        words = [str(word) for word in argv]
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err, Path(os.devnull).open() as none:
            with socket.socket(socket.AF_UNIX) as ask:
                ask.connect(self._address)
                request = {"argv": words, "cwd": str(cwd), "env": {**os.environ, **(env or {})}}
                streams = [none.fileno(), out.fileno(), err.fileno()]
                socket.send_fds(ask, [json.dumps(request).encode() + b"\n"], streams)
                code = int(ask.makefile().readline())
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(words, code, out.read(), err.read())

    def close(self) -> None:
        """End the server."""
        with self._server:  # closes its output and waits
            self._server.terminate()


def serve(address: str) -> None:
    """Fork for every request, until we are terminated."""
    for name in HEAVY:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks that answer
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            ask, _ = door.accept()
            if os.fork() == 0:
                door.close()
                _answer(ask)
            ask.close()


def _answer(ask: socket.socket) -> None:
    """In a fork: run what is asked in a fork of its own, and say how that ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    data, streams, _, _ = socket.recv_fds(ask, 1 << 20, 3)
    while not data.endswith(b"\n"):
        data += ask.recv(1 << 20)
    child = os.fork()
    if child == 0:
        ask.close()
        _become(json.loads(data), streams)
    _, status = os.waitpid(child, 0)
    ask.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(request: dict[str, Any], streams: list[int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    encoding = request["env"].get("PYTHONIOENCODING", "utf-8")
    sys.stdin = open(0, encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding=encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    os._exit(_ended(request["argv"]))


def _ended(argv: list[str]) -> int:
    """Run a program to its end; its exit code."""
    code: Any = 0
    try:
        _run(*argv)
    except SystemExit as end:
        code = end.code
        if isinstance(code, str):
            sys.stderr.write(f"{code}\n")
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return int(code or 0)


def _run(program: str, *args: str) -> None:
    if program == "persona":
        from persona.cli.main import run

        sys.argv = ["persona", *args]
        run()
    words = list(args)
    while words[:1] == ["-W"]:
        warnings.simplefilter("error", getattr(builtins, words[1].rpartition("::")[2]))
        words = words[2:]
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        sys.path[0] = str(Path.cwd())
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    elif words[0] == "-m":
        sys.argv = words[1:]
        sys.path[0] = str(Path.cwd())
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path[0] = str(Path(words[0]).resolve().parent)
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    serve(sys.argv[1])
