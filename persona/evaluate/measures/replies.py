"""replies: share of the model's replies to held-out prompts that meet a rule.

    share = number of replies that meet the rule / number of replies

A reply is what the model says to a prompt, decoded greedily, up to ``tokens`` new tokens. It meets the rule if it has a match of ``matches``
and none of ``rejects`` (regular expressions, found anywhere in it; ``(?i)`` ignores case), and at most ``max_words`` words. What is not set
is not asked. A row of the data may have its own ``matches``, ``rejects`` and ``max_words``, which replace those of the measure.

    function = "judge:score"       instead of a rule: a function beside the suite or installed

A function is called as ``function(replies, rows, seed)``: the replies as strings, and the lines of the data as dicts. It returns for each
reply True or False, or a number from 0 to 1. It is code that runs with your rights, like that of the kind ``python``.

Higher is better, unless ``better`` says otherwise: a habit that was removed is ``better = "lower"``. The interval is over replies. The replies
themselves are kept with the results: ``persona eval --replies`` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persona.errors import UsageError
from persona.evaluate.measures import Look, Setting, Sums, Text
from persona.evaluate.measures.degeneration import generate
from persona.evaluate.measures.python import call, importing
from persona.inference.generating import end_tokens
from persona.inference.messages import ASSISTANT
from persona.methods.parts.parameters import Choice, Whole

if TYPE_CHECKING:
    from persona.evaluate.measures import SettingValue
    from persona.evaluate.rows import SuiteRow
    from persona.history.evaluations import Better
    from persona.settings import Table

SUMMARY = "Share of replies to held-out prompts that meet a rule."
VERSION = 1
PATIENCE = 1.0
"""Seconds that a pattern may take on one reply."""
LONGEST = 1000
"""Largest number of characters in a pattern."""
_RULES = ("matches", "rejects", "max_words")


@dataclass(frozen=True)
class Pattern:
    """A setting that is a regular expression."""

    summary: str
    default: str = ""

    @property
    def wanted(self) -> str:
        """What a valid value is, in words."""
        return f"a regular expression of at most {LONGEST} characters"

    def checked(self, value: Any) -> str:
        """Return ``value`` if it is valid; raise ValueError with what would be."""
        if not isinstance(value, str) or not value or len(value) > LONGEST:
            raise ValueError(self.wanted)
        return value


SETTINGS: Mapping[str, Setting] = {
    "matches": Pattern("A reply must have a match of this regular expression."),
    "rejects": Pattern("A reply must have no match of this regular expression."),
    "max_words": Whole(0, 1, 10_000, "A reply must have at most this number of words. Default: any number."),
    "function": Text("A function that judges the replies instead: module:function."),
    "tokens": Whole(64, 1, 1024, "Maximum number of new tokens per reply."),
    "better": Choice("higher", ("lower", "higher", "neither"), "Whether a lower or higher share is better."),
}


def check(rows: Sequence[SuiteRow], settings: Mapping[str, SettingValue], table: Table) -> None:
    """Raise if a row has no valid rule, or if the measure has a function and a rule."""
    given = {key: settings[key] for key in _RULES if settings[key]}
    for key, value in given.items():
        if settings["function"]:
            raise table.error("function", f"there is '{key}', too", "Let either a function or a rule judge replies.")
        if why := _fault(key, value):
            raise table.error(key, f"'{value}' is not {why}", SETTINGS[key].summary)
    for row in () if settings["function"] else rows:
        own = {key: row.fields[key] for key in _RULES if row.fields.get(key) is not None}
        if not given and not own:
            raise UsageError(
                f"{row.where} has no rule, and neither has its measure",
                "Set matches, rejects, max_words or function in the suite, or a rule in each row.",
            )
        for key, value in own.items():
            if why := _fault(key, value):
                raise UsageError(f"{row.where}: '{key}' is not {why}", SETTINGS[key].summary)


def _fault(key: str, value: Any) -> str:
    """What the value of a rule should be, or nothing if it is that."""
    import regex

    try:
        checked = SETTINGS[key].checked(value)
        if key != "max_words":
            regex.compile(str(checked))
    except regex.error as error:
        return f"a regular expression: {error}"
    except (ValueError, OverflowError, RecursionError):
        return SETTINGS[key].wanted
    return ""


def measure(look: Look, rows: Sequence[SuiteRow], settings: Mapping[str, SettingValue]) -> Sequence[Sums]:
    """The share, over replies."""
    replies = _said(look, rows, int(str(settings["tokens"])))
    scores = _judged(replies, rows, settings, look.seed) if settings["function"] else _met(replies, rows, settings)
    better: dict[str, Better | None] = {"lower": "lower", "higher": "higher", "neither": None}
    ones = [1.0] * len(rows)
    texts = tuple(zip(map(prompt_of, rows), replies, strict=True))
    return [Sums("share", better[str(settings["better"])], "share", scores, ones, texts)]


def prompt_of(row: SuiteRow) -> str:
    """What the model replies to, as one text: of messages the last one before the reply."""
    if row.messages:
        asked = row.messages[:-1] if row.messages[-1]["role"] == ASSISTANT else row.messages
        content = asked[-1].get("content") if asked else ""
        return content if isinstance(content, str) else ""
    return row.prompt if row.prompt is not None else row.text or ""


def _said(look: Look, rows: Sequence[SuiteRow], most: int) -> list[str]:
    tokenizer, ends = look.live.need_tokenizer(), end_tokens(look.live)
    replies = generate(look, rows, most, 0.0)
    plain = [reply[:-1] if reply and reply[-1] in ends else reply for reply in replies]
    return [tokenizer.decode(reply, skip_special_tokens=True).strip() for reply in plain]


def _met(replies: Sequence[str], rows: Sequence[SuiteRow], settings: Mapping[str, SettingValue]) -> list[float]:
    """1 for each reply that meets its rule, else 0."""
    found = []
    for reply, row in zip(replies, rows, strict=True):
        rule: dict[str, Any] = {
            key: row.fields[key] if row.fields.get(key) is not None else settings[key] for key in _RULES
        }
        met = not rule["max_words"] or len(reply.split()) <= rule["max_words"]
        met = met and (not rule["matches"] or _has(reply, rule["matches"], row))
        met = met and not (rule["rejects"] and _has(reply, rule["rejects"], row))
        found.append(float(met))
    return found


def _has(reply: str, pattern: str, row: SuiteRow) -> bool:
    import regex

    try:
        return regex.search(pattern, reply, timeout=PATIENCE) is not None
    except (TimeoutError, MemoryError):
        raise UsageError(
            f"the pattern {pattern!r} takes too long on the reply to {row.where}",
            "Write it without a repetition inside of a repetition, such as (a+)+.",
        ) from None


def _judged(
    replies: Sequence[str], rows: Sequence[SuiteRow], settings: Mapping[str, SettingValue], seed: int
) -> list[float]:
    """The numbers that the function returns."""
    name = str(settings["function"])
    with importing(name, settings):
        found = call(name, rows, list(replies), [dict(row.fields) for row in rows], seed)
    if len(found) > 1:
        raise UsageError(f"{name} returned {len(found)} lists", "It must return one list: a number for each reply.")
    (scores,) = found.values()
    if not all(0 <= score <= 1 for score in scores):
        raise UsageError(f"{name} returned a number that is not from 0 to 1", "Return True or False for each reply.")
    return scores
