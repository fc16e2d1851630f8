"""Read and write YAML as plain data, within bounds. The only module that imports the library.

PyYAML's safe loader makes plain values only. This one also refuses aliases, by which a small text can expand to a huge
value; keys that are given twice, of which the first would be lost; and strings that are not UTF-8 or contain NUL.
Numbers follow YAML 1.1, where ``1e-5`` is a string: code that expects a number must accept that, too.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

LARGEST = 1 << 20
"""Maximum length of a text, in characters."""


class _Reader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """Refuses aliases, duplicate keys and strings that cannot be written to a file."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.YAMLError(f"line {event.start_mark.line + 1}: aliases (*{event.anchor}) are not supported")
        return super().compose_node(parent, index)

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: not UTF-8 text: {value!r:.60}")
        return value

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: {key!r} is given twice")
            seen.add(key if isinstance(key, Hashable) else None)
        return dict(super().construct_mapping(node, deep))


def load(text: str) -> Any:
    """Parse YAML.

    Raises:
        ValueError: `text` is not YAML, or is out of bounds. The message has the line, where there is one.
    """
    if len(text) > LARGEST:
        raise ValueError(f"longer than {LARGEST} characters")
    try:
        return yaml.load(text, _Reader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ValueError(f"line {mark.line + 1}: {error.problem}" if mark else str(error.problem)) from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except (RecursionError, OverflowError, TypeError, AttributeError, LookupError) as error:
        raise ValueError(f"cannot be read: {error}") from None


class _Writer(yaml.SafeDumper):  # type: ignore[misc]
    """Writes lists of scalars on one line."""


def _list(dumper: _Writer, value: list[Any]) -> Any:
    flow = all(isinstance(item, int | float | str) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=flow)


_Writer.add_representer(list, _list)


def dump(value: Any) -> str:
    """Write `value` as YAML, with keys in their order."""
    return str(yaml.dump(value, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=100))
