"""The few calls of the Model Context Protocol that reading a graph takes, over streamable HTTP, from a server that may
say anything.

Two eras of the protocol are spoken. From 2026-07-28 on each request stands alone: version and client are in its
``_meta`` and, mirrored, in headers. Before, ``initialize`` makes a session that ``Mcp-Session-Id`` names. A server is asked
``server/discover`` first; one that does not know it is of the earlier era. (specification/2026-07-28/basic/versioning
and specification/2025-11-25/basic/transports at modelcontextprotocol.io.)

Nothing is followed to another address, no proxy and no environment is looked at, and every answer is bounded in bytes
and in time.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
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
"""Of the earlier era, the newest first: that is the one that is asked for."""

MOST_BYTES = 64 << 20
"""Of one answer."""

MOST_IN_ALL = 1 << 30
"""Bytes of all answers together."""

MOST_PAGES = 10_000

_CLIENT = {"name": "persona", "version": "1"}
_MODERN = (-32022, -32020)
"""Errors that only a server of the later era gives: another version, headers that do not fit."""
_FINAL = (0, 401, 403, 407, 429)
"""Silence, and answers after which asking in another way would only be rude."""


@dataclass
class Client:
    """One server. ``open`` finds out what it speaks."""

    url: str
    patience: float = 30.0
    version: str = ""
    session: str = ""
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    _received: int = 0
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def open(self) -> None:
        """Agree on a version, with the address as it is, or with ``/mcp`` where it names no path."""
        try:
            self._agree()
        except ServerError as error:
            if error.status not in (404, 405) or urlsplit(self.url).path not in ("", "/"):
                raise
            here, self.url = self.url, urlsplit(self.url)._replace(path="/mcp").geturl()
            try:
                self._agree()
            except ServerError:
                self.url = here
                raise error from None

    def _agree(self) -> None:
        self.version = STATELESS
        try:
            found = self._request("server/discover", {})
        except ServerError as error:
            if error.status in _FINAL or error.code in _MODERN:
                raise
            self._initialize()
        else:
            self.capabilities = _table(found.get("capabilities"))

    def _initialize(self) -> None:
        self.version = self.session = ""
        params = {"protocolVersion": VERSIONS[0], "capabilities": {}, "clientInfo": _CLIENT}
        found = self._request("initialize", params)
        version = found.get("protocolVersion")
        if version not in VERSIONS:
            said = one_line(str(version), 40)
            raise ServerError(
                f"{self.where} speaks version '{said}' of MCP", f"Known: {', '.join(VERSIONS)}, {STATELESS}."
            )
        self.version, self.capabilities = str(version), _table(found.get("capabilities"))
        self._post({"method": "notifications/initialized"})

    def call(self, method: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The result of a request; a session that has run out is begun anew, once."""
        try:
            return self._request(method, params)
        except ServerError as error:
            if not (self.session and error.status == 404):
                raise
            self._initialize()
            return self._request(method, params)

    def pages(self, method: str, key: str) -> Iterator[Mapping[str, Any]]:
        """The tables in the list ``key`` of every page of an answer."""
        seen: set[str] = set()
        cursor: str | None = None
        while True:
            found = self.call(method, {"cursor": cursor} if cursor is not None else {})
            items = found.get(key)
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                raise self._garbled(f"{method} gave no list of {key}")
            yield from items
            cursor = found.get("nextCursor")
            if cursor is None:
                return
            if not isinstance(cursor, str) or cursor in seen or len(seen) >= MOST_PAGES:
                raise self._garbled(f"{method} comes to no end")
            seen.add(cursor)

    def close(self) -> None:
        """End the session, where there is one; a server need not care."""
        if self.session:
            with contextlib.suppress(OSError, HTTPException), self._sent("DELETE", b"", {}):
                pass

    @property
    def where(self) -> str:
        """Its address, as it may be shown."""
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
            raise self._garbled(f"{method} has no result")
        result: dict[str, Any] = message["result"]
        return result

    def _post(self, message: Mapping[str, Any], number: int | None = None) -> Mapping[str, Any]:
        """Send a message, and read the answer to the request ``number``; there is none to a notification."""
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
            said = f"{self.where} did not answer {message['method']} within {self.patience:g} seconds"
            raise ServerError(said, "Is it busy? Try again later.", 0) from None
        except (OSError, HTTPException, ValueError) as error:
            reason = str(getattr(error, "strerror", None) or error) or type(error).__name__
            said = f"{self.where} cannot be reached: {one_line(reason[:1].lower() + reason[1:])}"
            raise ServerError(said, "Is the server running, and is this its address?", 0) from None

    @contextlib.contextmanager
    def _sent(self, verb: str, body: bytes, headers: Mapping[str, str]) -> Iterator[HTTPResponse]:
        parts = checked_url(self.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self.patience)
        known = {"Mcp-Session-Id": self.session} if self.session else {}
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request(verb, target, body, {**headers, **known, "Connection": "close"})
            with contextlib.closing(connection.getresponse()) as answer:
                yield answer
        finally:
            connection.close()

    def _read(self, answer: HTTPResponse, method: str, number: int | None) -> Mapping[str, Any]:
        ending = time.monotonic() + 10 * self.patience
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
            raise self._garbled(f"{method} gave {kind or 'nothing'}")
        message = _message(b"".join(self._chunks(answer, ending)))
        if message is None:
            raise self._garbled(f"{method} gave no JSON-RPC message")
        return message

    def _from_events(self, answer: HTTPResponse, method: str, number: int, ending: float) -> Mapping[str, Any]:
        """The message of a stream that answers our request; others, such as news of progress, are passed over."""
        for data in _events(self._chunks(answer, ending)):
            message = _message(data)
            if message is not None and message.get("id") == number and "method" not in message:
                return message
        raise self._garbled(f"the stream of {method} ended without an answer")

    def _chunks(self, answer: HTTPResponse, ending: float) -> Iterator[bytes]:
        """What the server sends, as it comes, within bounds."""
        total = 0
        while chunk := answer.read1(1 << 16):
            total += len(chunk)
            self._received += len(chunk)
            if total > MOST_BYTES or self._received > MOST_IN_ALL:
                what = f"an answer of more than {MOST_BYTES >> 20} MiB"
                raise self._garbled(what if total > MOST_BYTES else f"more than {MOST_IN_ALL >> 20} MiB in all")
            if time.monotonic() > ending:
                raise TimeoutError
            yield chunk

    def _status(self, answer: HTTPResponse, method: str, kind: str, ending: float) -> ServerError:
        """An answer that is none: as JSON-RPC explains it where it does, else as HTTP does."""
        if kind == "application/json":
            message = _message(b"".join(self._chunks(answer, ending)))
            if message is not None and isinstance(message.get("error"), dict):
                return self._refused(method, message, answer.status)
        hint = "Give the address of the server's MCP endpoint; it often ends in /mcp."
        if location := answer.headers.get("Location"):
            hint = f"It points to {one_line(location)}: give that address if you trust it."
        if answer.status in (401, 403):
            hint = "It asks for a login, which persona cannot give: use a server on this machine, or an export."
        reason = one_line(answer.reason or "", 80)
        return ServerError(
            f"{self.where} answered {method} with HTTP {answer.status} {reason}".rstrip(), hint, answer.status
        )

    def _refused(self, method: str, message: Mapping[str, Any], status: int = 200) -> ServerError:
        error = _table(message.get("error"))
        said, code = one_line(str(error.get("message", "")), 300), error.get("code")
        number = code if isinstance(code, int) else None
        hint = "It is the server's answer; its log may say more."
        return ServerError(
            f"{self.where} refused {method}: {said or 'no reason given'} ({number})", hint, status, number
        )

    def _garbled(self, what: str) -> ServerError:
        return ServerError(
            f"{self.where} does not speak MCP as it should: {what}", "Is this the address of its endpoint?"
        )


