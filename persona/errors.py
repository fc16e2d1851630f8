"""Everything that persona raises on purpose.

    PersonaError                 .message  .hint  .exit_code
    ├── UsageError          2    a wrong argument, name or value
    │   ├── RecipeError     2    persona.toml does not say what it must
    │   └── ExpressionError 2    an expression is no sum of vectors
    ├── CheckpointError     2    a folder or file handed to us is not what it claims to be
    ├── WrongBase           2    a run belongs to another base
    ├── Refusal             1    the answer is no: nothing was done, on purpose
    │   └── NotVerified     1    a built folder is not what its receipt says
    ├── NoRepository       10
    ├── Locked             11    another writer holds the lock
    ├── Damaged            12    stored bytes do not hash to the id that was asked for
    ├── ServerError        69    a server cannot be reached, or gives no usable answer
    └── Storage            74    the operating system refused: disk full, permission denied

An error is two sentences: ``message`` says what is wrong and names the file, key, vector or tensor; ``hint``
says what to do next. Foreign errors (``OSError``, a parser's) are translated where they arise.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PersonaError(Exception):
    """An error with a message for a person and a hint about what to do."""

    exit_code = 70
    excerpt = ""
    """What was typed, and a line that points at the place; "" where there is no such place."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(PersonaError):
    """A wrong argument, name or value."""

    exit_code = 2


class RecipeError(UsageError):
    """``persona.toml`` does not say what it must."""


class ExpressionError(UsageError):
    """An expression is no sum of vectors; ``at`` is the place in its text."""

    def __init__(self, message: str, hint: str = "", text: str = "", at: int = 0) -> None:
        super().__init__(f"column {at + 1}: {message}" if text else message, hint)
        self.at = at
        self.excerpt = f"{text}\n{' ' * at}^" if text.isprintable() and text else ""


class CheckpointError(PersonaError):
    """A folder or file handed to us is not what it claims to be."""

    exit_code = 2


class WrongBase(PersonaError):
    """A run belongs to another base than the recipe's."""

    exit_code = 2


class Refusal(PersonaError):
    """The answer is no; nothing was changed."""

    exit_code = 1


class NotVerified(Refusal):
    """A built folder is not what its receipt says."""


class NoRepository(PersonaError):
    """There is no ``.persona`` here or above."""

    exit_code = 10


class Locked(PersonaError):
    """Another writer holds the repository's lock."""

    exit_code = 11


class Damaged(PersonaError):
    """Stored bytes are missing, or do not hash to the id that was asked for."""

    exit_code = 12


class ServerError(PersonaError):
    """A server cannot be reached, or does not give a usable answer.

    ``status`` is what HTTP said, 0 where nothing was heard; ``code`` is JSON-RPC's, where there is one.
    """

    exit_code = 69

    def __init__(self, message: str, hint: str = "", status: int = 200, code: int | None = None) -> None:
        super().__init__(message, hint)
        self.status = status
        self.code = code


class Storage(PersonaError):
    """The operating system refused a file operation."""

    exit_code = 74


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the closest of ``known``, or lists a few of them."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f"Did you mean '{close[0]}'?"
    if not names:
        return ""
    shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    return f"Known: {shown}."
