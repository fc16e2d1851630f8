"""Render the demo's story as one self-contained HTML page, with SVG charts and without scripts.

Each table has the command that reproduces its numbers; each number has its full value in `data-value`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from persona.demo import charts
from persona.demo.telling import DOTS, LINES, MATRIX, DemoResult, TableCell, is_difference

TEMPLATE = Path(__file__).with_name("page.html")


def page_of(result: DemoResult) -> str:
    """Render the page."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text())
    return template.render(result=result, **_helpers())


def _helpers() -> dict[str, Any]:
    functions: tuple[Callable[..., Any], ...] = (charts.panels, charts.curve, charts.shade, is_difference, number)
    sizes = {"WIDTH": charts.WIDTH, "LINE": charts.LINE, "TOP": charts.TOP, "TALL": charts.TALL}
    named = {function.__name__: function for function in functions}
    return named | sizes | {"DOTS": DOTS, "LINES": LINES, "MATRIX": MATRIX}


def number(cell: TableCell, sign: bool = False) -> str:
    """Format a number: counts without decimals, other numbers with three."""
    if not math.isfinite(cell.value):
        return str(cell.value)
    if cell.low is None and cell.value == int(cell.value) and abs(cell.value) > 1:
        return f"{int(cell.value):,}"
    return f"{cell.value:{'+' if sign else ''}.3f}".replace("-", "−")
