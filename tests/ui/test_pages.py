"""The pages on a small repository, as text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

import persona
from persona.ui.guard import COOKIE, Keys
from persona.ui.site import VIEWS, application
from tests.ui.conftest import EVIL, ORIGIN, PORT, inside

RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys(PORT)


@pytest.fixture(scope="module")
def outside(shown: persona.Repository, keys: Keys) -> Iterator[TestClient]:
    """A browser that was not let in."""
    app = application(shown.root, shown.folder, keys)
    with TestClient(app, f"http://127.0.0.1:{PORT}", follow_redirects=False) as client:
        yield client


@pytest.fixture(scope="module")
def client(shown: persona.Repository, keys: Keys) -> Iterator[TestClient]:
    """A browser that was."""
    with inside(shown, keys) as client:
        yield client


def test_the_address_lets_in(outside: TestClient, keys: Keys) -> None:
    answer = outside.get("/", params={"token": keys.token})
    assert answer.status_code == 200
    set_cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", f"Path=/{keys.place}/"} <= {*set_cookie.split("; ")}
    assert f"url=/{keys.place}/history" in answer.text
    once = keys.once
    assert outside.get("/", params={"token": once}).status_code == 200
    assert outside.get("/", params={"token": once}).status_code == 403
    outside.cookies.clear()


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"host": f"example.org:{PORT}"}, "another host"),
        ({"host": "127.0.0.1"}, "another host"),
        ({"host": f"127.0.0.1:{PORT + 1}"}, "another host"),
        ({"origin": "http://example.org"}, "another page"),
        ({"origin": f"http://localhost:{PORT}"}, "another page"),
        ({"origin": "null"}, "another page"),
        ({"sec-fetch-site": "cross-site"}, "another page"),
        ({"sec-fetch-site": "same-site"}, "another page"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_requests_from_elsewhere_are_refused(
    client: TestClient, shown: persona.Repository, method: str, headers: dict[str, str], said: str
) -> None:
    before = shown.log.head()
    own = ORIGIN if method == "POST" else {}
    answer = client.request(method, "history" if method == "GET" else "undo", headers={**own, **headers})
    assert (answer.status_code, said in answer.text) == (403, True)
    assert shown.log.head() == before


def test_requests_without_the_secret_are_refused(outside: TestClient, keys: Keys) -> None:
    for path in (
        "/",
        "/?token=wrong",
        "/?token=%ff",
        "/history",
        f"/{keys.place}/history",
        f"/{keys.place}/static/page.css",
    ):
        assert outside.get(path).status_code == 403, path
    for cookie in ("", "wrong", f"{keys.cookie}x"):
        headers = {"cookie": f"{COOKIE}={cookie}"}
        assert outside.get(f"/{keys.place}/history", headers=headers).status_code == 403
    headers = {**ORIGIN, "cookie": f"{COOKIE}=wrong"}
    assert outside.post(f"/{keys.place}/measure-interference", headers=headers).status_code == 403


def test_a_change_needs_the_right_method_and_origin(client: TestClient) -> None:
    assert client.post("measure-interference").status_code == 403
    assert client.get("measure-interference").status_code == 405
    assert client.post("history", headers=ORIGIN).status_code == 405
    assert client.put("measure-interference", headers=ORIGIN).status_code == 405
    assert client.get("events?job=99").status_code == 404
    assert client.get("../etc").status_code in (403, 404)
    assert client.post("measure-interference", headers=ORIGIN, content=b"x" * 70_000).status_code == 413
    assert client.post("measure-interference", headers=ORIGIN, content=b"rev=%ff").status_code == 400


@pytest.mark.parametrize("name", VIEWS)
def test_every_page_stands_alone(client: TestClient, name: str) -> None:
    """No inline script or style, nothing from elsewhere, nothing that a repository could have written into it."""
    answer = client.get(name)
    assert answer.status_code == 200, answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert re.findall(r"<script(?! src=\"static/page\.js\" defer>)", answer.text) == []
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=|https?://|javascript:", answer.text) == []
    assert not RAW.search(answer.text)
    assert '<main id="main"' in answer.text
    assert 'aria-current="page"' in answer.text or name == "revision"


def test_what_a_repository_says_is_text(client: TestClient, shown: persona.Repository) -> None:
    for page in ("history", f"revision?rev={shown.resolve('main~1')}"):
        answer = client.get(page)
        assert "&lt;script&gt;alert(&#39;no&#39;)&lt;/script&gt;\\x1b]0;owned\\x07\\u202egpj.exe" in answer.text
        assert not RAW.search(answer.text)
    wrong = client.get("revision", params={"rev": EVIL})
    assert wrong.status_code == 400
    assert "<script>alert" not in wrong.text
    assert not RAW.search(wrong.text)


def test_the_history_has_alphas_and_measured_changes(client: TestClient, shown: persona.Repository) -> None:
    text = client.get("history").text
    for entry in persona.log(shown, everything=True):
        assert f'href="revision?rev={entry.commit}"' in text
    assert "listening <b>0.5</b>" in text
    assert 'class="verdict' in text
    few = client.get("history?n=2").text
    assert few.count('class="commit') == 2
    assert "history?n=52" in few
    assert client.get("history?n=0").text.count('class="commit') == text.count('class="commit')


def test_a_revision_shows_what_show_says(client: TestClient, shown: persona.Repository) -> None:
    text = client.get("revision?rev=HEAD").text
    found = persona.show(shown, shown.head())
    for change in found.changes:
        assert change.text in text
    for reading in found.measured:
        assert reading.name in text
    assert "[vectors.listening]" in text


def test_two_revisions_side_by_side(client: TestClient, shown: persona.Repository) -> None:
    text = client.get("compare", params={"from": "HEAD~1", "to": "HEAD"}).text
    found = persona.diff(shown, "HEAD~1", "HEAD")
    assert found.measured
    for change in found.changes:
        assert change.text in text
    assert text.count('class="verdict') == len(found.measured)
    assert client.get("compare", params={"from": "/", "to": "HEAD"}).status_code == 400


def test_what_each_vector_does(client: TestClient, shown: persona.Repository) -> None:
    text = client.get("vectors").text
    found = persona.verify_vectors(shown)
    assert found.measured == 0
    assert (
        text.count("<small>noise") == sum(cell.control is not None for one in found.columns for cell in one.cells) > 0
    )
    assert "no vector is active" in client.get("vectors", params={"rev": persona.log(shown)[-1].commit}).text


def test_interference_is_measured_when_it_is_asked_for(client: TestClient, shown: persona.Repository) -> None:
    assert "Measure the interference" in client.get("interference").text
    for rev in ("", "HEAD~1"):
        answer = client.post("measure-interference", headers=ORIGIN, content=urlencode({"rev": rev}))
        assert answer.status_code == 303
        job = re.search(r'data-job="(\d+)"', client.get(answer.headers["location"]).text)
        if job is not None:
            assert "event: end" in client.get(f"events?job={job[1]}").text
        text = client.get(answer.headers["location"]).text
        found = persona.interference(shown, rev or None)
        for pair in found.whole.pairs:
            assert f"{pair.cosine:+.3g}".replace("-", "−") in text


def test_readings(client: TestClient) -> None:
    text = client.get("readings").text
    assert "warmth" in text
    assert "What suites have read" in text
    assert "No suite with a readout" not in text
