"""Rates that are too low, the headroom of each group, and how much of a training a verdict has seen."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_probe import loss_fn, net, split, task
from test_verdicts import Bowl, Bowls
from test_verdicts import probed as bowled
from torch import nn
from torch.optim import SGD, AdamW

import lrlint
from lrlint.errors import UsageError
from lrlint.probing.search.rate_ladder import Diagnosis
from lrlint.probing.search.trial import TrialRun

FLAT = {"headroom": False}


def probed(model: nn.Module, optimizer: Any, **options: Any) -> Any:
    options = {"total_steps": 1000, "headroom": False, **options}
    return lrlint.probe(model, optimizer, batches=task(100), loss_fn=loss_fn, **options)


def codes(found: Any) -> dict[str, str]:
    return {finding.rule: finding.severity for finding in found.findings}


# Too low


def test_rates_far_too_low_for_the_run_are_found_and_what_does_better_is_named() -> None:
    model = net()
    found = probed(model, AdamW(split(model, 3e-8, 1e-7)))
    assert found.verdict == "too-low"
    assert codes(found)["LR912"] == "warning"
    (low,) = found.facts.too_low
    assert (low.steps, low.total, len(low.groups)) == (54, 1000, 2)
    assert low.gain > 2 * low.reached
    best = found.recommendations[0]
    assert best.verified
    assert best.factor > 300
    (finding,) = [f for f in found.findings if f.rule == "LR912"]
    assert "all 1,000 steps of the run can be expected to take" in finding.message
    assert finding.help.startswith("multiply all rates by")


def test_low_rates_that_reach_the_end_are_fine_and_the_length_of_the_run_decides() -> None:
    """The same rate learns all there is in a long run, and hardly anything in a short one."""
    verdicts = {}
    for steps in (200, 2_000_000):
        model = net()
        found = probed(model, SGD(model.parameters(), lr=1e-5), total_steps=steps)
        verdicts[steps] = found.verdict
        assert ("LR912" in codes(found)) == (steps == 200)
    assert verdicts[200] == "too-low"
    assert verdicts[2_000_000] != "too-low"


def test_of_a_run_of_unknown_length_only_the_hopeless_is_said() -> None:
    model = net()
    found = probed(model, SGD(model.parameters(), lr=1e-7), total_steps=None)
    assert found.verdict == "too-low"
    (finding,) = [f for f in found.findings if f.rule == "LR912"]
    assert "even 100,000 steps" in finding.message
    model = net()
    assert probed(model, SGD(model.parameters(), lr=1e-4), total_steps=None).verdict != "too-low"


def layers(first: str, scale: float = 1.0) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module(first, nn.Linear(12, 32))
    model.add_module("relu", nn.ReLU())
    model.add_module("top", nn.Linear(32, 4))
    return model


@pytest.mark.parametrize(("name", "severity"), [("table", "warning"), ("backbone", "info")])
def test_one_group_far_too_slow_is_named_alone_and_a_backbone_is_a_note(name: str, severity: str) -> None:
    model = layers(name)
    groups = [
        {"params": getattr(model, name).parameters(), "lr": 1e-7, "name": name},
        {"params": model.top.parameters(), "lr": 1e-2, "name": "top"},
    ]
    found = probed(model, AdamW(groups))
    assert found.verdict == "too-low"
    assert [low.groups for low in found.facts.too_low] == [((0, 0),)]
    assert codes(found)["LR913"] == severity
    assert {group.label: group.verdict for group in found.groups} == {name: "too-low", "top": "stable"}
    assert not {"LR905", "LR911", "LR912"} & codes(found).keys(), "the same is not said twice"


def test_a_norm_that_was_trained_says_that_low_rates_may_be_meant() -> None:
    class Encoded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lower = nn.Sequential(nn.Linear(12, 32), nn.LayerNorm(32), nn.ReLU())
            self.top = nn.Linear(32, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.top(self.lower(x))

    known = {}
    for trained in (False, True):
        torch.manual_seed(0)
        model = Encoded()
        if trained:
            nn.init.uniform_(model.lower[1].weight, 0.9, 1.1)
        optimizer = AdamW(
            [{"params": model.lower.parameters(), "lr": 1e-7}, {"params": model.top.parameters()}], lr=1e-2
        )
        (low,) = probed(model, optimizer).facts.low[1:]
        known[trained] = low.pretrained
    assert known == {False: False, True: True}


def test_a_search_for_low_rates_leaves_everything_as_it_was() -> None:
    model = net()
    optimizer = AdamW(split(model, 1e-7, 1e-7))
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    state = torch.get_rng_state()
    probed(model, optimizer, headroom=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert optimizer.state_dict() == before[1]
    assert all(torch.equal(value, before[0][name]) for name, value in model.state_dict().items())


# Headroom


def test_headroom_is_that_of_each_group_alone() -> None:
    """Gradient descent on a bowl of curvature h holds below the rate 2/h."""
    model = Bowls((0.5, 1.0), (0.5, 0.04))
    found = bowled(model, SGD([{"params": [w]} for w in model.parameters()], lr=0.1))
    assert [room.verified for room in found.headroom] == [True, True]
    for room, edge in zip(found.headroom, (20.0, 500.0), strict=True):
        assert abs(math.log10(room.largest / edge)) <= 0.5
        assert 1 <= room.advised <= room.largest
    assert found.groups[0].factor == found.headroom[0].largest
    assert json.loads(json.dumps(found.to_dict()))["headroom"][1]["largest"] == found.headroom[1].largest
    assert "holds up to" in str(found)


def test_of_many_groups_headroom_is_seen_along_the_first_update_and_not_verified() -> None:
    model = Bowls(*[(0.2, h) for h in (1.0, 1.0, 1.0, 1.0, 10.0)])
    found = bowled(model, SGD([{"params": [w]} for w in model.parameters()], lr=0.1))
    assert len(found.headroom) == 5
    assert not any(room.verified or room.runs for room in found.headroom)
    assert found.headroom[4].largest < found.headroom[0].largest
    assert "not verified" in str(found)


def test_without_headroom_there_is_none() -> None:
    model = Bowls((1.0, 1.0))
    assert bowled(model, SGD(model.parameters(), lr=0.1), headroom=False).headroom == ()


def test_groups_lowered_together_each_get_their_own_factor() -> None:
    model = Bowls((0.5, 200.0), (0.5, 6.0))
    found = bowled(model, SGD([{"params": [w]} for w in model.parameters()], lr=1.0))
    best = found.recommendations[0]
    assert best.verified
    assert len(best.groups) == len(best.factors) == 2
    first, second = best.factors
    assert first < second < 1
    assert first * 200 < 2 > second * 6


# What was seen


def test_too_little_of_the_loss_is_inconclusive_and_says_how_much() -> None:
    model = Bowl([1.0], lambda w: 10 + w**2)
    found = bowled(model, SGD(model.parameters(), lr=0.1), **FLAT)
    assert found.verdict == "inconclusive"
    assert 0.05 < found.facts.extent.share < 0.1
    assert "off the loss" in found.facts.reason
    assert not [f for f in found.findings if f.severity != "info"]


def test_made_up_batches_never_say_stable() -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 2)
    found = lrlint.probe(model, SGD(model.parameters(), lr=0.01), batches=None, example_inputs=torch.randn(8, 6))
    assert found.facts.weak
    assert found.verdict == "inconclusive"
    assert "made up" in found.facts.reason


def test_a_rising_loss_is_not_excused_by_low_rates_that_only_bring_it_back() -> None:
    """Steps of 1 from the flat top of a pit a tenth deep: what low rates find again is where it started."""
    pit = lambda w: 1 + w.abs().sum() - 0.1 * torch.exp(-((w - 0.05) ** 2).sum() / 1e-3)  # noqa: E731
    model = Bowl([0.0], pit)
    optimizer = SGD(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    found = bowled(model, optimizer, scheduler=schedule, total_steps=300, **FLAT)
    assert found.verdict != "stable"


def test_a_late_spike_after_the_loss_was_nearly_gone_is_noticed() -> None:
    falls = [0.7**k for k in range(20)]
    for after, spiked in (([0.01] * 6, False), ([0.01, 0.9, 0.01, 0.01], False), ([0.3, 0.4, 0.6], True)):
        losses = (*falls, *after)
        base = TrialRun((1.0,), losses)
        assert Diagnosis(base, len(losses), 1.0).spiked == spiked


def test_what_does_not_stand_out_of_the_noise_is_not_verified() -> None:
    """Batches of one, and nine of ten units dropped."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Dropout(0.9), nn.Linear(64, 4))
    batches = [(x[:1], y[:1]) for x, y in task(100)]
    found = lrlint.probe(model, SGD(model.parameters(), lr=3.0), batches=batches, loss_fn=loss_fn, headroom=False)
    for change in found.recommendations:
        if change.verified:
            (run, *_) = change.evidence
            assert run.first - run.last > 0.3 * run.first


