"""The demo's story as one page of HTML that needs nothing else: pictures are drawn in it, and no script runs.

Beside each table stands the command that prints its numbers again; every number has its whole value in ``data-value``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from persona.demo import charts
from persona.demo.telling import DOTS, LINES, MATRIX, DemoResult, TableCell, is_difference

TEMPLATE = Path(__file__).with_name("page.html")


def page_of(told: DemoResult) -> str:
    """The whole page."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text())
    return template.render(told=told, **_helpers())


def _helpers() -> dict[str, Any]:
    functions: tuple[Callable[..., Any], ...] = (charts.panels, charts.curve, charts.shade, is_difference, number)
    sizes = {"WIDTH": charts.WIDTH, "LINE": charts.LINE, "TOP": charts.TOP, "TALL": charts.TALL}
    return {one.__name__: one for one in functions} | sizes | {"DOTS": DOTS, "LINES": LINES, "MATRIX": MATRIX}


def number(cell: TableCell, sign: bool = False) -> str:
    """A number as it is shown: whole where it counts something, else three places."""
    if not math.isfinite(cell.value):
        return str(cell.value)
    if cell.low is None and cell.value == int(cell.value) and abs(cell.value) > 1:
        return f"{int(cell.value):,}"
    return f"{cell.value:{'+' if sign else ''}.3f}".replace("-", "−")
