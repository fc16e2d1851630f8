"""YAML, read as plain data and within bounds: the only module that knows the library.

PyYAML's safe loader makes plain values only. What it leaves open is closed here: an alias can make a small text mean
a huge value, a key that is given twice loses the first, and both are refused. Numbers are read as YAML 1.1 has them,
so ``1e-5`` is a string: who expects a number has to take that, too.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

LARGEST = 1 << 20
"""Characters of a text that is read."""


class _Reader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """Refuses aliases and keys that are given twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.YAMLError(f"line {event.start_mark.line + 1}: an alias (*{event.anchor}) is not read here")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: {key!r} is given twice")
            seen.add(key if isinstance(key, Hashable) else None)
        return dict(super().construct_mapping(node, deep))


def load(text: str) -> Any:
    """The value of a YAML text; ValueError, with a line where there is one, if it is none or is out of bounds."""
    if len(text) > LARGEST:
        raise ValueError(f"it has more than {LARGEST} characters")
    try:
        return yaml.load(text, _Reader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ValueError(f"line {mark.line + 1}: {error.problem}" if mark else str(error.problem)) from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except (RecursionError, OverflowError, TypeError, AttributeError, LookupError) as error:
        raise ValueError(f"it cannot be read: {error}") from None


class _Writer(yaml.SafeDumper):  # type: ignore[misc]
    """Lists of scalars on one line."""


def _list(dumper: _Writer, value: list[Any]) -> Any:
    flow = all(isinstance(one, int | float | str) for one in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=flow)


_Writer.add_representer(list, _list)


def dump(value: Any) -> str:
    """``value`` as YAML, keys in their order."""
    return str(yaml.dump(value, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=100))
