"""A memory graph's MCP server, over HTTP: its resources, or else what its tools give.

*Resources*, where the server has them: ``resources/list`` names the nodes and ``resources/read`` gives their texts.

*Tools* otherwise, or when they are named. One lists (``LISTING``), one reads (``READING``); the first of each that the
server has, or ``Options.tools``. The listing tool is called without arguments, but with ``query`` = ``all`` if it must
have a query. It gives names or objects, as JSON (a list, or a table with ``nodes``) or a name on each line. Objects with
a text need no reading. The reading tool is called with a name as ``key``, ``id`` or ``name``, whichever it knows.
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
"""What a reading tool may call the name of a node."""


def accepts(place: str) -> bool:
    """Whether it is a URL of HTTP."""
    return re.match(r"https?://", place) is not None


def read(place: str, options: SourceOptions) -> Iterator[SourceGraph]:
    """Every node of the server."""
    from persona.graph.mcp_client import Client, checked_url

    checked_url(place)
    client = Client(place, options.patience)
    client.open()
    with contextlib.closing(client):
        found = [] if options.tools else list(_resources(client))
        yield from found or _from_tools(client, options.tools)


def _resources(client: Client) -> Iterator[SourceGraph]:
    if "resources" not in client.capabilities:
        return
    for one in list(client.pages("resources/list", "resources")):
        uri = one.get("uri")
        if not isinstance(uri, str):
            raise ServerError(f"{client.where}: a resource has no URI", "It is the server's mistake.")
        name = one.get("name")
        last = unquote(urlsplit(uri).path.rpartition("/")[2] or urlsplit(uri).netloc)
        yield SourceGraph(name if isinstance(name, str) and name else last, _text_of(client, uri), one_line(uri))


def _text_of(client: Client, uri: str) -> str | None:
    """What a resource says; None if it is no text."""
    parts = _tables(client.call("resources/read", {"uri": uri}).get("contents"))
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    return "\n".join(texts) if texts else None


def _from_tools(client: Client, wanted: tuple[str, ...]) -> Iterator[SourceGraph]:
    offered = [one for one in client.pages("tools/list", "tools") if isinstance(one.get("name"), str)]
    tools = {one["name"]: one for one in offered if one["name"].isprintable()}
    listing = _tool(client.where, tools, wanted[:1] or LISTING, bool(wanted))
    reading = next((name for name in wanted[1:] or READING if name in tools), None)
    if len(wanted) > 1 and reading is None:
        _tool(client.where, tools, wanted[1:], True)
    for one in _listed(client, tools[listing]):
        fields = {"id": one} if isinstance(one, str) else one
        if any(isinstance(fields.get(key), str) for key in TEXTS):
            yield node_of(fields, f"{client.where} {listing}")
            continue
        name = next((fields[key] for key in NAMES if isinstance(fields.get(key), str)), "")
        if reading is None:
            raise _no_tool(client.where, tools, "reads a node", READING)
        yield _read_one(client, tools[reading], name, fields)


def _tool(url: str, tools: Mapping[str, Any], names: Iterable[str], named: bool) -> str:
    found = next((name for name in names if name in tools), None)
    if found is None and named:
        raise UsageError(f"{url} has no tool '{next(iter(names))}'", did_you_mean(next(iter(names)), tools))
    if found is None:
        raise _no_tool(url, tools, "lists nodes", LISTING)
    return found


def _no_tool(url: str, tools: Mapping[str, Any], what: str, known: tuple[str, ...]) -> UsageError:
    has = ", ".join(sorted(tools)[:8]) or "none"
    return UsageError(
        f"{url} has no resources, and no tool that {what}: its tools are {has}",
        f"Known names are {', '.join(known)}; give others with --tool LIST --tool READ.",
    )


def _listed(client: Client, tool: Mapping[str, Any]) -> list[Any]:
    """Names or objects, as the listing tool gives them."""
    arguments = {"query": "all"} if "query" in _words(_schema(tool).get("required")) else {}
    result = _called(client, str(tool["name"]), arguments)
    value = result.get("structuredContent")
    if value is None:
        text = _said(result)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = [line.strip() for line in text.splitlines() if line.strip()]
    if isinstance(value, dict):
        value = next((item for key, item in value.items() if key in ("nodes", "result", "items", "keys")), None)
    if not isinstance(value, list) or not all(isinstance(one, str | dict) for one in value):
        raise ServerError(f"{client.where}: {tool['name']} gave no list of nodes", "Name another tool: --tool NAME")
    return value


def _read_one(client: Client, tool: Mapping[str, Any], name: str, fields: Mapping[str, Any]) -> SourceGraph:
    key = next((one for one in KEYS if one in _words(_schema(tool).get("properties"))), KEYS[0])
    result = _called(client, str(tool["name"]), {key: name})
    where = f"{client.where} {one_line(name)}"
    known = {"tags": fields.get("tags", ()), "links": fields.get("links", ())}
    value: Any = result.get("structuredContent")
    if isinstance(value, dict) and any(isinstance(value.get(one), str) for one in TEXTS):
        return node_of({**known, **value, "id": name}, where)
    return node_of({**known, "id": name}, where, _said(result))


def _called(client: Client, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    result: Mapping[str, Any] = client.call("tools/call", {"name": name, "arguments": arguments})
    if result.get("isError"):
        said = one_line(_said(result))
        raise ServerError(f"{client.where}: {name} failed: {said or 'no reason given'}", "Its log may say more.")
    return result


def _said(result: Mapping[str, Any]) -> str:
    """The text of a tool's result."""
    return "\n".join(part["text"] for part in _tables(result.get("content")) if isinstance(part.get("text"), str))


def _schema(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    schema = tool.get("inputSchema")
    return schema if isinstance(schema, dict) else {}


def _words(value: Any) -> list[str]:
    """What a list or table names; nothing where a server gives neither."""
    return [str(one) for one in value] if isinstance(value, list | dict) else []


def _tables(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
