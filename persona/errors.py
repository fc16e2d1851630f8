"""The errors that persona raises on purpose.

    PersonaError                 .message  .hint  .exit_code
    ├── UsageError          2    an argument, name or value is wrong
    │   ├── RecipeError     2    persona.toml is invalid
    │   └── ExpressionError 2    an expression is not a sum of vectors
    ├── CheckpointError     2    a folder or file is not a usable checkpoint
    ├── WrongBase           2    a run was trained from another base
    ├── Refusal             1    the command declined to act; nothing was changed
    │   └── NotVerified     1    a built folder does not match its receipt
    ├── NoRepository       10    there is no .persona here or above
    ├── Locked             11    another process holds the lock
    ├── Damaged            12    stored bytes are missing or do not match their id
    ├── ServerError        69    a server cannot be reached, or its answer is unusable
    └── Storage            74    the operating system refused a file operation

Every error has two parts: ``message`` says what is wrong and names the file, key, vector or tensor; ``hint`` says
what to do about it. Errors of other libraries (``OSError``, a parser's) are translated where they are caught.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PersonaError(Exception):
    """An error with a message, and a hint about what to do."""

    exit_code = 70
    excerpt = ""
    """The text that was typed and a line with a caret below the mistake; empty if there is no such place."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(PersonaError):
    """An argument, name or value is wrong."""

    exit_code = 2


class RecipeError(UsageError):
    """``persona.toml`` is invalid."""


class ExpressionError(UsageError):
    """An expression is not a sum of vectors; ``at`` is the 0-based column of the mistake."""

    def __init__(self, message: str, hint: str = "", text: str = "", at: int = 0) -> None:
        super().__init__(f"column {at + 1}: {message}" if text else message, hint)
        self.at = at
        self.excerpt = f"{text}\n{' ' * at}^" if text.isprintable() and text else ""


class CheckpointError(PersonaError):
    """A folder or file is not a usable checkpoint."""

    exit_code = 2


class WrongBase(PersonaError):
    """A run was trained from another base than the recipe's."""

    exit_code = 2


class Refusal(PersonaError):
    """The command declined to act; nothing was changed."""

    exit_code = 1


class NotVerified(Refusal):
    """A built folder does not match its receipt."""


class NoRepository(PersonaError):
    """There is no ``.persona`` here or above."""

    exit_code = 10


class Locked(PersonaError):
    """Another process holds the repository's lock."""

    exit_code = 11


class Damaged(PersonaError):
    """Stored bytes are missing, or do not match their id."""

    exit_code = 12


class ServerError(PersonaError):
    """A server cannot be reached, or its answer is unusable.

    Attributes:
        status: HTTP status, or 0 if no answer arrived.
        code: JSON-RPC error code, if there is one.
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
    """Return a hint that names the closest match for ``word``, or else lists a few of the ``known`` names."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f"Did you mean '{close[0]}'?"
    if not names:
        return ""
    shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    return f"Known: {shown}."
