"""Templates: everything is escaped, and what a reader would not see is written out."""

from __future__ import annotations

import math
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.ids import SHORT
from persona.recipe.alphas import alpha_text
from persona.visible import visible

if TYPE_CHECKING:
    from persona.evaluate.results import FigureChange

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
SHADES = 5
"""Steps of a heat map in either direction."""


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    def shown(value: Any) -> Any:
        return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value

    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "alpha": alpha_text, "change": change, "exact": exact, "interval": interval, "number": number, "shade": shade, "short": short, "when": when,
    }  # fmt: skip
    return environment


def page(name: str, **values: Any) -> str:
    """Render ``templates/NAME.html``."""
    return str(_environment().get_template(f"{name}.html").render(name=name, **values))


def short(text: str) -> str:
    """An id as people type it."""
    return text[:SHORT]


def when(time: str) -> str:
    """A time to the minute, in the zone that it was written in."""
    try:
        return datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return time


def exact(value: float) -> str:
    """A number with all its digits, as people type it."""
    return repr(int(value)) if abs(value) < 1e15 and value == int(value) else repr(value)


def number(value: float | None) -> str:
    """A number with four digits; a dash if there is none."""
    if value is None:
        return "–"
    return f"{value:.4g}".replace("-", "−") if math.isfinite(value) else str(value)


def change(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A difference with its sign, and its interval."""
    if value is None:
        return "–"
    text = f"{value:+.3g}" + (f" [{low:+.3g}, {high:+.3g}]" if low is not None and high is not None else "")
    return text.replace("-", "−")


def interval(one: FigureChange) -> str:
    """The interval of a difference; empty if it has none."""
    return "" if one.low is None or one.high is None else f"[{one.low:+.3g}, {one.high:+.3g}]".replace("-", "−")


def shade(value: float | None, most: float = 1.0) -> str:
    """The class of a cell of a heat map: from ``cold-5`` for −``most`` by ``even`` for 0 to ``warm-5``."""
    if value is None or not math.isfinite(value) or most <= 0:
        return "even"
    step = min(SHADES, math.ceil(abs(value) / most * SHADES - 0.5))
    return "even" if step <= 0 else f"{'warm' if value > 0 else 'cold'}-{step}"
