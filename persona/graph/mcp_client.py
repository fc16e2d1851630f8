"""A small client for the Model Context Protocol (MCP) over streamable HTTP: just enough to read a graph.

It supports both generations of the protocol. From 2026-07-28 on, each request is independent: version and client are
in its ``_meta`` and, mirrored, in headers. Before, ``initialize`` opens a session that ``Mcp-Session-Id`` names. The
client tries ``server/discover`` first, which older servers do not know. (specification/2026-07-28/basic/versioning and
specification/2025-11-25/basic/transports at modelcontextprotocol.io.)

The server is not trusted: redirects are not followed, proxies and environment variables are ignored, and every answer
is limited in size and time.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

from persona.errors import ServerError, UsageError
from persona.graph.text import one_line

STATELESS = "2026-07-28"
VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""Versions with sessions, newest first; the newest is the one that is requested."""

MOST_BYTES = 64 << 20
"""Maximum size of one answer."""

MOST_IN_ALL = 1 << 30
"""Maximum size of all answers together."""

MOST_PAGES = 10_000

IN_ALL = 10
"""How many times longer than the wait for its next piece a whole exchange may take."""

_CLIENT = {"name": "persona", "version": "1"}
_MODERN = (-32022, -32020)
"""Error codes of newer servers only: unsupported version, mismatched headers."""
_FINAL = (0, 401, 403, 407, 429)
"""HTTP statuses after which no other version is tried: no answer, login required, too many requests."""


