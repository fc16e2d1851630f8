"""Where numbers stand in a picture, worked out by hand; and what a page does with names that are not letters."""

from __future__ import annotations

import math
from dataclasses import replace

from persona.demo.charts import EDGE, LINE, TOP, WIDTH, curve, panels, shade
from persona.demo.page import number, page_of
from persona.demo.telling import DOTS, LINES, Answer, Chapter, DemoResult, DemoTable, Reply, TableCell, TableRow

INNER = WIDTH - 2 * EDGE


def differences(*rows: TableRow) -> DemoTable:
    return DemoTable("effect", "persona blame s", ("a", "b"), rows, picture=DOTS)


def test_differences_share_one_scale_and_zero_is_the_line() -> None:
    table = differences(
        TableRow("x", (TableCell(-1.0, -2.0, 0.0, None, "better"), TableCell(3.0, 1.0, 6.0, None, "worse"))),
        TableRow("y", (None, TableCell(0.0))),
    )
    first, second = panels(table)
    assert first.line == second.line == EDGE + INNER * 2 / 8
    assert [(dot.low, dot.x, dot.high) for dot in first.dots] == [(EDGE, EDGE + INNER / 8, EDGE + INNER * 2 / 8)]
    assert second.dots[0].high == WIDTH - EDGE
    assert [dot.y for dot in second.dots] == [TOP + LINE / 2, TOP + LINE * 3 / 2]


def test_values_have_a_scale_of_their_own_and_the_first_row_is_the_line() -> None:
    rows = (
        TableRow("base", (TableCell(1.0), TableCell(10.0))),
        TableRow("main", (TableCell(2.0, change=1.0, verdict="worse"), TableCell(10.0))),
    )
    first, second = panels(DemoTable("suite", "persona eval", ("a", "b"), rows, picture=DOTS))
    assert (first.line, [dot.x for dot in first.dots]) == (EDGE, [EDGE, WIDTH - EDGE])
    assert {second.line, *(dot.x for dot in second.dots)} == {WIDTH / 2}, "all the same: in the middle"


def test_what_is_no_number_is_left_out() -> None:
    (first, _) = panels(differences(TableRow("x", (TableCell(math.nan, None, None, None, "same"), TableCell(1.0)))))
    assert first.dots == ()


def test_a_curve_begins_at_its_first_step_and_stands_on_zero() -> None:
    table = DemoTable(
        "loss",
        "persona show v",
        ("loss",),
        (TableRow("1", (TableCell(4.0),)), TableRow("3", (TableCell(2.0),))),
        picture=LINES,
    )
    found = curve(table)
    assert (found.first, found.last) == (4.0, 2.0)
    assert found.points == f"{EDGE},{EDGE} {WIDTH - EDGE},30.0"


def test_shades_are_shares_of_the_largest_change() -> None:
    table = differences(TableRow("x", (TableCell(-4.0), TableCell(1.0))))
    assert [shade(table, cell) for cell in table.rows[0].cells if cell] == [1.0, 0.25]


def test_shades_of_two_tables_are_the_same_where_they_stand_together() -> None:
    noise = replace(differences(TableRow("x", (TableCell(0.5), TableCell(-0.1)))), fullest=2.0)
    assert [shade(noise, cell) for cell in noise.rows[0].cells if cell] == [0.25, 0.05]


def test_numbers_are_whole_or_have_three_places() -> None:
    assert [number(TableCell(28)), number(TableCell(860205)), number(TableCell(0.5, 0.25, 1)), number(TableCell(1))] == [
        "28", "860,205", "0.500", "1.000"
    ]  # fmt: skip
    assert number(TableCell(-0.25), sign=True) == "−0.250"


def test_a_page_quotes_what_it_is_told() -> None:
    table = DemoTable("<b>&", "persona eval '<x>'", ("<i>",), (TableRow("<u>", (TableCell(1.0),)),))
    chapters = (Chapter("<script>", "a < b", ("echo '<'",), (table,)),)
    page = page_of(DemoResult("<script>", chapters, (Reply("<u>", (Answer("<u>", "<u>"),)),), (), 1, 2, True))
    assert "<script>" not in page
    assert "<u>" not in page
    assert "&lt;b&gt;&amp;" in page
