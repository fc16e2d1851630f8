"""Who may ask: only a browser on this computer that was given the address.

    address    http://127.0.0.1:PORT/?token=T    gives the browser a cookie, and leads to
    pages      http://127.0.0.1:PORT/PLACE/…     need the cookie

Every request names the server's own host, so that a foreign name that resolves to this computer (DNS rebinding) is refused.
A request that another page makes is refused, by its Origin and by Sec-Fetch-Site. The cookie is for PLACE alone, which is
drawn for each run: browsers send cookies to every port of a host, and another server must not see it.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "persona"
READING = ("GET", "HEAD")

HEADERS = (
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),  # 'no-referrer' would make the Origin of our own forms null
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
)
"""Sent with every answer."""

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">{head}
<title>persona</title></head>
<body><main><h1>persona</h1><p>{text}</p></main></body>
</html>
"""


def _secret() -> str:
    return secrets.token_urlsafe(32)


@dataclass
class Keys:
    """The secrets of one run of the server.

    ``token`` is in the address that is printed. ``once`` is for the address that the browser is started with, which other
    users can see in the list of processes: it works once.
    """

    port: int
    token: str = field(default_factory=_secret)
    once: str = field(default_factory=_secret)
    cookie: str = field(default_factory=_secret)
    place: str = field(default_factory=lambda: secrets.token_hex(6))

    @property
    def hosts(self) -> tuple[str, ...]:
        """What a request may call the server."""
        return f"127.0.0.1:{self.port}", f"localhost:{self.port}"

    def address(self, token: str) -> str:
        """The address that lets a browser in."""
        return f"http://{self.hosts[0]}/?token={token}"

    def admits(self, token: str) -> bool:
        """Whether a token lets a browser in; one that works once is spent by this."""
        if hmac.compare_digest(token.encode(), self.token.encode()):
            return True
        if hmac.compare_digest(token.encode(), self.once.encode()):
            self.once = _secret()
            return True
        return False


class Guard:
    """Answers or refuses requests before the application sees them, and adds ``HEADERS`` to every answer."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = _Headers(scope)
        why = self._refusal(scope, headers)
        if why:
            await _answer(send, 403, why)
        elif scope["path"] == "/":
            await self._enter(scope, send)
        elif not self._has_cookie(headers):
            await _answer(send, 403, "Open the address that 'persona ui' printed.")
        else:
            await self._app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: _Headers) -> str:
        """Why a request is refused whatever it asks for; empty if it is not."""
        host, origin, site = headers.only("host"), headers.only("origin"), headers.only("sec-fetch-site")
        if host not in self._keys.hosts:
            return "The request is for another host."
        if origin is None and scope["method"] not in READING:
            return "The request does not say which page it comes from."
        if origin is not None and origin != f"http://{host}":
            return "The request comes from another page."
        if site not in (None, "same-origin", "none") and scope["path"] != "/":
            return "The request comes from another page."
        return ""

    async def _enter(self, scope: Scope, send: Send) -> None:
        """Give a cookie for the right token.

        The next page is named in the page, not by a redirect: a browser that came here from another site (a terminal in a
        web page) does not send a strict cookie with a redirect.
        """
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])
        if scope["method"] not in READING or not self._keys.admits(given[0]):
            await _answer(send, 403, "Open the address that 'persona ui' printed.")
            return
        place = f"/{self._keys.place}/"
        cookie = f"{COOKIE}={self._keys.cookie}; HttpOnly; SameSite=Strict; Path={place}"
        head = f'<link rel="icon" href="{place}static/icon.svg">'
        head += f'<meta http-equiv="refresh" content="0; url={place}history">'
        await _answer(send, 200, f'<a href="{place}history">Open the history</a>', head, ("set-cookie", cookie))

    def _has_cookie(self, headers: _Headers) -> bool:
        try:
            cookies = SimpleCookie("; ".join(headers.all("cookie")))
        except CookieError:
            return False
        found = cookies.get(COOKIE)
        return found is not None and hmac.compare_digest(found.value.encode(), self._keys.cookie.encode())


class _Headers:
    def __init__(self, scope: Scope) -> None:
        self._pairs = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key == name.encode()]

    def only(self, name: str) -> str | None:
        """The value of a header; None if it is absent, and one that nothing matches if it is given twice."""
        values = self.all(name)
        return None if not values else values[0] if len(values) == 1 else "\n"


async def _answer(send: Send, status: int, text: str, head: str = "", *more: tuple[str, str]) -> None:
    body = PAGE.format(text=text, head=head).encode()
    pairs = (*HEADERS, ("content-type", "text/html; charset=utf-8"), ("content-length", str(len(body))), *more)
    headers = [(name.encode(), value.encode()) for name, value in pairs]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            changed: MutableMapping[str, Any] = dict(message)
            ours = {name.encode() for name, _ in HEADERS}
            kept = [pair for pair in message.get("headers", ()) if pair[0].lower() not in ours]
            changed["headers"] = [*kept, *((name.encode(), value.encode()) for name, value in HEADERS)]
            message = changed
        await send(message)

    return sending
