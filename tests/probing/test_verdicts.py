"""Setups whose course is known from the formula: what shows late, what heals, what one batch does."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

import lrlint


class Bowl(nn.Module):
    """A parameter, and a loss that is a function of it alone."""

    def __init__(self, start: list[float], loss: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start))
        self.loss = loss

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.loss(self.w)


class Bowls(nn.Module):
    """A sum of squares: each with its share of the loss and its curvature, a parameter of its own."""

    def __init__(self, *bowls: tuple[float, float]) -> None:
        super().__init__()
        self.curvatures = [h for _, h in bowls]
        self.w = nn.ParameterList([nn.Parameter(torch.tensor((2 * share / h) ** 0.5)) for share, h in bowls])

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return sum((0.5 * h * w**2 for h, w in zip(self.curvatures, self.w, strict=True)), batch.sum() * 0)


def probed(model: nn.Module, optimizer: Any, **options: Any) -> Any:
    batches = [torch.zeros(1) for _ in range(100)]
    return lrlint.probe(model, optimizer, batches=batches, loss_fn=lambda model, batch: model(batch), **options)


def all_before_the_guilty(found: Any) -> tuple[Any, Any]:
    """Of two groups the first is guilty; lower rates for both are recommended, and next for it alone, both verified."""
    assert found.guilty == [(0, 0)]
    first, second, *_ = found.recommendations
    assert (first.groups, second.groups) == (((0, 0), (0, 1)), ((0, 0),))
    assert first.verified
    assert second.verified
    return first, second


def test_what_only_grows_over_a_factor_after_the_first_run_is_found() -> None:
    """The steep direction grows by 1.17 a step: 0.1 % of the loss after 27 steps, most of it after 54."""
    model = Bowl([1.0, 3e-5], lambda w: 0.5 * w[0] ** 2 + 0.5 * 217 * w[1] ** 2)
    found = probed(model, SGD(model.parameters(), lr=0.01))
    assert found.verdict == "unstable", found.facts.reason
    (best, *_) = found.recommendations
    assert best.verified
    assert best.factor * 0.01 * 217 < 2  # the limit of gradient descent


def test_a_rate_a_hundred_thousand_times_too_high_is_named_and_repaired() -> None:
    """Nothing above a thousandth of it holds."""
    model, batches = linear((), 1.0)
    found = lrlint.probe(model, SGD(model.parameters(), lr=1e4), batches=batches, loss_fn=squared)
    assert found.verdict == "unstable"
    (best, *_) = found.recommendations
    assert best.verified
    assert 1e-3 < best.factor * 1e4 < 1


def test_lower_rates_for_all_come_first_where_the_guilty_ones_alone_leave_training_behind() -> None:
    """The first weight diverges; the second, just below 2/h, takes 2 % off its share of the loss with each step."""
    model = Bowls((0.6, 4.0), (0.4, 1.99))
    found = probed(model, SGD([{"params": [w]} for w in model.parameters()], lr=1.0))
    all_before_the_guilty(found)
    (finding,) = [f for f in found.findings if f.rule == "LR902"]
    assert finding.help == "multiply the rate of `group 0` by 0.056 (0.056) and of `group 1` by 0.18 (0.18)"
    assert "all groups each at its own rate" in finding.message
    assert "with only those lowered that are to blame" in finding.message
    assert not finding.related


def test_lower_rates_for_all_come_first_where_the_best_run_is_no_yardstick() -> None:
    """At a tenth of all rates the first weight stands still, just below its 2/h, so that its own reduction does better
    than that; half a decade lower still, all weights learn fast.
    """
    model = Bowls((0.35, 19.99), (0.3, 1.99), (0.35, 0.8))
    steep, *others = model.parameters()
    found = probed(model, SGD([{"params": [steep]}, {"params": others}], lr=1.0))
    first, second = all_before_the_guilty(found)
    assert first.evidence[0].last < second.evidence[0].last


def test_lower_rates_for_all_come_first_where_a_change_that_does_not_last_stops_its_groups() -> None:
    """The first weight, at the largest rate that holds for it, comes down by 2 % a step: far enough in 27 steps, not in 54.
    At the rate that would do, its steps promise a seventh of what the other's do.
    """
    model = Bowls((0.45, 63.0), (0.55, 1.9))
    found = probed(model, SGD([{"params": [w]} for w in model.parameters()], lr=1.0))
    _, second = all_before_the_guilty(found)
    assert second.factor < 0.2 * second.largest


def test_where_lower_rates_are_too_slow_the_best_ones_seen_are_verified() -> None:
    """A tenth of the rate holds, a third does not; most of the loss falls in proportion to the rate."""
    model = Bowls((0.02, 10.0), (0.98, 0.05))
    found = probed(model, SGD(model.parameters(), lr=1.0))
    best = found.recommendations[0]
    assert best.verified
    assert best.factor == 0.1


def test_a_group_that_dominates_is_named_alone_though_another_one_is_at_its_edge() -> None:
    """The first weight diverges at once. The second grows by a tenth a step at the peak, and comes down with the schedule:
    the whole run needs no change of it, while the steps that are probed do.
    """
    start = [(0.9, 19.0), (0.1, 2.05)]
    model = Bowls(*start)
    optimizer = SGD([{"params": [w]} for w in model.parameters()], lr=1.0)
    found = probed(model, optimizer, scheduler=CosineAnnealingLR(optimizer, 300), total_steps=300)
    assert found.guilty == [(0, 0)]
    best = found.recommendations[0]
    assert (best.groups, best.verified) == (((0, 0), (0, 1)), True)

    model = Bowls(*start)
    first, second = model.parameters()
    optimizer = SGD([{"params": [first], "lr": 0.1}, {"params": [second]}], lr=1.0)
    schedule = CosineAnnealingLR(optimizer, 300)
    for _ in range(300):
        optimizer.zero_grad()
        loss = model(torch.zeros(1))
        loss.backward()
        optimizer.step()
        schedule.step()
    assert loss < 1e-3


@pytest.mark.parametrize(
    ("schedule", "factor"),
    [
        (None, 0.018),
        (lambda k: min(1.0, (k + 1) / 60), 0.01),  # stays at the peak
        (lambda k: min(1.0, (k + 1) / 60) * (300 - k) / 300, 0.018),
    ],
)
def test_a_peak_that_is_reached_by_a_warm_up_and_kept_is_given_a_wider_margin(schedule: Any, factor: float) -> None:
    model = Bowls((1.0, 40.0))
    optimizer = SGD(model.parameters(), lr=1.0)
    found = probed(model, optimizer, scheduler=schedule and LambdaLR(optimizer, schedule), total_steps=300)
    best = found.recommendations[0]
    assert best.verified
    assert best.factor == factor


def test_a_reduction_far_behind_half_way_is_given_up() -> None:
    """The loss of each weight grows by a fifth with each step: reducing one of them alone is hopeless."""
    model = Bowls((0.5, 2.1), (0.5, 2.1))
    found = probed(model, SGD([{"params": [w]} for w in model.parameters()], lr=1.0))
    assert found.guilty == [(0, 0), (0, 1)]
    assert found.recommendations[0].verified
    alone = [arm for arm in found.facts.arms if len(arm.changes) == 1]
    assert {(arm.ended, arm.steps) for arm in alone} == {("given up", 9)}  # of 18, in which the fault shows
    assert not any(arm.failed for arm in alone)


def test_rates_far_slower_than_the_next_higher_ones_are_given_up_half_way() -> None:
    """A tenth of the rate learns the bowl in a few steps, a hundredth takes 5 % off the loss with each."""
    model = Bowls((1.0, 2.5))
    found = probed(model, SGD(model.parameters(), lr=1.0))
    slower = [arm for arm in found.facts.arms if [factor for *_, factor in arm.changes] == [0.01]]
    assert [(arm.ended, arm.steps) for arm in slower] == [("given up", 13)]  # of 27


def test_a_loss_far_beyond_its_start_is_not_followed() -> None:
    """It grows by a factor of 1.25 a step, 400 in all: what has to show twice elsewhere is sure."""
    model = Bowls((1.0, 2.12))
    found = probed(model, SGD(model.parameters(), lr=1.0))
    assert found.verdict == "unstable"
    (configured,) = [arm for arm in found.facts.arms if not arm.changes and arm.clip is None]
    assert (configured.ended, configured.steps) == ("full", 27)


def test_where_no_rate_learns_what_does_no_harm_is_verified_and_said_to_do_no_more() -> None:
    """Nothing to gain: the first weight is next to its minimum, from which it is thrown, the second hardly matters."""

    class Flat(Bowls):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return 1 + super().forward(batch)

    model = Flat((1e-4, 2.2), (1e-4, 0.01))
    found = probed(model, SGD([{"params": [w]} for w in model.parameters()], lr=1.0))
    assert found.verdict == "unstable"
    assert found.guilty == [(0, 0)]
    assert found.recommendations[0].verified
    assert found.facts.reason.startswith("no rate makes measurable progress")


@pytest.mark.parametrize("decays", [True, False])
def test_a_loss_that_comes_down_with_the_rate_is_no_fault_where_the_schedule_lets_it(decays: bool) -> None:
    """Steps of 3 around a minimum one away: half the time the loss is above its start, at any length."""
    model = Bowl([1.0], lambda w: w.abs().sum())
    optimizer = SGD(model.parameters(), lr=3.0)
    scheduler = CosineAnnealingLR(optimizer, 300) if decays else LambdaLR(optimizer, lambda step: 1.0)
    found = probed(model, optimizer, scheduler=scheduler, total_steps=300)
    assert found.verdict == ("stable" if decays else "unstable")
    assert ("schedule" in found.facts.reason) == decays


def test_a_leap_of_the_loss_that_comes_back_is_no_fault_and_is_said() -> None:
    """A catapult (https://arxiv.org/abs/2003.02218): above 2/h the loss grows until the curvature has fallen."""
    model = Bowl([3.0, 0.1], lambda w: 0.5 * (w[0] * w[1]) ** 2)
    found = probed(model, SGD(model.parameters(), lr=0.3))
    assert found.verdict == "stable"
    assert found.facts.reason == "the loss leapt from 0.045 to 1.87, and came back"


def linear(outliers: tuple[int, ...], far: float) -> tuple[nn.Module, list[Any]]:
    """Linear regression; some batches ``far`` times the usual."""
    torch.manual_seed(0)
    batches = []
    for k in range(100):
        x = torch.randn(32, 8) * (far if k in outliers else 1.0)
        batches.append((x, x @ torch.ones(8, 1)))
    return nn.Linear(8, 1), batches


def squared(model: nn.Module, batch: Any) -> torch.Tensor:
    return F.mse_loss(model(batch[0]), batch[1])


@pytest.mark.parametrize("first", [3, 12, 22])
def test_an_outlier_that_breaks_every_rate_is_clipped_at_the_percentile_of_the_other_norms(first: int) -> None:
    model, batches = linear((first, 40, 71), 1e5)
    found = lrlint.probe(model, SGD(model.parameters(), lr=0.05), batches=batches, loss_fn=squared)
    assert found.verdict == "unstable"
    (best, *_) = found.recommendations
    assert best.kind == "clip"
    assert best.verified
    assert best.value == pytest.approx(quiet_percentile(0.9, first), rel=0.15)
    assert [finding.rule for finding in found.findings if finding.severity == "warning"] == ["LR906"]


def quiet_percentile(share: float, first: int) -> float:
    """Of the gradient norms over 54 steps at a tenth of the rate, in which the outliers count and do nothing."""
    model, batches = linear((first, 40, 71), 1e5)
    optimizer = SGD(model.parameters(), lr=0.005)
    norms = []
    for k in range(54):
        optimizer.zero_grad()
        squared(model, batches[k]).backward()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), math.inf).item())
        if norms[-1] < 1e3:
            optimizer.step()
    return sorted(norms)[math.ceil(share * len(norms)) - 1]


def test_without_outliers_nothing_is_clipped() -> None:
    model, batches = linear((), 1.0)
    found = lrlint.probe(model, SGD(model.parameters(), lr=0.05), batches=batches, loss_fn=squared)
    assert found.verdict == "stable"
    assert not found.recommendations


def test_norms_that_fall_from_a_large_start_are_no_outliers() -> None:
    """A steep direction that is learnt in a few steps, and a flat one for the rest."""
    model = Bowl([0.08, 5.0], lambda w: 0.5 * 200 * w[0] ** 2 + w[1].abs())
    found = probed(model, SGD(model.parameters(), lr=0.009))
    assert found.verdict == "stable"
    assert found.facts.tail.largest > 10 * found.facts.tail.median
    assert not found.facts.tail.heavy
    assert not found.recommendations
