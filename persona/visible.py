"""Text from elsewhere, with what a reader would not see written out."""

from __future__ import annotations

import re

HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters except tab and line feed, and those that change the direction of what follows."""


def visible(text: str) -> str:
    """Write characters that a terminal would obey, or that reorder a line, as escapes: ESC becomes ``\\x1b``.

    Names, messages and facts may come from somebody else's repository or run.
    """
    return HIDDEN.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
