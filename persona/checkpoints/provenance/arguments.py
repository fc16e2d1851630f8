"""``training_args.bin``: the hyperparameters of a Trainer, read from the pickle without running it.

The file is a ``TrainingArguments`` saved by ``torch.save``: a zip with one pickle, ``data.pkl``. ``pickletools`` decodes
the pickle's instructions; :class:`_Machine` executes those that move plain values, and pushes a placeholder for
everything that would be imported, called or built. So no code runs, and the result contains only numbers and strings
from the file. Only the keys below are kept, since arguments may also contain tokens and addresses.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from persona.checkpoints.provenance.reading import Unreadable, chosen

FILE = "training_args.bin"

LARGEST = 4 << 20
"""Maximum size of the pickle in bytes."""
STEPS = 200_000
"""Maximum number of instructions."""

_KEYS = (
    "learning_rate", "lr_scheduler_type", "warmup_steps", "warmup_ratio", "num_train_epochs", "max_steps",
    "per_device_train_batch_size", "gradient_accumulation_steps", "optim", "weight_decay", "max_grad_norm",
    "adam_beta1", "adam_beta2", "adam_epsilon", "label_smoothing_factor", "neftune_noise_alpha", "seed", "data_seed",
    "bf16", "fp16", "gradient_checkpointing", "metric_for_best_model", "greater_is_better", "load_best_model_at_end",
    "max_length", "packing", "completion_only_loss", "assistant_only_loss", "loss_type", "beta", "max_prompt_length",
    "max_completion_length", "num_generations", "temperature",
)  # fmt: skip
_NAMED = ("transformers.", "trl.", "peft.")
"""Modules whose enumerations are kept; an enumeration's only argument is its value."""


def read(data: bytes) -> dict[str, Any]:
    """The facts in the file."""
    saved = _Machine().run(_pickle(data))
    facts = {}
    if isinstance(saved, _Placeholder) and isinstance(saved.state, dict):
        values = {key: value.word if isinstance(value, _Placeholder) else value for key, value in saved.state.items()}
        facts = facts_of(saved.name.rpartition(".")[2], values)
    if not facts:
        raise Unreadable("contains no arguments of a Trainer")
    return {"arguments": facts}


def facts_of(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    """The arguments to keep, with the name of their class ``kind``; empty if there are none to keep."""
    facts = {key: value for key, value in chosen(values, _KEYS).items() if value is not False}
    return {"class": kind[:80]} | facts if facts else {}


def _pickle(data: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            inside = [info for info in archive.infolist() if info.filename.endswith("/data.pkl")]
            if len(inside) != 1 or inside[0].file_size > LARGEST:
                raise Unreadable("is not a file that torch.save wrote")
            with archive.open(inside[0]) as file:
                return file.read(LARGEST + 1)
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError, ValueError, EOFError):
        raise Unreadable("is not a file that torch.save wrote") from None


@dataclass
class _Placeholder:
    """Stands for something that the pickle would import, call or build, with its name and arguments."""

    name: str = ""
    arguments: Any = None
    state: Any = None

    @property
    def word(self) -> Any:
        """The value of an enumeration, which is its only argument; None for anything else."""
        arguments = self.arguments
        single = isinstance(arguments, tuple) and len(arguments) == 1 and self.name.startswith(_NAMED)
        return arguments[0] if single and isinstance(arguments[0], str) else None


_MARK = object()
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_DICT": dict,
    "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": _Placeholder,
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

    def run(self, data: bytes) -> Any:
        """The pickled value, with placeholders; Unreadable if the pickle contains an unknown instruction."""
        try:
            for number, (opcode, value, _) in enumerate(pickletools.genops(data)):
                if number > STEPS:
                    raise Unreadable("is too long to be a Trainer's arguments")
                if opcode.name == "STOP":
                    return self.stack.pop()
                self._step(opcode.name, value)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
            pass
        raise Unreadable("contains an unsupported pickle")

    def _step(self, name: str, value: Any) -> None:
        if name in _VALUES:
            self.stack.append(value)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _OTHER:
            self.stack.append(_Placeholder())
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
        """Add items with string keys to the dict on top of the stack."""
        flat = list(pairs)
        if isinstance(self.stack[-1], dict):
            pairs = zip(flat[::2], flat[1::2], strict=True)
            self.stack[-1].update((key, value) for key, value in pairs if isinstance(key, str))

    def extend(self, values: list[Any]) -> None:
        """Extend the list on top of the stack."""
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)

    def name(self, module: Any, name: Any) -> None:
        """Push a placeholder for an import."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError
        self.stack.append(_Placeholder(f"{module}.{name}"))

    def call(self) -> None:
        """Replace a callable and its arguments by a placeholder for the result."""
        callable_, arguments = self._take(2)
        self.stack.append(_Placeholder(callable_.name, arguments))

    def build(self) -> None:
        """Attach an object's state to its placeholder."""
        instance, state = self._take(2)
        if isinstance(instance, _Placeholder):
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
    "BINPERSID": lambda m, _: m.stack.append(_Placeholder(arguments=m._take(1))),
}