_META = {
    "io.modelcontextprotocol/protocolVersion": STATELESS,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": _CLIENT,
}


def checked_url(url: str) -> SplitResult:
    """The parts of an address, if it is one."""
    try:
        parts = urlsplit(url)
        _ = parts.port
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable() and " " not in url
    except ValueError:
        good = False
    if not good or parts.username or parts.password:
        what = "has a user or password in it" if good else "is no address of a server"
        raise UsageError(f"the URL {what}", "Write it like http://localhost:7777/mcp.")
    return parts


def _mirrored(message: Mapping[str, Any]) -> dict[str, str]:
    """What gateways may look at without reading the body."""
    params = message.get("params", {})
    name = params.get("name") or params.get("uri")
    return {"Mcp-Method": message["method"], **({"Mcp-Name": _encoded(name)} if name else {})}


def _encoded(value: str) -> str:
    plain = value.isascii() and value.isprintable() and value == value.strip() and not value.startswith("=?")
    return value if plain else f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def _header(value: str) -> str:
    """A session's id, if it may be sent back: visible ASCII."""
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
    """The data of each server-sent event."""
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
    """Lines as they become whole, without their ends."""
    rest = bytearray()
    for chunk in chunks:
        *whole, last = chunk.split(b"\n")
        for line in whole:
            yield bytes(rest + line).removesuffix(b"\r")
            rest.clear()
        rest += last
    yield bytes(rest)
