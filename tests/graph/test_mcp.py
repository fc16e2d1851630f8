"""Reading a graph from an MCP server: a real one, on this machine, in every form in which it may answer, well or badly."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from persona.errors import ServerError, UsageError
from persona.graph.sources import Read, SourceOptions, read
from persona.graph.sources.folder import read as read_folder
from tests.graph.mcp_server import LEGACY, MODERN, Graph, Handler, RpcError, serving

FOLDER = Path(__file__).parents[2] / "examples" / "graph"
NODES = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.md"))}
Message = dict[str, Any]


def text(said: object) -> Message:
    return {"content": [{"type": "text", "text": said if isinstance(said, str) else json.dumps(said)}]}


def from_folder() -> Read:
    return read(str(FOLDER))


@pytest.mark.parametrize("stream", [False, True], ids=["json", "events"])
@pytest.mark.parametrize("era", ["2024-11-05", "2025-03-26", LEGACY, "2025-11-25", MODERN])
def test_resources_give_what_the_folder_gives(era: str, stream: bool) -> None:
    graph = Graph(NODES, era=era, stream=stream)
    with serving(graph) as url:
        found = read(f"{url}/mcp")
    assert (found.nodes, found.links) == (from_folder().nodes, from_folder().links)
    assert (found.origin.kind, found.origin.place) == ("mcp", f"{url}/mcp")
    assert graph.methods.count("resources/list") == 2, "four nodes, two to a page"
    assert graph.ended == ([] if era == MODERN else [*graph.live]), "a session is ended"
    if era != MODERN:
        assert graph.methods[:3] == ["server/discover", "initialize", "notifications/initialized"]


def test_a_server_without_sessions() -> None:
    graph = Graph(NODES, sessions=False)
    with serving(graph) as url:
        assert len(read(f"{url}/mcp").nodes) == 4
    assert graph.ended == []


def test_the_usual_path_is_tried_where_none_is_given() -> None:
    with serving(Graph(NODES)) as url:
        assert len(read(url).nodes) == 4
        with pytest.raises(ServerError, match="HTTP 404"):
            read(f"{url}/elsewhere")


def test_a_session_that_runs_out_is_begun_anew() -> None:
    graph = Graph(NODES, expire_after=4)
    with serving(graph) as url:
        assert read(f"{url}/mcp").nodes == from_folder().nodes
    assert graph.methods.count("initialize") == 2


def test_names_beyond_ascii_travel_in_headers() -> None:
    nodes = {"übermut": "Übermut tut selten gut.", "落ち着き": "ゆっくり。"}
    tools = {"memory_list": {}, "memory_render": {"properties": {"name": {}}}}

    def call(name: str, arguments: Message) -> Message:
        return text(list(nodes)) if name == "memory_list" else text(nodes[arguments["name"]])

    for era in (LEGACY, MODERN):
        with serving(Graph({}, era=era, resources=False, tools=tools, call=call)) as url:
            found = read(f"{url}/mcp").nodes
        assert {node.name: node.text for node in found} == nodes


LISTINGS: dict[str, tuple[Message, object]] = {
    "names": (NODES, list(NODES)),
    "lines": (NODES, "\n".join(NODES)),
    "objects with texts": ({}, [{"key": name, "content": said} for name, said in NODES.items()]),
    "a table of nodes": ({}, {"nodes": [{"id": name, "text": said} for name, said in NODES.items()]}),
}


@pytest.mark.parametrize("form", LISTINGS)
@pytest.mark.parametrize("structured", [False, True], ids=["text", "structured"])
def test_tools_where_there_are_no_resources(form: str, structured: bool) -> None:
    to_render, listing = LISTINGS[form]
    tools = {"forget": {}, "memory_query": {"required": ["query"]}, "memory_render": {"properties": {"key": {}}}}

    def call(name: str, arguments: Message) -> Message:
        if name == "memory_query":
            assert arguments == {"query": "all"}
            structure = listing if isinstance(listing, dict) else {"result": listing}
            return {"structuredContent": structure} if structured and form != "lines" else text(listing)
        assert name == "memory_render"
        return text(to_render[arguments["key"]])

    with serving(Graph({}, resources=False, tools=tools, call=call)) as url:
        found = read(f"{url}/mcp")
    assert found.nodes == from_folder().nodes


def test_tools_by_name_go_before_resources() -> None:
    def call(name: str, arguments: Message) -> Message:
        return (
            text(["a"]) if name == "ls" else {"structuredContent": {"text": f"about {arguments['key']}", "tags": ["x"]}}
        )

    graph = Graph(NODES, tools={"ls": {}, "cat": {}}, call=call)
    with serving(graph) as url:
        (node,) = read(f"{url}/mcp", SourceOptions(("ls", "cat"))).nodes
        assert (node.name, node.text, node.tags) == ("a", "about a", {"x": None})
        with pytest.raises(UsageError, match="has no tool 'lz'") as error:
            read(f"{url}/mcp", SourceOptions(("lz",)))
        assert error.value.hint == "Known: cat, ls."
        with pytest.raises(UsageError, match="has no tool 'car'"):
            read(f"{url}/mcp", SourceOptions(("ls", "car")))


def test_neither_resources_nor_tools_that_we_know() -> None:
    with serving(Graph({}, resources=False, tools={"dance": {}})) as url, pytest.raises(UsageError) as error:
        read(f"{url}/mcp")
    assert "its tools are dance" in error.value.message
    assert "--tool" in error.value.hint


def test_a_tool_that_fails_says_why() -> None:
    def call(name: str, arguments: Message) -> Message:
        return {**text("the store\x1b[31m is locked"), "isError": True}

    graph = Graph({}, resources=False, tools={"memory_list": {}}, call=call)
    with serving(graph) as url, pytest.raises(ServerError, match="memory_list failed: the store") as error:
        read(f"{url}/mcp")
    assert "\x1b" not in error.value.message


def test_resources_that_are_no_text_are_left_out() -> None:
    graph = Graph({"one": "text", "two": "text"})
    plain = graph.answer

    def answer(method: str, params: Message) -> Message:
        if method == "resources/read" and params["uri"].endswith("/1"):
            return {"contents": [{"uri": params["uri"], "mimeType": "image/png", "blob": "iVBORw0KGgo="}]}
        return plain(method, params)

    graph.answer = answer  # type: ignore[method-assign]
    with serving(graph) as url:
        found = read(f"{url}/mcp")
    assert [node.name for node in found.nodes] == ["one"]
    assert found.notes == ("skipped memory://n/1: it is not text",)


def test_two_resources_of_one_name_are_both_named() -> None:
    graph = Graph({"one": "a", "two": "b"})
    graph.answer = lambda method, params: (  # type: ignore[method-assign]
        {"resources": [{"uri": f"memory://n/{i}", "name": "same"} for i in (0, 1)]}
        if method == "resources/list"
        else Graph.answer(graph, method, params)
    )
    with serving(graph) as url, pytest.raises(UsageError, match="'same': memory://n/0 and memory://n/1"):
        read(f"{url}/mcp")


def test_an_error_of_the_server_is_told_in_one_line_without_control_characters() -> None:
    graph = Graph(NODES)

    def answer(method: str, params: Message) -> Message:
        if method == "resources/list":
            raise RpcError(-32603, "the disk\x1b[2J\nis full" + "!" * 5000)
        return Graph.answer(graph, method, params)

    graph.answer = answer  # type: ignore[method-assign]
    with (
        serving(graph) as url,
        pytest.raises(ServerError, match=r"refused resources/list: the disk.* is full!+") as error,
    ):
        read(f"{url}/mcp")
    assert "\x1b" not in error.value.message
    assert len(error.value.message) < 500


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(ServerError, match=f"127.0.0.1:{port}.* cannot be reached: connection refused") as error:
        read(f"http://127.0.0.1:{port}/mcp")
    assert "running" in error.value.hint


def test_a_server_that_never_answers() -> None:
    release = threading.Event()

    def spoil(handler: BaseHTTPRequestHandler, message: Message) -> bool:
        release.wait(30)
        return True

    with serving(Graph(NODES, spoil=spoil)) as url:
        with pytest.raises(ServerError, match=r"did not answer server/discover within 0\.2 seconds"):
            read(f"{url}/mcp", SourceOptions(patience=0.2))
        release.set()


def test_a_server_that_drips_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece comes in time, and the whole never ends: the clock of the answer stops it."""
    clock = iter(range(0, 10**9, 60))
    monkeypatch.setattr("persona.graph.mcp_client.time.monotonic", lambda: next(clock))

    def spoil(handler: BaseHTTPRequestHandler, message: Message) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b": still here\n\n" * 50)
        except OSError:
            return True

    with serving(Graph(NODES, spoil=spoil)) as url, pytest.raises(ServerError, match="did not answer"):
        read(f"{url}/mcp")


