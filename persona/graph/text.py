"""Parse a node's file: front matter, specification, links, and the scores in the last lines.

The *specification* is the text without front matter and trailing tags (``warmth:9 clarity:10``), with normalized line
endings and without blanks at the ends of lines and of the text. Control characters other than tabs become U+FFFD, so
that a text from elsewhere cannot control the terminal that shows it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from persona.store.graphs import Tags

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_TAG = r"[^\W\d][\w'-]{0,63}:-?\d{1,6}(?:\.\d{1,6})?"
_TAG_LINE = re.compile(rf"\s*{_TAG}(?:\s+{_TAG})*\s*")
_WIKI = re.compile(r"\[\[([^\[\]|#\n]{1,200})(?:#[^\[\]|\n]{0,200})?(?:\|[^\[\]\n]{0,200})?\]\]")
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(\S.*)")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_KEY = re.compile(r"([A-Za-z][\w-]*)\s*:\s*(.*)")
_ITEM = re.compile(r"\s*-\s+(.*)")


@dataclass(frozen=True)
class Parsed:
    """The parts of a node's text; ``name`` is the one in its front matter."""

    text: str
    tags: Tags = field(default_factory=dict)
    links: tuple[str, ...] = ()
    name: str | None = None


def parse(text: str) -> Parsed:
    """Parse a text. Of the front matter, ``id`` or ``name``, ``tags``, ``links`` and ``related`` are read."""
    front, body = _front_matter(normalised(text))
    body, scores = _without_tags(body)
    named = [*front.get("links", ()), *front.get("related", ())]
    names = front.get("id") or front.get("name")
    tags = tags_of(front.get("tags", ())) | scores
    return Parsed(body, tags, links_of(named, body), names[0] if names else None)


def normalised(text: str) -> str:
    """Normalize line endings, strip blanks at the ends of lines and of the text, and replace control characters."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    lines = [_UNSEEN.sub("\ufffd", line.rstrip()) for line in text.split("\n")]
    return "\n".join(lines).strip("\n")


def tags_of(words: object) -> dict[str, float | None]:
    """Read tags from a table of scores, a list of names or of ``name:score``, or a text with those."""
    if isinstance(words, dict):
        return {one_line(str(name)): _score(value) for name, value in words.items()}
    if isinstance(words, str):
        words = re.split(r"[,\s]+", words.strip())
    if not isinstance(words, list | tuple):
        return {}
    pairs = [str(word).strip().lstrip("#").partition(":") for word in words]
    return {one_line(name): _score(value) for name, _, value in pairs if name.strip()}


def one_line(text: str, most: int = 200) -> str:
    """Return the first ``most`` characters of a text, in one line that is safe to print."""
    return " ".join(normalised(text[: 4 * most]).split())[:most]


def _score(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]  # other types are caught below
    except (TypeError, ValueError, OverflowError):
        return None
    if not abs(number) < 1e9:  # also false for NaN
        return None
    return int(number) if number == int(number) else number


def links_of(named: object, text: str = "") -> tuple[str, ...]:
    """Return the names that a node links to: those listed by its source, then the ``[[wiki links]]`` of its text."""
    listed = [named] if isinstance(named, str) else named if isinstance(named, list | tuple) else []
    wanted = [re.sub(r"^\[\[|\]\]$", "", str(name).strip()).partition("|")[0].partition("#")[0] for name in listed]
    wanted += [match[1] for match in _WIKI.finditer(text)]
    return tuple(dict.fromkeys(one_line(name) for name in wanted if name.strip()))


def _front_matter(text: str) -> tuple[dict[str, list[str]], str]:
    """Split off the front matter, between two lines of ``---``, as lists of words by key.

    Supports the part of YAML that notes use: ``key: value``, ``key: [a, b]``, and items below a key.
    """
    lines = text.split("\n")
    if lines[0] != "---" or "---" not in lines[1:]:
        return {}, text
    end = lines.index("---", 1)
    fields: dict[str, list[str]] = {}
    key = ""
    for line in lines[1:end]:
        if match := _KEY.fullmatch(line):
            key = match[1].lower()
            fields[key] = _words(match[2])
        elif (match := _ITEM.fullmatch(line)) and key:
            fields[key] += [_unquoted(match[1])]
    return fields, "\n".join(lines[end + 1 :]).strip("\n")


def _words(value: str) -> list[str]:
    if value.startswith("[") and value.endswith("]") and not value.startswith("[["):
        return [_unquoted(word) for word in value[1:-1].split(",") if word.strip()]
    return [_unquoted(value)] if value else []


def _unquoted(word: str) -> str:
    word = word.strip()
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'" else word


def _without_tags(text: str) -> tuple[str, dict[str, float | None]]:
    """Split off the tags, the last lines of ``name:score``."""
    lines = text.split("\n")
    end = len(lines)
    while end and (not lines[end - 1] or _TAG_LINE.fullmatch(lines[end - 1])):
        end -= 1
    tags = tags_of(" ".join(lines[end:])) if any(lines[end:]) else {}
    return "\n".join(lines[:end]), tags


def section(text: str, name: str) -> str | None:
    """Return a Markdown heading and the text below it, up to the next heading of its level; None if it does not exist."""
    lines = text.split("\n")
    wanted = slug(name)
    headings = list(_headings(lines))
    for at, (number, rank, title) in enumerate(headings):
        if slug(title) == wanted:
            stop = next((n for n, other, _ in headings[at + 1 :] if other <= rank), len(lines))
            return "\n".join(lines[number:stop]).strip("\n")
    return None


def sections(text: str) -> list[str]:
    """Return the slugs of a text's headings."""
    return [slug(title) for _, _, title in _headings(text.split("\n"))]


def slug(title: str) -> str:
    """Return a heading as links write it: lower case, hyphens for blanks, no punctuation."""
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip())


def _headings(lines: list[str]) -> list[tuple[int, int, str]]:
    """Return the line, level and title of each heading outside code blocks."""
    headings, fence = [], ""
    for number, line in enumerate(lines):
        if match := _FENCE.match(line):
            if not fence:
                fence = match[1]
            elif match[1].startswith(fence) and line.strip() == match[1]:
                fence = ""
        elif not fence and (match := _HEADING.fullmatch(line)):
            headings.append((number, len(match[1]), match[2].rstrip().rstrip("#").rstrip()))
    return headings
