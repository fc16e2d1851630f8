"""The pages in Chromium, at its own server: what they look like, by keyboard, and to somebody who cannot see them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import persona
from persona.ui.serve import HOST, address_of, listen
from persona.ui.site import VIEWS, application
from tests.ui.browser import chromium

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

LOOKS = {"light": {}, "dark": {"dark": True}, "narrow": {"size": (380, 800)}}


@dataclass
class Site:
    """A running server."""

    repo: persona.Repository
    address: str

    def enter(self, browser: Any) -> None:
        """Go in by the address that is printed, and wait for the history."""
        browser.get(self.address)
        waiting(browser, lambda: "/history" in browser.current_url)

    def open(self, browser: Any, name: str) -> None:
        browser.get(browser.current_url.rpartition("/")[0] + f"/{name}")


def waiting(browser: Any, condition: Any, seconds: float = 20) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, seconds, 0.05).until(lambda _: condition())


@pytest.fixture(scope="module")
def site(shown: persona.Repository) -> Iterator[Site]:
    import uvicorn

    listening = listen()
    app = application(shown.root, shown.folder, listening.keys)
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening.socket]})
    thread.start()
    yield Site(shown, address_of(listening).url)
    server.should_exit = True
    thread.join()
    assert HOST == "127.0.0.1"


@pytest.fixture(scope="module", params=LOOKS)
def looking(request: pytest.FixtureRequest, site: Site) -> Iterator[Any]:
    with chromium(**LOOKS[request.param]) as browser:
        site.enter(browser)
        yield browser


@pytest.fixture(scope="module")
def axe() -> str:
    import axe_core_python

    return (Path(axe_core_python.__file__).parent / "axe.min.js").read_text()


def serious(browser: Any, axe: str) -> list[str]:
    """What axe finds serious or critical."""
    browser.execute_script(axe)
    found = browser.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    return [
        f"{one['id']}: {node['html'][:200]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("name", VIEWS)
def test_every_page_in_every_look(looking: Any, site: Site, axe: str, name: str) -> None:
    """It fits, loads nothing that is refused, and axe finds nothing serious."""
    site.open(looking, name)
    if name == "interference" and (buttons := looking.find_elements("css selector", "form[method=post] button")):
        buttons[0].click()
        waiting(looking, lambda: looking.find_elements("css selector", "table.heat"))
    assert looking.find_element("css selector", "h1").text
    assert looking.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert looking.get_log("browser") == []
    assert serious(looking, axe) == []


def test_two_commits_are_compared_by_keyboard(site: Site) -> None:
    from selenium.webdriver.common.keys import Keys

    with chromium() as browser:
        site.enter(browser)
        press = browser.switch_to.active_element.send_keys
        press(Keys.TAB)
        assert browser.switch_to.active_element.text == "Skip to the content"
        browser.switch_to.active_element.send_keys(Keys.ENTER)
        browser.switch_to.active_element.send_keys(Keys.TAB)
        focused = browser.switch_to.active_element
        assert focused.text == "Compare the two chosen commits"
        assert focused.value_of_css_property("outline-style") == "solid"
        focused.send_keys(Keys.ENTER)
        waiting(browser, lambda: "/compare?" in browser.current_url)
        assert browser.find_element("css selector", "h1").text == "Two revisions side by side"


def test_a_slider_is_moved_committed_and_undone_by_keyboard(site: Site) -> None:
    from selenium.webdriver.common.keys import Keys

    before = {entry.name: entry.alpha for entry in persona.status(site.repo).recipe.vectors}
    with chromium() as browser:
        site.enter(browser)
        site.open(browser, "recipe")
        row = browser.find_element("css selector", '[data-strength="alpha.calm"]')
        slider, number = row.find_elements("css selector", "input")
        line = browser.find_element("css selector", "[data-line]")
        assert line.text == "nothing is changed yet"
        slider.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
        assert float(number.get_attribute("value")) == 0.65
        assert line.text == "persona alpha calm=0.65"
        message = browser.find_element("id", "message")
        message.send_keys("it's less")
        assert line.text == """persona alpha calm=0.65 -m 'it'"'"'s less'"""
        message.send_keys(Keys.ENTER)
        waiting(browser, lambda: "now 0.65" in browser.page_source)
        assert persona.op_log(site.repo)[0].command == """alpha calm=0.65 -m 'it'"'"'s less'"""
        assert persona.log(site.repo)[0].subject == "it's less"
        browser.find_element("css selector", "form[action=undo] button").send_keys(Keys.ENTER)
        waiting(browser, lambda: "now 0.75" in browser.page_source)
        assert {entry.name: entry.alpha for entry in persona.status(site.repo).recipe.vectors} == before
        assert browser.get_log("browser") == []


def test_a_moved_slider_changes_the_reply(site: Site, axe: str) -> None:
    from selenium.webdriver.common.keys import Keys

    def say() -> str:
        replies = len(browser.find_elements("css selector", ".reply small"))
        browser.find_element("id", "prompt").send_keys("w3 w4", Keys.ENTER)
        waiting(browser, lambda: len(browser.find_elements("css selector", ".reply small")) > replies, 60)
        text: str = browser.find_elements("css selector", ".reply")[-1].text
        return text

    before = site.repo.log.head()
    with chromium() as browser:
        site.enter(browser)
        site.open(browser, "recipe")
        first = say()
        browser.find_element("css selector", "form[action=take-back] button").click()  # the model's context is full
        waiting(browser, lambda: not browser.find_elements("css selector", ".reply"))
        number = browser.find_element("id", "value-alpha.calm")
        number.clear()
        number.send_keys("9")
        second = say()
        assert "calm 0.75" in first
        assert "calm 9" in second
        assert browser.find_element("id", "value-alpha.calm").get_attribute("value") == "9"
        assert browser.find_element("css selector", "[data-line]").text == "persona alpha calm=9"
        assert serious(browser, axe) == []
        assert browser.get_log("browser") == []
        browser.find_element("css selector", "form[action=forget] button").click()
        waiting(browser, lambda: not browser.find_elements("css selector", ".reply"))
    assert site.repo.log.head() == before


def test_a_page_elsewhere_cannot_read_or_change_anything(site: Site) -> None:
    """With the cookie in the browser, a page of another origin asks for the pages and sends a form."""
    with chromium() as browser:
        site.enter(browser)
        inside = browser.current_url.rpartition("/")[0]
        before = site.repo.log.head()
        browser.get("data:text/html,<title>elsewhere</title>")
        asked = "const done = arguments[1]; fetch(arguments[0], {credentials: 'include'}).then(() => done('read'), () => done('refused'))"
        assert browser.execute_async_script(asked, f"{inside}/history") == "refused"
        form = (
            "const form = document.body.appendChild(document.createElement('form'));"
            "form.method = 'post'; form.action = arguments[0]; form.submit();"
        )
        browser.execute_script(form, f"{inside}/undo")
        waiting(browser, lambda: "another page" in browser.page_source)
        assert site.repo.log.head() == before