class _Watch:
    """Ends a connection after some seconds, wherever it is: a header may come one byte at a time, each in good time."""

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def connected(self, *arguments: Any, **options: Any) -> socket.socket:
        """Connect, and remember the connection under a descriptor that no layer above takes away."""
        made = socket.create_connection(*arguments, **options)
        self._socket = made.dup()
        return made

    def _end(self) -> None:
        self.over = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop watching."""
        self._timer.cancel()
        self._timer.join()
        if self._socket is not None:
            self._socket.close()


@dataclass
class Client:
    """A connection to one server.

    Args:
        url: Address of the endpoint.
        patience: Seconds to wait for each answer, and for each piece of it; ten times as long for all of it.
    """

    url: str
    patience: float = 30.0
    version: str = ""
    session: str = ""
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    _received: int = 0
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def open(self) -> None:
        """Agree on a version; if the URL has no path and is not an endpoint, try ``/mcp`` as well."""
        try:
            self._agree()
        except ServerError as error:
            if error.status not in (404, 405) or urlsplit(self.url).path not in ("", "/"):
                raise
            original, self.url = self.url, urlsplit(self.url)._replace(path="/mcp").geturl()
            try:
                self._agree()
            except ServerError:
                self.url = original
                raise error from None

    def _agree(self) -> None:
        self.version = STATELESS
        try:
            answer = self._request("server/discover", {})
        except ServerError as error:
            if error.status in _FINAL or error.code in _MODERN:
                raise
            self._initialize()
        else:
            self.capabilities = _table(answer.get("capabilities"))

    def _initialize(self) -> None:
        self.version = self.session = ""
        params = {"protocolVersion": VERSIONS[0], "capabilities": {}, "clientInfo": _CLIENT}
        answer = self._request("initialize", params)
        version = answer.get("protocolVersion")
        if version not in VERSIONS:
            raise ServerError(
                f"{self.where} uses version '{one_line(str(version), 40)}' of MCP, which persona does not support",
                f"Supported: {', '.join(VERSIONS)}, {STATELESS}.",
            )
        self.version, self.capabilities = str(version), _table(answer.get("capabilities"))
        self._post({"method": "notifications/initialized"})

    def call(self, method: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the result of a request; an expired session is renewed once."""
        try:
            return self._request(method, params)
        except ServerError as error:
            if not (self.session and error.status == 404):
                raise
            self._initialize()
            return self._request(method, params)

    def pages(self, method: str, key: str) -> Iterator[Mapping[str, Any]]:
        """Yield the objects in the list ``key`` of every page of a result."""
        seen: set[str] = set()
        cursor: str | None = None
        while True:
            page = self.call(method, {"cursor": cursor} if cursor is not None else {})
            items = page.get(key)
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                raise self._invalid(f"{method} did not return a list of {key}")
            yield from items
            cursor = page.get("nextCursor")
            if cursor is None:
                return
            if not isinstance(cursor, str) or cursor in seen or len(seen) >= MOST_PAGES:
                raise self._invalid(f"{method} never ends")
            seen.add(cursor)

    def close(self) -> None:
        """End the session, if there is one; errors are ignored."""
        if self.session:
            with contextlib.suppress(OSError, HTTPException), self._sent("DELETE", b"", {}):
                pass

    @property
    def where(self) -> str:
        """The address without user, password and query, for messages."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def _request(self, method: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        number = next(self._ids)
        if self.version == STATELESS:
            params = {**params, "_meta": _META}
        message = self._post({"id": number, "method": method, "params": params}, number)
        if "error" in message:
            raise self._refused(method, message)
        if not isinstance(message.get("result"), dict):
            raise self._invalid(f"{method} has no result")
        result: dict[str, Any] = message["result"]
        return result

    def _post(self, message: Mapping[str, Any], number: int | None = None) -> Mapping[str, Any]:
        """Send a message and read the answer to the request ``number``; None for a notification, which has no answer."""
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        if self.version:
            headers["MCP-Protocol-Version"] = self.version
        if self.version == STATELESS:
            headers |= _mirrored(message)
        try:
            body = json.dumps({"jsonrpc": "2.0", **message}).encode()
            with self._sent("POST", body, headers) as answer:
                return self._read(answer, message["method"], number)
        except TimeoutError:
            raise ServerError(
                f"{self.where} did not answer {message['method']} within {self.patience:g} seconds",
                "It may be busy: try again later, or raise --timeout.",
                0,
            ) from None
        except (OSError, HTTPException, ValueError) as error:
            reason = str(getattr(error, "strerror", None) or error) or type(error).__name__
            raise ServerError(
                f"{self.where} cannot be reached: {one_line(reason[:1].lower() + reason[1:])}",
                "Check that the server is running and that this is its address.",
                0,
            ) from None

    @contextlib.contextmanager
    def _sent(self, verb: str, body: bytes, headers: Mapping[str, str]) -> Iterator[HTTPResponse]:
        parts = checked_url(self.url)
        watch = _Watch(IN_ALL * self.patience)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self.patience)
        connection._create_connection = watch.connected  # type: ignore[attr-defined]
        known = {"Mcp-Session-Id": self.session} if self.session else {}
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request(verb, target, body, {**headers, **known, "Connection": "close"})
            with contextlib.closing(connection.getresponse()) as answer:
                yield answer
        except (OSError, HTTPException, ValueError, ServerError):
            if watch.over:  # what came until then looks like half an answer
                raise TimeoutError from None
            raise
        finally:
            connection.close()
            watch.close()

    def _read(self, answer: HTTPResponse, method: str, number: int | None) -> Mapping[str, Any]:
        ending = time.monotonic() + IN_ALL * self.patience
        kind = (answer.headers.get_content_type() or "").lower()
        if answer.status >= 300:
            raise self._status(answer, method, kind, ending)
        if method == "initialize":
            self.session = _header(answer.headers.get("Mcp-Session-Id", ""))
        if number is None:
            return {}
        if kind == "text/event-stream":
            return self._from_events(answer, method, number, ending)
        if kind != "application/json":
            raise self._invalid(f"{method} returned {kind or 'no content type'}")
        message = _message(b"".join(self._chunks(answer, ending)))
        if message is None:
            raise self._invalid(f"{method} did not return a JSON-RPC message")
        return message

    def _from_events(self, answer: HTTPResponse, method: str, number: int, ending: float) -> Mapping[str, Any]:
        """Return the message of an event stream that answers our request; skip others, such as progress notifications."""
        for data in _events(self._chunks(answer, ending)):
            message = _message(data)
            if message is not None and message.get("id") == number and "method" not in message:
                return message
        raise self._invalid(f"the stream of {method} ended without an answer")

    def _chunks(self, answer: HTTPResponse, ending: float) -> Iterator[bytes]:
        """Yield what the server sends, within the limits of size and time."""
        total = 0
        while chunk := answer.read1(1 << 16):
            total += len(chunk)
            self._received += len(chunk)
            if total > MOST_BYTES or self._received > MOST_IN_ALL:
                what = f"an answer of more than {MOST_BYTES >> 20} MiB"
                raise self._invalid(what if total > MOST_BYTES else f"more than {MOST_IN_ALL >> 20} MiB in total")
            if time.monotonic() > ending:
                raise TimeoutError
            yield chunk

    def _status(self, answer: HTTPResponse, method: str, kind: str, ending: float) -> ServerError:
        """Return the error for an HTTP status, as the JSON-RPC body explains it if there is one."""
        if kind == "application/json":
            message = _message(b"".join(self._chunks(answer, ending)))
            if message is not None and isinstance(message.get("error"), dict):
                return self._refused(method, message, answer.status)
        hint = "Give the address of the server's MCP endpoint, which often ends in /mcp."
        if location := answer.headers.get("Location"):
            hint = f"It redirects to {one_line(location)}: give that address if you trust it."
        if answer.status in (401, 403):
            hint = "It requires a login, which persona does not support: use a local server, or an export."
        reason = one_line(answer.reason or "", 80)
        return ServerError(
            f"{self.where} answered {method} with HTTP {answer.status} {reason}".rstrip(), hint, answer.status
        )

    def _refused(self, method: str, message: Mapping[str, Any], status: int = 200) -> ServerError:
        error = _table(message.get("error"))
        reason, code = one_line(str(error.get("message", "")), 300), error.get("code")
        number = code if isinstance(code, int) else None
        hint = "This is the server's answer; its log may say more."
        return ServerError(
            f"{self.where} refused {method}: {reason or 'no reason given'} ({number})", hint, status, number
        )

    def _invalid(self, what: str) -> ServerError:
        return ServerError(
            f"{self.where} gave an invalid MCP answer: {what}", "Check that this is the address of its MCP endpoint."
        )


_META = {
    "io.modelcontextprotocol/protocolVersion": STATELESS,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": _CLIENT,
}


def checked_url(url: str) -> SplitResult:
    """Split a server's URL; raise UsageError if it is not one, or has a password in it."""
    try:
        parts = urlsplit(url)
        _ = parts.port
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable() and " " not in url
    except ValueError:
        good = False
    if not good or parts.username or parts.password:
        what = "contains a user or password" if good else "is not the address of a server"
        raise UsageError(f"the URL {what}", "Write it like http://localhost:7777/mcp.")
    return parts


def _mirrored(message: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers that repeat parts of the body for gateways."""
    params = message.get("params", {})
    name = params.get("name") or params.get("uri")
    return {"Mcp-Method": message["method"], **({"Mcp-Name": _encoded(name)} if name else {})}


def _encoded(value: str) -> str:
    plain = value.isascii() and value.isprintable() and value == value.strip() and not value.startswith("=?")
    return value if plain else f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def _header(value: str) -> str:
    """Return a session's id if it is safe to send back: printable ASCII."""
    return value if value.isascii() and value.isprintable() and len(value) <= 4096 else ""


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _message(data: bytes) -> Mapping[str, Any] | None:
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _events(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the data of each server-sent event."""
    data: list[bytes] = []
    for line in _lines(chunks):
        if not line and data:
            yield b"\n".join(data)
            data = []
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
    if data:
        yield b"\n".join(data)


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield complete lines, without their line ends."""
    rest = bytearray()
    for chunk in chunks:
        *whole, last = chunk.split(b"\n")
        for line in whole:
            yield bytes(rest + line).removesuffix(b"\r")
            rest.clear()
        rest += last
    yield bytes(rest)
