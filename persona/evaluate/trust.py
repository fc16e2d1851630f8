"""The code that a suite runs, and whether its user allows that.

A suite may name a Python function beside it. It is code with the rights of the user who measures, and a suite may come with
somebody else's repository. So nothing of it is imported before ``allow_code`` of the options says yes to exactly this
code: the names of its functions, and all Python files in the suite's folder and below it, since any of them may be
imported. Entry points are not asked about: the user installed them for this.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import TYPE_CHECKING

from persona import files
from persona.errors import UsageError
from persona.ids import blob_id, object_digest
from persona.store.objects import canonical

if TYPE_CHECKING:
    from persona.evaluate.suite import Suite

MOST_FILES = 2_000
"""Most Python files below a suite's folder."""


@dataclass(frozen=True)
class SuiteCode:
    """What a suite can run: its functions, the Python files beside it, and a digest of both."""

    suite: Path
    functions: tuple[str, ...]
    files: tuple[Path, ...]
    digest: str


Allow = bool | Callable[[SuiteCode], bool]
"""Whether to run the code of suites: always, never, or as a function decides."""


def code_of(suite: Suite) -> SuiteCode | None:
    """The code that a suite can run; None if it names none but an entry point.

    Raises:
        UsageError: there are too many Python files beside the suite.
    """
    named = {str(measure.settings["function"]) for measure in suite.measures if measure.settings.get("function")}
    functions = tuple(sorted(name for name in named if ":" in name))
    if not functions:
        return None
    folder = suite.path.parent
    found = tuple(_modules(folder))
    with files.translated(folder):
        blobs = {path.relative_to(folder).as_posix(): blob_id(files.read_bytes(path)) for path in found}
    digest = object_digest(b"persona code\n" + canonical({"functions": list(functions), "files": blobs}))
    return SuiteCode(suite.path, functions, found, digest)


def check_allowed(suite: Suite, allow: Allow) -> None:
    """Check that a suite may be run.

    Raises:
        UsageError: it runs code that ``allow`` does not allow.
    """
    code = None if allow is True else code_of(suite)
    if code is None or (callable(allow) and allow(code)):
        return
    listed = ", ".join(str(path) for path in code.files[:3]) + (", …" if len(code.files) > 3 else "")
    raise UsageError(
        f"{suite.path} runs Python code that you have not allowed: {', '.join(code.functions)}",
        f"Read {listed or 'where it comes from'}. If you trust it, add --allow-code (in Python: allow_code=True).",
    )


def _modules(folder: Path) -> Iterator[Path]:
    """Every file that Python could import from a folder, sorted; folders are packages, so their names are identifiers."""
    endings, count = tuple(all_suffixes()), 0
    for place, below, names in os.walk(folder, followlinks=True):
        below[:] = sorted(name for name in below if name.isidentifier() and name != "__pycache__")
        for name in sorted(names):
            if name.endswith(endings):
                count += 1
                if count > MOST_FILES:
                    raise UsageError(
                        f"there are more than {MOST_FILES:,} Python files below {folder}, which the suite could run",
                        "Move the suite, its data and its code to a folder of their own.",
                    )
                yield Path(place, name)
