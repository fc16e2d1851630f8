"""An MCP server over HTTP: its resources, or else what its tools return.

*Resources*, if the server has any: ``resources/list`` names the nodes and ``resources/read`` returns their texts.

*Tools* otherwise, or if they are given: one lists the nodes (``LISTING``), one reads a node (``READING``). Of each, the
first that the server has is used, or the one in ``SourceOptions.tools``. The listing tool is called without arguments,
or with ``query`` = ``all`` if it requires a query. It returns names or objects, as JSON (a list, or a table with
``nodes``), or one name per line. An object with a text need not be read. The reading tool is called with a name as
``key``, ``id`` or ``name``, whichever its schema has.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from persona.errors import ServerError, UsageError, did_you_mean
from persona.graph.sources import SourceGraph, SourceOptions
from persona.graph.sources.jsonl import NAMES, TEXTS, node_of
from persona.graph.text import one_line

if TYPE_CHECKING:
    from persona.graph.mcp_client import Client

SUMMARY = "the URL of an MCP server, such as http://localhost:7777"
LISTING = ("memory_list", "list_nodes", "memory_nodes", "memory_query")
READING = ("memory_render", "memory_read", "read_node", "get_node")
KEYS = ("key", *NAMES, "node")
"""Possible argument names of a reading tool for the name of a node."""


def accepts(place: str) -> bool:
    """Return whether it is an HTTP URL."""
    return re.match(r"https?://", place) is not None


def read(place: str, options: SourceOptions) -> Iterator[SourceGraph]:
    """Yield every node of the server."""
    from persona.graph.mcp_client import Client, checked_url

    checked_url(place)
    client = Client(place, options.patience)
    client.open()
    with contextlib.closing(client):
        nodes = [] if options.tools else list(_resources(client))
        yield from nodes or _from_tools(client, options.tools)


def _resources(client: Client) -> Iterator[SourceGraph]:
    if "resources" not in client.capabilities:
        return
    for resource in list(client.pages("resources/list", "resources")):
        uri = resource.get("uri")
        if not isinstance(uri, str):
            raise ServerError(f"{client.where}: a resource has no URI", "This is a mistake of the server.")
        name = resource.get("name")
        last = unquote(urlsplit(uri).path.rpartition("/")[2] or urlsplit(uri).netloc)
        yield SourceGraph(name if isinstance(name, str) and name else last, _text_of(client, uri), one_line(uri))


def _text_of(client: Client, uri: str) -> str | None:
    """Return the text of a resource, or None if it is not text."""
    parts = _tables(client.call("resources/read", {"uri": uri}).get("contents"))
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    return "\n".join(texts) if texts else None


def _from_tools(client: Client, wanted: tuple[str, ...]) -> Iterator[SourceGraph]:
    offered = client.pages("tools/list", "tools")
    tools = {tool["name"]: tool for tool in offered if isinstance(tool.get("name"), str) and tool["name"].isprintable()}
    listing = _tool(client.where, tools, wanted[:1] or LISTING, bool(wanted))
    reading = next((name for name in wanted[1:] or READING if name in tools), None)
    if len(wanted) > 1 and reading is None:
        _tool(client.where, tools, wanted[1:], True)
    for item in _listed(client, tools[listing]):
        fields = {"id": item} if isinstance(item, str) else item
        if any(isinstance(fields.get(key), str) for key in TEXTS):
            yield node_of(fields, f"{client.where} {listing}")
            continue
        name = next((fields[key] for key in NAMES if isinstance(fields.get(key), str)), "")
        if reading is None:
            raise _no_tool(client.where, tools, "reads a node", READING)
        yield _read_one(client, tools[reading], name, fields)


def _tool(url: str, tools: Mapping[str, Any], names: Iterable[str], named: bool) -> str:
    chosen = next((name for name in names if name in tools), None)
    if chosen is None and named:
        raise UsageError(f"{url} has no tool '{next(iter(names))}'", did_you_mean(next(iter(names)), tools))
    if chosen is None:
        raise _no_tool(url, tools, "lists nodes", LISTING)
    return chosen


def _no_tool(url: str, tools: Mapping[str, Any], what: str, known: tuple[str, ...]) -> UsageError:
    available = ", ".join(sorted(tools)[:8]) or "none"
    return UsageError(
        f"{url} has no resources, and no tool that {what}; its tools are {available}",
        f"Known names are {', '.join(known)}; give others with --tool LIST --tool READ.",
    )


def _listed(client: Client, tool: Mapping[str, Any]) -> list[Any]:
    """Return the names or objects that the listing tool returns."""
    arguments = {"query": "all"} if "query" in _words(_schema(tool).get("required")) else {}
    result = _called(client, str(tool["name"]), arguments)
    value = result.get("structuredContent")
    if value is None:
        text = _text(result)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = [line.strip() for line in text.splitlines() if line.strip()]
    if isinstance(value, dict):
        value = next((item for key, item in value.items() if key in ("nodes", "result", "items", "keys")), None)
    if not isinstance(value, list) or not all(isinstance(item, str | dict) for item in value):
        raise ServerError(
            f"{client.where}: {tool['name']} did not return a list of nodes", "Choose another tool: --tool NAME"
        )
    return value


def _read_one(client: Client, tool: Mapping[str, Any], name: str, fields: Mapping[str, Any]) -> SourceGraph:
    key = next((key for key in KEYS if key in _words(_schema(tool).get("properties"))), KEYS[0])
    result = _called(client, str(tool["name"]), {key: name})
    where = f"{client.where} {one_line(name)}"
    known = {"tags": fields.get("tags", ()), "links": fields.get("links", ())}
    value: Any = result.get("structuredContent")
    if isinstance(value, dict) and any(isinstance(value.get(key), str) for key in TEXTS):
        return node_of({**known, **value, "id": name}, where)
    return node_of({**known, "id": name}, where, _text(result))


def _called(client: Client, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    result: Mapping[str, Any] = client.call("tools/call", {"name": name, "arguments": arguments})
    if result.get("isError"):
        reason = one_line(_text(result)) or "no reason given"
        raise ServerError(f"{client.where}: {name} failed: {reason}", "The server's log may say more.")
    return result


def _text(result: Mapping[str, Any]) -> str:
    """Return the text of a tool's result."""
    return "\n".join(part["text"] for part in _tables(result.get("content")) if isinstance(part.get("text"), str))


def _schema(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    schema = tool.get("inputSchema")
    return schema if isinstance(schema, dict) else {}


def _words(value: Any) -> list[str]:
    """Return the items of a list or the keys of a table; nothing for other values."""
    return [str(item) for item in value] if isinstance(value, list | dict) else []


def _tables(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
