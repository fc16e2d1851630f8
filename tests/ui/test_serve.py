"""``persona ui``: it starts, lets its user in, and ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
from http.cookies import SimpleCookie
from urllib.parse import urlsplit

import pytest

import persona
from persona.cli.main import invoke
from persona.errors import UsageError
from persona.ui.serve import HOST, address_of, listen
from tests.cli.schema import check

PROGRAM = """
import sys
from persona.cli.main import invoke
code = invoke(sys.argv[1:])
print(*sorted({"torch", "transformers", "peft", "tokenizers"} & {*sys.modules}))
sys.exit(code)
"""


def asked(port: int, path: str, **headers: str) -> tuple[http.client.HTTPResponse, str]:
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Connection": "close", **headers})
        answer = connection.getresponse()
        return answer, answer.read().decode()


def test_it_serves_until_it_is_interrupted(shown: persona.Repository) -> None:
    """And imports nothing that runs a model."""
    line = [sys.executable, "-c", PROGRAM, "ui", "--no-browser", "--json"]
    process = subprocess.Popen(line, cwd=shown.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.readline()
    check("ui", said)
    found = json.loads(said)["result"]
    entry, _ = asked(found["port"], "/?" + urlsplit(found["url"]).query)
    cookie = SimpleCookie(entry.headers["set-cookie"])["persona"]
    page, text = asked(found["port"], cookie["path"] + "history", Cookie=f"persona={cookie.value}")
    assert page.status == 200
    assert "add listening" in text
    assert "server" not in page.headers
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "\n", "")


def test_it_listens_on_this_computer_alone() -> None:
    listening = listen()
    with listening.socket:
        assert listening.socket.getsockname()[0] == "127.0.0.1"
        assert address_of(listening).url.startswith(f"http://127.0.0.1:{listening.keys.port}/?token=")
        with pytest.raises(UsageError, match=f"port {listening.keys.port} is in use"):
            listen(listening.keys.port)
    with socket.socket() as other:
        assert other.connect_ex((HOST, listening.keys.port)) != 0


def test_without_the_extra_it_says_what_to_install(
    shown: persona.Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert invoke(["-C", str(shown.root), "ui"]) == 2
    assert "pip install 'persona-vcs[ui]'" in capsys.readouterr().err
