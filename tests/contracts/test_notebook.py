"""Results are short in a session, and tables in a notebook."""

from __future__ import annotations

import re
from dataclasses import dataclass

import persona
from persona.notebook import Shown
from tests.models import TinyModels


@dataclass(frozen=True, repr=False)
class Row(Shown):
    name: str
    value: float
    note: str | None = None


@dataclass(frozen=True, repr=False)
class Whole(Shown):
    id: str
    rows: tuple[Row, ...]
    words: tuple[str, ...] = ()


def test_what_is_long_is_cut_and_what_is_empty_left_out() -> None:
    whole = Whole("a" * 64, (Row("x" * 100, 0.123456789), Row("<b>\x1b", 1.0, "n")))
    assert repr(whole) == f"Whole(id={'a' * 12}, rows=<2>)"
    assert repr(whole.rows[0]) == f"Row(name='{'x' * 60}…', value=0.123457)"
    assert "\x1b" not in repr(whole.rows[1])
    html = whole._repr_html_()
    assert re.findall(r"<th>(\w+)</th>", html) == ["id", "rows", "name", "value", "note"]
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    assert html.count("<td></td>") == 1  # the first row has no note
    assert html.count("<table>") == html.count("</table>") == 2


def test_results_of_verbs(repo: persona.Repository, models: TinyModels) -> None:
    done = persona.commit(repo, models.run(1), name="a", alpha=0.5)
    diff = persona.diff(repo, "HEAD~1", "HEAD")
    entry = persona.log(repo)[0]
    for shown in (done, diff, entry, persona.status(repo), persona.show(repo, "a")):
        assert len(repr(shown)) < 600, shown
        assert shown._repr_html_().startswith("<table>")
    assert "<td>added</td><td>a</td>" in diff._repr_html_()
    assert f"commit={entry.commit.short}" in repr(entry)
