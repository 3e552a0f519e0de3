"""The plot shows the course to scale, within the width it is given."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrlint.facts import GroupSchedule, Schedule, Trace
from lrlint.reports.views.curves import chart, schedule_lines


def schedule(*traces: Trace, **more: Any) -> Schedule:
    groups = tuple(GroupSchedule(index, trace) for index, trace in enumerate(traces))
    return Schedule(0, "CosineAnnealingLR", "torch", 0, 101, groups, **{"horizon_from": "total_steps", **more})


def test_a_line_falls_from_the_upper_left_to_the_lower_right() -> None:
    rows = chart([Trace((0, 100), (1.0, 0.0))], width=30, height=5, ascii=True)
    places = [row.index("a") for row in rows[:5]]
    assert places == sorted(places)
    assert rows[0].startswith("  1|a")
    assert rows[4].startswith("  0|")
    assert rows[4].endswith("a")


def test_a_jump_is_a_vertical_stroke() -> None:
    rows = chart([Trace((0, 49, 50, 100), (1.0, 1.0, 0.2, 0.2))], width=40, height=6, ascii=True)
    column = max(row.count("a") and row.rindex("a") for row in rows[:1])
    assert all(row[column] == "a" for row in rows[:5])


def test_braille_and_letters_agree_on_the_rows() -> None:
    trace = Trace((0, 50, 100), (0.1, 1.0, 0.1))
    letters = [bool(row[6:].strip()) for row in chart([trace], height=4, ascii=True)[:4]]
    braille = [bool(row[6:].strip()) for row in chart([trace], height=4)[:4]]
    assert letters == braille == [True] * 4


def test_rates_far_apart_get_a_logarithmic_axis() -> None:
    rows = chart(
        [Trace((0, 100), (1e-5, 1e-5)), Trace((0, 100), (1e-3, 1e-3)), Trace((0, 9), (1e-4, 1e-4))],
        height=5,
        ascii=True,
    )
    assert [next(iter(set(row.split("|")[1].replace(" ", "")))) for row in (rows[0], rows[2], rows[4])] == [
        "b",
        "c",
        "a",
    ]


def test_one_course_is_drawn_to_scale_however_low_it_ends() -> None:
    rows = chart([Trace((0, 100), (1e-3, 1e-9))], width=60, height=5, ascii=True)
    assert rows[4].startswith("      0|")
    assert rows[2].index("a") - rows[2].index("|") == pytest.approx(25, abs=6)  # half of the way down, half of the run


def test_a_logarithmic_axis_says_that_it_does_not_reach_the_floor() -> None:
    rows = chart([Trace((0, 100), (1e-3, 1e-9)), Trace((0, 100), (1e-5, 1e-11))], height=5, ascii=True)
    assert rows[4].strip().startswith("<=1e-0")


def test_decay_and_momentum_that_move_are_told() -> None:
    rising, dip = Trace((0, 100), (0.04, 0.4)), Trace((0, 30, 100), (0.95, 0.85, 0.95))
    group = GroupSchedule(0, Trace((0, 100), (1e-3, 0.0)), {"weight_decay": rising, "betas.0": dip})
    still = GroupSchedule(
        1, Trace((0, 100), (1e-3, 0.0)), {"weight_decay": Trace((0, 100), (0.1, 0.1)), "betas.0": dip}
    )
    shown = Schedule(0, "X", "x", 0, 101, (group, still), horizon_from="total_steps")
    assert schedule_lines(shown)[-2:] == [
        "  weight decay of group 0: 0.04 → 0.4",
        "  beta1 of group 0 and group 1: 0.95 → 0.85 at step 30 → 0.95",
    ]


def test_numbers_of_each_course_once() -> None:
    same = Trace((0, 30, 100), (0.0, 1e-3, 1e-5))
    lines = schedule_lines(schedule(same, Trace((0, 100), (1e-4, 1e-4)), same), {2: "head"})
    assert lines[0] == "CosineAnnealingLR, 101 steps"
    assert lines[-2:] == ["  group 0 and head: 0 → 1e-03 at step 30 → 1e-05", "  group 1: constant 1e-04"]


def test_what_was_not_simulated_says_why() -> None:
    assert schedule_lines(Schedule(0, "X", "m.X", 0, skipped="X follows a metric")) == [
        "not simulated: X follows a metric"
    ]


@pytest.mark.parametrize("ascii", [False, True])
@given(
    values=st.lists(st.floats(-1e3, 1e3, allow_nan=False, width=32), min_size=1, max_size=12),
    width=st.integers(1, 200),
    height=st.integers(1, 12),
)
def test_any_course_fits_the_terminal(ascii: bool, values: list[float], width: int, height: int) -> None:
    lines = chart([Trace(tuple(range(len(values))), tuple(values))], width=width, height=height, ascii=ascii)
    assert len(lines) == height + 1
    assert max(map(len, lines)) <= max(width, 45)
    assert not ascii or all(line.isascii() for line in lines)


def test_rates_near_the_largest_number_are_drawn() -> None:
    trace = Trace((0, 50, 100), (1.7e308, -1.7e308, 1.7e308))
    lines = chart([trace], width=60, height=4)
    assert len(lines) == 5
    assert all(len(line) <= 64 for line in lines)
