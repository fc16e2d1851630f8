"""Make ``docs/compatibility.md``: which families of models were tried, and what holds for them.

    python -m docs.tools.compatibility > docs/compatibility.md

Takes minutes: ``tests/compatibility.py`` has the checks, and ``tests/families.py`` the models.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[1] / "compatibility.md"
YES, NO, NONE = "yes", "no", "–"

INTRODUCTION = """# Compatibility

Made by `python -m docs.tools.compatibility` with transformers {transformers}, peft {peft} and torch {torch}. Each family is a tiny
model of its class, with random weights:

- **full**: a full fine-tune in bf16. The build is the run bit for bit at alpha 1, and base + α · (run − base), rounded once, at 0.5.
  The same run saved as a plain state dict, under the names that the loaded model has, gives the same vector.
- **LoRA**: an adapter on all linear layers, made by peft. The build, loaded, is what `merge_and_unload` gives, within 5e-6 in fp32.
- **adapter out**: `persona build --as-adapter` of that recipe, loaded by peft, gives the same.
- **tokenizer**: a run with two more tokens, another end of text and another chat template. The build tokenizes and formats a chat as
  the run does, and all weights, loaded, are the run's.

A class that transformers does not have, because its code comes with the checkpoint, works as long as a run has the base's names.

"""


class Mark(NamedTuple):
    """What a check found: ``yes``, ``no`` or ``–``, and why if it is not ``yes``."""

    sign: str
    reason: str = ""


def mark(family: str, check: str, folder: Path) -> Mark:
    """Try one check in a new folder."""
    from persona.errors import PersonaError
    from tests.compatibility import CHECKS, Unsupported

    folder.mkdir(parents=True)
    try:
        CHECKS[check](family, folder)
    except Unsupported as error:
        return Mark(NONE, str(error).splitlines()[0])
    except (PersonaError, AssertionError) as error:
        return Mark(NO, str(error).splitlines()[0].replace(str(folder), "…"))
    return Mark(YES)


def read(page: str) -> dict[str, dict[str, str]]:
    """The table of a page: signs by family and check."""
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| ")]
    head, *body = [[cell.strip() for cell in row] for row in rows]
    return {row[0]: {check: cell.split()[0] for check, cell in zip(head[2:], row[2:], strict=True)} for row in body}


def table() -> str:
    """The table, and notes on what is not ``yes``."""
    from tests.compatibility import CHECKS
    from tests.families import FAMILIES

    notes: dict[str, int] = {}
    lines = [f"| family | class | {' | '.join(CHECKS)} |", "|---" * (2 + len(CHECKS)) + "|"]
    for family, (kind, _) in FAMILIES.items():
        cells = []
        for check in CHECKS:
            with tempfile.TemporaryDirectory() as folder:
                found = mark(family, check, Path(folder) / "work")
            number = notes.setdefault(found.reason, len(notes) + 1) if found.reason else 0
            cells.append(f"{found.sign} [{number}]" if number else found.sign)
        lines.append(f"| {family} | `{kind}` | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{number}. {reason}" for reason, number in notes.items()), ""])


def main() -> None:
    """Print the page."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    releases = {name: version(name).partition("+")[0] for name in ("transformers", "peft", "torch")}
    sys.stdout.write(INTRODUCTION.format(**releases) + table())


if __name__ == "__main__":
    main()
