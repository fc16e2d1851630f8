"""Decoding pickles without running them.

``pickletools`` decodes a pickle's instructions. Those that move plain values are executed, and everything that would be
imported, called or built becomes a placeholder. So no code runs, whatever the pickle contains.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Placeholder", "load"]


def load(data: bytes, steps: int) -> Any:
    """The value of a pickle, with placeholders.

    Args:
        steps: Maximum number of instructions.

    Raises:
        ValueError: the pickle is longer, damaged, or contains an unknown instruction.
    """
    return _Machine().run(data, steps)


@dataclass(eq=False)
class Placeholder:
    """Stands for something that the pickle would import, call or build, with its name and arguments."""

    name: str = ""
    arguments: Any = None
    state: Any = None


_MARK = object()
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_DICT": dict,
    "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": Placeholder,
}  # fmt: skip
_VALUES = frozenset(
    {
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
        "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    }
)  # fmt: skip
_OTHER = frozenset({"STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"})
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass
class _Machine:
    """The part of a pickle machine that moves values around."""

    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self, data: bytes, steps: int) -> Any:
        """The pickled value."""
        try:
            for number, (opcode, value, _) in enumerate(pickletools.genops(data)):
                if number > steps:
                    break
                if opcode.name == "STOP":
                    return self.stack.pop()
                self._step(opcode.name, value)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
            pass
        raise ValueError("an unsupported pickle")

    def _step(self, name: str, value: Any) -> None:
        if name in _VALUES:
            self.stack.append(value)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _OTHER:
            self.stack.append(Placeholder())
        elif name in _SHORT_TUPLES:
            self.stack.append(tuple(self._take(_SHORT_TUPLES[name])))
        elif name not in ("PROTO", "FRAME"):
            _STEPS[name](self, value)

    def _take(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def _since_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:  # raises IndexError without a mark
            at -= 1
        taken = self.stack[at + 1 :]
        del self.stack[at:]
        return taken

    def put(self, value: Any) -> None:
        """Store the top of the stack in the memo."""
        self.memo[len(self.memo) if value is None else value] = self.stack[-1]

    def get(self, value: Any) -> None:
        """Push a value from the memo."""
        self.stack.append(self.memo[value])

    def fill(self, pairs: Iterable[Any]) -> None:
        """Add items to the dict on top of the stack, if their keys are strings or placeholders."""
        flat = list(pairs)
        if isinstance(self.stack[-1], dict):
            pairs = zip(flat[::2], flat[1::2], strict=True)
            self.stack[-1].update((key, value) for key, value in pairs if isinstance(key, (str, Placeholder)))

    def extend(self, values: list[Any]) -> None:
        """Extend the list on top of the stack."""
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)

    def name(self, module: Any, name: Any) -> None:
        """Push a placeholder for an import."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError
        self.stack.append(Placeholder(f"{module}.{name}"))

    def call(self) -> None:
        """Replace a callable and its arguments by a placeholder for the result."""
        callable_, arguments = self._take(2)
        self.stack.append(Placeholder(callable_.name, arguments))

    def build(self) -> None:
        """Attach an object's state to its placeholder."""
        instance, state = self._take(2)
        if isinstance(instance, Placeholder):
            instance.state = state
        self.stack.append(instance)


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": lambda m, _: m.stack.append(_MARK),
    "POP": lambda m, _: m._take(1).clear(),
    "POP_MARK": lambda m, _: m._since_mark().clear(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "TUPLE": lambda m, _: m.stack.append(tuple(m._since_mark())),
    "LIST": lambda m, _: m.stack.append(m._since_mark()),
    "SETITEM": lambda m, _: m.fill(m._take(2)),
    "SETITEMS": lambda m, _: m.fill(m._since_mark()),
    "APPEND": lambda m, _: m.extend(m._take(1)),
    "APPENDS": lambda m, _: m.extend(m._since_mark()),
    "ADDITEMS": lambda m, _: m._since_mark().clear(),
    "PUT": lambda m, value: m.put(value),
    "BINPUT": lambda m, value: m.put(value),
    "LONG_BINPUT": lambda m, value: m.put(value),
    "MEMOIZE": lambda m, _: m.put(None),
    "GET": lambda m, value: m.get(value),
    "BINGET": lambda m, value: m.get(value),
    "LONG_BINGET": lambda m, value: m.get(value),
    "GLOBAL": lambda m, value: m.name(*str(value).split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.name(*m._take(2)),
    "REDUCE": lambda m, _: m.call(),
    "NEWOBJ": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.stack.append(Placeholder(arguments=m._take(1))),
}
