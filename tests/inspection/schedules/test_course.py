"""Rates over the run: compressed traces, peaks, and the ratio between groups at start, peak and end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import AdamW
from torch.optim import lr_scheduler as s

import lrlint
from lrlint.analysis.rate_course import peak_rate, rate_profile
from lrlint.inspection.schedules.sampling import compress, explore

values = st.lists(st.floats(-1e6, 1e6, allow_nan=False, width=32), min_size=1, max_size=200)


@given(values=values, strides=st.lists(st.integers(1, 9), min_size=200, max_size=200))
def test_a_compressed_trace_keeps_ends_and_extremes_and_stays_close(values: list[float], strides: list[int]) -> None:
    steps = [sum(strides[:k]) for k in range(len(values))]
    trace = compress(steps, values)
    assert (trace.first, trace.last, trace.peak, trace.floor) == (values[0], values[-1], max(values), min(values))
    room = 1e-3 * (max(values) - min(values)) * (1 + 1e-6) + 1e-9
    assert all(abs(trace.at(step) - value) <= room for step, value in zip(steps, values, strict=True))
    assert set(zip(trace.steps, trace.values, strict=True)) <= set(zip(steps, values, strict=True))


def test_a_smooth_course_needs_few_points() -> None:
    trace = compress(range(10_001), [(step / 10_000) ** 2 for step in range(10_001)])
    assert len(trace.steps) < 20


@given(
    edge=st.integers(1, 999_998),
    before=st.floats(0.1, 1.0),
    after=st.floats(0.0, 0.05),
)
def test_a_jump_is_found_to_the_step(edge: int, before: float, after: float) -> None:
    found = explore(lambda step: (before if step < edge else after,), 1_000_000, (), 5000)
    (trace,) = found.traces()
    assert (trace.at(edge - 1), trace.at(edge)) == (before, after)
    assert len(found.steps) < 500


@given(top=st.integers(0, 1_000_000))
def test_a_maximum_is_found_to_the_step(top: int) -> None:
    found = explore(lambda step: (1 - ((step - top) / 1e6) ** 2,), 1_000_000, (), 5000)
    assert found.traces()[0].peak_step == top


def test_where_nothing_is_left_of_a_rate_is_kept() -> None:
    trace = compress(range(10_001), [0.8**step for step in range(10_001)])
    assert trace.negligible_from == 31


def setup(make: Any, **declared: Any) -> Any:
    model = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
    groups = [
        {"params": m.parameters(), "lr": lr, "weight_decay": wd}
        for m, lr, wd in zip(model, (1e-4, 1e-3), (0.1, 0.0), strict=True)
    ]
    optimizer = AdamW(groups)
    return lrlint.inspect(model, optimizer, make(optimizer) if make else None, graph=False, **declared)


def test_ratio_and_products_at_start_peak_and_end() -> None:
    facts = setup(lambda o: s.OneCycleLR(o, [2e-4, 1e-3], total_steps=100), total_steps=100)
    over = rate_profile(facts.optimizers[0], facts.schedules)
    assert over.start.rates == pytest.approx((8e-6, 4e-5))
    assert over.peak.rates == pytest.approx((2e-4, 1e-3))
    assert over.peak.products == pytest.approx((2e-5, 0.0))
    assert [m.ratio for m in (over.start, over.peak, over.end)] == pytest.approx([5.0, 5.0, 5.0])


def test_a_floor_closes_the_ratio() -> None:
    facts = setup(lambda o: s.CosineAnnealingLR(o, 100, eta_min=5e-5), total_steps=101)
    over = rate_profile(facts.optimizers[0], facts.schedules)
    assert (over.start.ratio, over.end.ratio) == pytest.approx((10.0, 1.0))


def test_without_a_scheduler_the_present_rates_count() -> None:
    facts = setup(None)
    over = rate_profile(facts.optimizers[0], facts.schedules)
    assert over.start == over.end
    assert over.end.rates == (1e-4, 1e-3)
    assert over.end.products == pytest.approx((1e-5, 0.0))


def test_the_peak_is_what_rules_see_and_not_the_first_step() -> None:
    facts = setup(lambda o: s.LinearLR(o, 0.01, total_iters=10), total_steps=100)
    assert [group.peak_lr for group in facts.optimizers[0].groups] == pytest.approx([1e-4, 1e-3])


def test_a_warmup_longer_than_the_look_ahead_peaks_at_its_base() -> None:
    facts = setup(lambda o: s.LambdaLR(o, lambda t: min(1.0, t / 5000)))
    assert peak_rate(facts.schedules, 0, 1) == pytest.approx(1e-3)
    assert facts.optimizers[0].groups[0].peak_lr == pytest.approx(1e-4)
    assert peak_rate(facts.schedules, 0, 7) is None
    assert peak_rate((), 0, 0) is None
