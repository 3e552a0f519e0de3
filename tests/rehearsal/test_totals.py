"""From the iterations that were visited to the whole run."""

from __future__ import annotations

import pytest

from lrlint.rehearsal.loops import Position
from lrlint.rehearsal.recorder import Event
from lrlint.rehearsal.rehearsal import Plan
from lrlint.rehearsal.totals import Counting


def events(iterations: list[int], visited: int, length: int) -> list[Event]:
    """Events in these iterations of one loop."""
    return [Event(i, "step", None, (Position(0, i, length, 1, min(i + 1, visited)),)) for i in iterations]


@pytest.mark.parametrize(
    ("iterations", "visited", "length", "total"),
    [
        ([0, 1, 2], 3, 40, (40, 40)),
        ([3, 7, 11], 12, 40, (10, 10)),  # accumulation
        ([0, 5, 10], 11, 40, (8, 8)),  # a generator after five critics
        ([1, 199], 3, 200, (2, 199)),  # the loop jumped from 1 to its last: every other, or all but the first
        ([0, 1], 3, 200, (2, 199)),  # something that ends
        ([0, 0, 1, 1], 2, 10, (20, 20)),
    ],
)
def test_a_total_is_exact_only_where_the_pattern_says_so(
    iterations: list[int], visited: int, length: int, total: tuple[int, int]
) -> None:
    seen = events(iterations, visited, length)
    counting = Counting(seen)
    counting.note(1, visited)
    assert counting.total(seen) == total


def test_an_iteration_that_was_cut_counts_for_nothing() -> None:
    seen = events([0, 1], 2, 40)
    counting = Counting(seen, open_runs={1})
    counting.note(1, 3)
    assert counting.total(seen) == (40, 40)


def test_what_stands_under_a_condition_that_may_end_is_not_extrapolated() -> None:
    seen = events([0, 1, 2], 3, 40)
    assert Counting(seen).total(seen, sure=False) == (3, 40)


def test_a_rehearsal_is_over_by_its_cpu_time_or_by_three_times_as_much_on_the_clock() -> None:
    plan = Plan(seconds=10)
    assert not plan.over(cpu=9, wall=29)
    assert plan.over(cpu=10, wall=10) == "10 s were over"
    assert plan.over(cpu=0, wall=30) == "30 s by the clock were over"