# From the middle of a run, with a metric, with the parts of the loss


def trained(rate: float, steps: int) -> tuple[nn.Module, Any]:
    model = net()
    optimizer = AdamW(split(model, rate, rate))
    for batch in task(steps):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    return model, optimizer


def test_a_checkpoint_is_gone_on_from_at_its_rates_and_nothing_stays(tmp_path: Path) -> None:
    source, own = trained(1e-2, 30)
    own.param_groups[0]["lr"], own.param_groups[1]["lr"] = 1e-3, 5.0
    torch.save({"model": source.state_dict(), "optimizer": own.state_dict(), "epoch": 3}, tmp_path / "last.pt")
    model = net()
    optimizer = AdamW(split(model, 1e-3, 1e-3))
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    found = probed(model, optimizer, resume=tmp_path / "last.pt")
    assert found.facts.resumed == "last.pt"
    assert [group.lr for group in found.groups] == [1e-3, 5.0]
    assert found.facts.arms[0].first < 0.8 * probed(model, optimizer).facts.arms[0].first
    assert found.verdict == "unstable"
    assert found.guilty == [(0, 1)]
    assert optimizer.state_dict() == before[1]
    assert all(torch.equal(value, before[0][name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no checkpoint"),
        ([1, 2], "holds a list"),
        ({"epoch": 3}, "no state of a model"),
        ({"model": {"x": torch.zeros(2)}}, "does not fit"),
    ],
    ids=["missing", "a list", "no model", "another model"],
)
def test_a_checkpoint_that_is_none_is_refused_with_a_reason(tmp_path: Path, content: Any, message: str) -> None:
    if content is not None:
        torch.save(content, tmp_path / "c.pt")
    model = net()
    with pytest.raises(UsageError, match=message):
        probed(model, SGD(model.parameters(), lr=0.1), resume=tmp_path / "c.pt")


def test_where_the_metric_contradicts_the_loss_there_is_no_verdict() -> None:
    """The loss leaps away from where it began; by the metric, that is progress."""
    model = Bowl([1.0], lambda w: 0.5 * (w**2).sum())
    optimizer = SGD(model.parameters(), lr=2.05)
    assert bowled(model, optimizer, **FLAT).verdict == "unstable"
    agreed = bowled(model, optimizer, metric_fn=lambda m: float(m.w.abs()), **FLAT)
    assert agreed.verdict == "unstable"
    assert agreed.facts.metric == 1.0
    contrary = bowled(model, optimizer, metric_fn=lambda m: -float(m.w.abs()), **FLAT)
    assert contrary.verdict == "inconclusive"
    assert "the metric does not" in contrary.facts.reason
    assert not contrary.recommendations
    with pytest.raises(UsageError, match="metric_fn"):
        bowled(model, optimizer, metric_fn=3, **FLAT)


def test_the_parts_of_a_loss_are_followed_by_name() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(12, 4)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
            fit, size = F.cross_entropy(self.inner(x), y), self.inner.weight.square().mean()
            return {"loss": fit + size, "fit": fit, "size": size, "count": torch.tensor(3.0)}

    torch.manual_seed(0)
    model = Parts()
    found = lrlint.probe(model, SGD(model.parameters(), lr=0.1), batches=task(), headroom=False)
    trace = found.trace
    assert set(trace.terms) == {"fit", "size"}
    for whole, fit, size in zip(trace.loss, trace.terms["fit"], trace.terms["size"], strict=True):
        assert whole == pytest.approx(fit + size, rel=1e-4)


def test_thorough_looks_at_three_hundred_steps_and_at_other_seeds() -> None:
    model = Bowls((0.5, 1.0), (0.5, 0.04))
    found = bowled(model, SGD(model.parameters(), lr=0.1), thorough=True, **FLAT)
    assert found.verdict == "stable"
    assert found.facts.extent.steps == 300
    assert {arm.seed for arm in found.facts.arms if arm.fresh} == {1, 2}