STARTS = {
    "status": b"HTTP/1.1 ",
    "headers": b"HTTP/1.1 200 OK\r\nX: ",
    "sizes of chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n1;",
    "a body": b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\nContent-Type: application/json\r\n\r\n",
}


@pytest.mark.parametrize("what", STARTS)
def test_a_server_that_sends_one_byte_at_a_time(what: str) -> None:
    """Every byte is in time, and what it belongs to never ends."""
    gone = threading.Event()

    def spoil(handler: BaseHTTPRequestHandler, message: Message) -> bool:
        handler.wfile.write(STARTS[what])
        try:
            while not gone.wait(0.01):
                handler.wfile.write(b"x")
        except OSError:
            pass
        handler.close_connection = True
        return True

    try:
        with serving(Graph(NODES, spoil=spoil)) as url, pytest.raises(ServerError, match="did not answer"):
            read(f"{url}/mcp", SourceOptions(patience=0.05))
    finally:
        gone.set()


BAD: dict[str, tuple[int, bytes, str, str]] = {
    "a web page": (200, b"<html>hello</html>", "text/html", "returned text/html"),
    "garbage": (200, b"\x00\xff not json", "application/json", "did not return a JSON-RPC message"),
    "deep": (200, b"[" * 100_000, "application/json", "did not return a JSON-RPC message"),
    "a list": (200, b"[]", "application/json", "did not return a JSON-RPC message"),
    "no result": (200, b'{"jsonrpc": "2.0", "id": 1}', "application/json", "has no result"),
    "a result of another kind": (200, b'{"id": 1, "result": 7}', "application/json", "has no result"),
    "an empty stream": (200, b"", "text/event-stream", "ended without an answer"),
    "another's answer": (200, b'data: {"id": 99, "result": {}}\n\n', "text/event-stream", "ended without an answer"),
    "a failure": (500, b"oops", "text/plain", "HTTP 500"),
    "a login": (401, b"", "text/plain", "HTTP 401"),
    "a redirect": (302, b"", "text/plain", "HTTP 302"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_answer_is_named(what: str) -> None:
    status, data, kind, said = BAD[what]

    def spoil(handler: BaseHTTPRequestHandler, message: Message) -> bool:
        assert isinstance(handler, Handler)
        handler.reply(status, data, kind, {"Location": "http://elsewhere/"} if status == 302 else {})
        return True

    with serving(Graph(NODES, spoil=spoil)) as url, pytest.raises(ServerError, match=said) as error:
        read(f"{url}/mcp")
    assert error.value.hint


def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona.graph.mcp_client.MOST_BYTES", 1 << 20)

    def spoil(handler: BaseHTTPRequestHandler, message: Message) -> bool:
        assert isinstance(handler, Handler)
        handler.reply(200, b"x" * (2 << 20), "application/json")
        return True

    with serving(Graph(NODES, spoil=spoil)) as url, pytest.raises(ServerError, match="more than 1 MiB"):
        read(f"{url}/mcp")


def test_answers_that_are_too_much_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona.graph.mcp_client.MOST_IN_ALL", 1 << 20)
    graph = Graph({f"n{i}": "x" * (1 << 18) for i in range(5)})
    with serving(graph) as url, pytest.raises(ServerError, match="more than 1 MiB in total"):
        read(f"{url}/mcp")


def test_an_earlier_server_may_answer_the_first_question_with_anything() -> None:
    def spoil(handler: BaseHTTPRequestHandler, message: Message) -> bool:
        assert isinstance(handler, Handler)
        if message["method"] == "server/discover":
            handler.reply(200, b"what?", "text/plain")
            return True
        return False

    with serving(Graph(NODES, spoil=spoil)) as url:
        assert len(read(f"{url}/mcp").nodes) == 4


def test_pages_that_come_to_no_end() -> None:
    graph = Graph(NODES)
    graph.answer = lambda method, params: (  # type: ignore[method-assign]
        {"resources": [], "nextCursor": "again"} if method == "resources/list" else Graph.answer(graph, method, params)
    )
    with serving(graph) as url, pytest.raises(ServerError, match="never ends"):
        read(f"{url}/mcp")


def test_a_version_that_nobody_knows() -> None:
    with (
        serving(Graph(NODES, era="1999-01-01")) as url,
        pytest.raises(ServerError, match="uses version '1999-01-01'"),
    ):
        read(f"{url}/mcp")


def test_a_modern_server_of_another_version_is_not_asked_to_initialize() -> None:
    def spoil(handler: BaseHTTPRequestHandler, message: Message) -> bool:
        assert isinstance(handler, Handler)
        error = {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32022, "message": "only 2031-01-01"}}
        handler.reply(400, json.dumps(error).encode(), "application/json")
        return True

    graph = Graph(NODES, spoil=spoil)
    with serving(graph) as url, pytest.raises(ServerError, match="only 2031-01-01"):
        read(f"{url}/mcp")
    assert graph.methods == ["server/discover"]


@pytest.mark.parametrize(
    "url", ["http://", "http://a b/", "http://x:port/", "http://x:99999/", "http://[::1", "http://x/\n"]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(UsageError, match="not the address of a server"):
        read(url)


def test_passwords_are_neither_sent_nor_kept_nor_shown() -> None:
    with pytest.raises(UsageError, match="contains a user or password") as error:
        read("http://me:secret@127.0.0.1:1/mcp")
    assert "secret" not in error.value.message + error.value.hint


def test_environment_proxies_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with serving(Graph(NODES)) as url:
        assert len(read(f"{url}/mcp").nodes) == len(list(read_folder(str(FOLDER), SourceOptions())))
