"""What the page changes is a verb, recorded as the command line that does the same, and can be undone."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

import persona
from persona.ui.guard import Keys
from tests.ui.conftest import EVIL, ORIGIN, PORT, inside


@pytest.fixture
def work(laid_out: Path, tmp_path: Path) -> persona.Repository:
    return persona.open(Path(shutil.copytree(laid_out, tmp_path / "work")))


@pytest.fixture
def client(work: persona.Repository) -> Iterator[TestClient]:
    with inside(work, Keys(PORT)) as client:
        yield client


def fields(client: TestClient, action: str) -> dict[str, str]:
    """What the form of the recipe page would send as it stands."""
    text = client.get("recipe").text
    form = re.search(rf'<form action="{action}".*?</form>', text, re.DOTALL)
    assert form is not None, f"no form {action}"
    inputs = re.findall(r"<input[^>]*>", form[0])
    named = {name[1]: one for one in inputs if (name := re.search(r'name="([^"]*)"', one))}
    return {name: value[1] if (value := re.search(r'value="([^"]*)"', one)) else "" for name, one in named.items()}


def send(client: TestClient, action: str, **changed: str) -> tuple[int, str]:
    """Send a form, and return the status and the page that follows."""
    form = fields(client, action) | {name.replace("_", "."): value for name, value in changed.items()}
    answer = client.post(action, headers=ORIGIN, content=urlencode(form))
    if answer.status_code != 303:
        return answer.status_code, answer.text
    return 303, client.get(answer.headers["location"]).text


def alphas(repo: persona.Repository) -> dict[str, object]:
    recipe = persona.status(repo).recipe
    return {"scale": recipe.scale} | {entry.name: entry.alpha for entry in recipe.vectors}


def test_alphas_and_scale_are_committed_and_undone(client: TestClient, work: persona.Repository) -> None:
    before, head = alphas(work), work.head()
    status, text = send(client, "alpha", alpha_calm="-0.1", scale="0.9", message="it's calmer\r\n")
    assert status == 303
    assert alphas(work) == before | {"calm": -0.1, "scale": 0.9}
    command = persona.op_log(work)[0].command
    assert command == """alpha calm=-0.1 --scale 0.9 -m 'it'"'"'s calmer'"""
    assert persona.log(work)[0].subject == "it's calmer"
    assert persona.log(work)[0].author == work.author
    assert "Undo <code>persona alpha calm=-0.1" in text
    assert send(client, "undo")[0] == 303
    assert (alphas(work), work.head()) == (before, head)
    assert send(client, "redo")[0] == 303
    assert alphas(work)["calm"] == -0.1


def test_the_line_that_is_recorded_does_the_same(client: TestClient, work: persona.Repository) -> None:
    from persona.cli.main import invoke

    send(client, "alpha", alpha_listening="0.1", message=EVIL.replace("\x1b", ""))
    done, recipe = persona.op_log(work)[0], work.recipe(work.head())
    persona.undo(work)

    assert invoke(["-C", str(work.root), *shlex.split(done.command)]) == 0
    assert work.recipe(work.head()) == recipe
    assert persona.op_log(work)[0].command == f"-C {work.root} {done.command}"


@pytest.mark.parametrize(
    ("changed", "status", "said"),
    [
        ({"alpha_calm": "much"}, 400, "the alpha of &#39;calm&#39; is not a number: &#39;much&#39;"),
        ({"alpha_calm": "nan"}, 400, "is not a finite number"),
        ({"scale": "inf"}, 400, "is not a finite number"),
        ({}, 409, "nothing to change"),
        ({"head": "0" * 64, "alpha_calm": "1"}, 409, "has changed since this page was loaded"),
    ],
)
def test_what_is_wrong_changes_nothing(
    client: TestClient, work: persona.Repository, changed: dict[str, str], status: int, said: str
) -> None:
    before = work.log.head()
    answer = send(client, "alpha", **changed)
    assert (answer[0], said in answer[1]) == (status, True)
    assert work.log.head() == before


def test_undo_takes_back_what_the_page_showed_and_nothing_else(client: TestClient, work: persona.Repository) -> None:
    form = fields(client, "undo")
    persona.alpha(work, {"calm": 0.2})  # meanwhile, in a terminal
    answer = client.post("undo", headers=ORIGIN, content=urlencode(form))
    assert answer.status_code == 409
    assert alphas(work)["calm"] == 0.2


def test_edits_are_shown_and_committed(client: TestClient, work: persona.Repository) -> None:
    text = work.recipe_path.read_text()
    work.recipe_path.write_text(text.replace("alpha = 0.75", "alpha = 0.7"))
    page = client.get("recipe").text
    assert "calm α 0.75 → 0.7" in page
    assert re.search(r'name="alpha.calm"[^>]* disabled', page)
    assert send(client, "alpha", alpha_calm="1")[0] == 409
    assert send(client, "commit", message="by hand")[0] == 303
    assert persona.op_log(work)[0].command == "commit -m 'by hand'"
    assert not persona.status(work).edited
    work.recipe_path.write_text("[base")
    assert "persona.toml cannot be read" in client.get("recipe").text
