"""A real MCP server on this machine, as small as one can be, that may also misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODERN, LEGACY = "2026-07-28", "2025-06-18"


class RpcError(Exception):
    def __init__(self, code: int, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.code, self.status = code, status


@dataclass
class Graph:
    """What the server has, how it speaks, and what it does wrong. ``seen`` are the requests that came."""

    nodes: dict[str, str]
    era: str = LEGACY
    stream: bool = False
    resources: bool = True
    sessions: bool = True
    page: int = 2
    path: str = "/mcp"
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    call: Callable[[str, dict[str, Any]], dict[str, Any]] = field(default=lambda name, arguments: {})
    spoil: Callable[[BaseHTTPRequestHandler, dict[str, Any]], bool] = field(default=lambda handler, message: False)
    expire_after: int | None = None
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    live: set[str] = field(default_factory=set)
    ended: list[str] = field(default_factory=list)

    @property
    def methods(self) -> list[str]:
        return [method for method, _ in self.seen]

    def answer(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        capabilities: dict[str, Any] = {"tools": {}} | ({"resources": {}} if self.resources else {})
        if method == "server/discover" and self.era == MODERN:
            return {"resultType": "complete", "supportedVersions": [MODERN], "capabilities": capabilities}
        if method == "initialize" and self.era != MODERN:
            assert params["clientInfo"]["name"] == "persona"
            return {"protocolVersion": self.era, "capabilities": capabilities, "serverInfo": {"name": "test"}}
        if method == "resources/list" and self.resources:
            return self._page(
                "resources", [{"uri": f"memory://n/{i}", "name": n} for i, n in enumerate(self.nodes)], params
            )
        if method == "resources/read":
            text = list(self.nodes.values())[int(params["uri"].rpartition("/")[2])]
            return {"contents": [{"uri": params["uri"], "mimeType": "text/markdown", "text": text}]}
        if method == "tools/list":
            return self._page("tools", [{"name": name, "inputSchema": s} for name, s in self.tools.items()], params)
        if method == "tools/call":
            return self.call(params["name"], params["arguments"])
        raise RpcError(-32601, f"no method {method}", 404 if self.era == MODERN else 200)

    def _page(self, key: str, items: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
        start = int(params.get("cursor", "0"))
        more = {"nextCursor": str(start + self.page)} if start + self.page < len(items) else {}
        return {key: items[start : start + self.page], **more}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    graph: Graph

    def log_message(self, *args: object) -> None:
        pass

    def do_DELETE(self) -> None:
        self.graph.ended.append(self.headers.get("Mcp-Session-Id", ""))
        self.reply(204, b"", "text/plain")

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        graph, method = self.graph, message["method"]
        graph.seen.append((method, dict(self.headers)))
        if graph.spoil(self, message):
            return
        if self.path.partition("?")[0] != graph.path:
            self.reply(404, b"nothing here", "text/plain")
            return
        try:
            self.check(message)
            if "id" not in message:
                self.reply(202, b"", "text/plain")
                return
            result = graph.answer(method, message.get("params", {}))
            body: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"], "result": result}
            status = 200
        except RpcError as error:
            body = {"jsonrpc": "2.0", "id": message.get("id"), "error": {"code": error.code, "message": str(error)}}
            status = error.status
        self.respond(status, body, method)

    def check(self, message: dict[str, Any]) -> None:
        """What the specification says a server must reject."""
        graph, headers, method = self.graph, self.headers, message["method"]
        assert "application/json" in headers["Accept"]
        assert "text/event-stream" in headers["Accept"]
        if graph.era == MODERN:
            params = message.get("params", {})
            meta = params.get("_meta", {})
            if meta.get("io.modelcontextprotocol/protocolVersion") != headers["MCP-Protocol-Version"]:
                raise RpcError(-32020, "header mismatch", 400)
            named = params.get("name") or params.get("uri")
            if headers["Mcp-Method"] != method or headers["Mcp-Name"] != named:
                raise RpcError(-32020, "header mismatch", 400)
        elif method == "server/discover":
            raise RpcError(-32600, "not initialized", 400)
        elif graph.sessions and method != "initialize":
            if headers["Mcp-Session-Id"] not in graph.live:
                raise RpcError(-32001, "no such session", 404)
            assert headers["MCP-Protocol-Version"] == graph.era
            if graph.expire_after is not None:
                graph.expire_after -= 1
                if graph.expire_after == 0:
                    graph.live.clear()

    def respond(self, status: int, body: dict[str, Any], method: str) -> None:
        extra = {}
        if method == "initialize" and status == 200 and self.graph.sessions:
            extra["Mcp-Session-Id"] = f"session-{len(self.graph.seen)}"
            self.graph.live.add(extra["Mcp-Session-Id"])
        data = json.dumps(body).encode()
        if not self.graph.stream or status != 200:
            self.reply(status, data, "application/json; charset=utf-8", extra)
            return
        lines = json.dumps(body, indent=1).encode().split(b"\n")  # as many data lines as a server may make of it
        news = b'data: {"jsonrpc": "2.0", "method": "notifications/progress", "params": {}}\r\n\r\n'
        event = b"event: message\nid: 7\n" + b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"
        self.reply(200, b": hello\n\n" + news + event, "text/event-stream", extra)

    def reply(self, status: int, data: bytes, kind: str, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(extra or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(graph: Graph) -> Iterator[str]:
    """Its address, while it runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"graph": graph}))
    server.daemon_threads = True
    server.handle_error = lambda *args: None  # type: ignore[method-assign]  # a client that hangs up is no news
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
