"""The chat below the recipe: the model answers with the strengths of the sliders, committed or not."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

import persona
from persona.ui.guard import Keys
from tests.ui.conftest import ORIGIN, PORT, inside

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def work(laid_out: Path, tmp_path_factory: pytest.TempPathFactory) -> persona.Repository:
    return persona.open(Path(shutil.copytree(laid_out, tmp_path_factory.mktemp("chat") / "work")))


@pytest.fixture(scope="module")
def client(work: persona.Repository) -> Iterator[TestClient]:
    with inside(work, Keys(PORT)) as client:
        yield client


def send(client: TestClient, action: str, **fields: object) -> int:
    body = urlencode({name.replace("_", "."): value for name, value in fields.items()})
    return client.post(action, headers=ORIGIN, content=body).status_code


def reply(client: TestClient, work: persona.Repository, prompt: str, **fields: object) -> str:
    """Say something, and wait for the reply as the page does: by server-sent events."""
    assert send(client, "say", head=work.head(), prompt=prompt, **fields) == 303
    job = re.search(r'data-job="(\d+)"', client.get("recipe").text)
    if job is not None:
        events = client.get(f"events?job={job[1]}").text
        last = json.loads(events.rpartition("data: ")[2])
        assert last["ended"]
        told = last["text"].strip()
    said = re.findall(r"<b>Model:</b> (.*?)(?: <span|<br>)", client.get("recipe").text, re.DOTALL)[-1]
    assert job is None or told == said
    return str(said)


def expected(work: persona.Repository, tmp_path: Path, prompt: str, **alphas: float) -> str:
    """What ``persona.chat`` says with these alphas committed."""
    other = persona.open(Path(shutil.copytree(work.root, tmp_path / "other")))
    if alphas:
        persona.alpha(other, alphas)
    text = persona.chat(other, prompt).prompts[0].replies[0].text
    shutil.rmtree(other.root)
    return text or "(nothing)"


def test_it_answers_with_the_strengths_of_the_sliders(
    client: TestClient, work: persona.Repository, tmp_path: Path
) -> None:
    before = work.log.head()
    committed = reply(client, work, "w3 w4")
    assert committed == expected(work, tmp_path, "w3 w4")
    assert send(client, "take-back") == 303
    tried = reply(client, work, "w3 w4", alpha_calm=9, alpha_doubt=-9, alpha_listening=0.5, scale=1)
    assert tried == expected(work, tmp_path, "w3 w4", calm=9, doubt=-9)
    assert tried != committed
    text = client.get("recipe").text
    assert "listening 0.5, calm 9, doubt -9, scale 1" in text
    assert 'name="alpha.calm" step="any" value="9"' in text
    assert send(client, "take-back") == 303
    assert (
        send(client, "try", head=work.head(), alpha_calm=0.75, alpha_doubt=-0.25, alpha_listening=0.5, scale=1) == 303
    )
    assert reply(client, work, "w3 w4") == committed
    assert work.log.head() == before
    assert send(client, "forget") == 303
    assert "<b>Model:</b>" not in client.get("recipe").text


def test_what_is_wrong_is_said(client: TestClient, work: persona.Repository) -> None:
    assert send(client, "say", head=work.head(), prompt=" ") == 400
    assert send(client, "say", head="0", prompt="w1") == 409
    assert send(client, "try", head=work.head(), scale="nan") == 400
    assert send(client, "say", head=work.head(), prompt="w1", scale="1", alpha_calm="") == 400
    assert send(client, "stop") == 303
    assert send(client, "say", head=work.head(), prompt="w1 " * 3000) == 303
    job = re.search(r'data-job="(\d+)"', client.get("recipe").text)
    if job is not None:
        client.get(f"events?job={job[1]}")
    assert "Take turns back, or begin again." in client.get("recipe").text
