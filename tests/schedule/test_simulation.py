"""The simulation shows what really stepping the scheduler would do, and leaves the user's objects as they were."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schedule_makers import HF, TORCH, steps, torch_makers, transformers_makers
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim import lr_scheduler as s
from work import calls

import lrlint
from lrlint.facts import Schedule


def pair(lrs: tuple[float, ...] = (1e-5, 1e-3), kind: Any = AdamW, **options: Any) -> tuple[nn.Module, Any]:
    model = nn.ModuleList(nn.Linear(2, 2) for _ in lrs)
    groups = [{"params": layer.parameters(), "lr": lr} for layer, lr in zip(model, lrs, strict=True)]
    return model, kind(groups, **options)


def simulated(model: nn.Module, optimizer: Any, scheduler: Any, **declared: Any) -> Schedule:
    (found,) = lrlint.inspect(model, optimizer, scheduler, graph=False, **declared).schedules
    return found


def really(optimizer: Any, scheduler: Any, total: int) -> list[list[float]]:
    """Rates of all groups during each of the optimizer's steps."""
    rows = []
    for _ in range(total):
        rows.append([float(group["lr"]) for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return rows


@pytest.mark.parametrize("name", [n for n in (*TORCH, *HF) if n not in ("ReduceLROnPlateau", "greedy")])
@settings(max_examples=6, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_traces_equal_real_steps(name: str, data: st.DataObject) -> None:
    total, lrs = data.draw(steps), (1e-4, 1e-3)
    make = {**torch_makers(data.draw, total, list(lrs)), **transformers_makers(data.draw, total, list(lrs))}[name]
    model, optimizer = pair(lrs)
    scheduler = make(optimizer)
    found = simulated(model, optimizer, scheduler, total_steps=total)
    assert found.error is None
    rows = really(optimizer, scheduler, total)
    for group in found.groups:
        real = [row[group.group] for row in rows]
        assert group.lr is not None
        assert (group.lr.first, group.lr.last) == pytest.approx((real[0], real[-1]), rel=1e-9)
        assert (group.lr.peak, group.lr.floor) == pytest.approx((max(real), min(real)), rel=1e-9)
        room = 2.1e-3 * (max(real) - min(real)) + 1e-15
        assert all(abs(group.lr.at(step) - value) <= room for step, value in enumerate(real))


LONG = {
    "cosine": lambda o, n: s.CosineAnnealingLR(o, n, eta_min=1e-7),
    "steps": lambda o, n: s.MultiStepLR(o, [n // 7, n // 2, n - 1]),
    "one cycle": lambda o, n: s.OneCycleLR(o, [1e-5, 1e-3], n),
    "exponential": lambda o, n: s.ExponentialLR(o, 0.99999),
    "polynomial": lambda o, n: s.PolynomialLR(o, n, 2.0),
    "restarts": lambda o, n: s.CosineAnnealingWarmRestarts(o, 977, 3),
    "cyclic": lambda o, n: s.CyclicLR(o, [1e-6, 1e-5], [1e-5, 1e-3], 3001, mode="triangular2", cycle_momentum=False),
    "function": lambda o, n: s.LambdaLR(o, lambda t: min(1.0, t / 1234) * max(0.1, 1 - t / n)),
    "sequence": lambda o, n: s.SequentialLR(
        o, [s.LinearLR(o, 0.01, 1, 4321), s.CosineAnnealingLR(o, n - 4321)], [4321]
    ),
    "chain": lambda o, n: s.ChainedScheduler([s.ConstantLR(o, 0.1, 777), s.ExponentialLR(o, 0.99999)]),
    "chained cosine": lambda o, n: s.ChainedScheduler([s.LinearLR(o, 0.1, 1, 777), s.CosineAnnealingLR(o, n)]),
    "class of the user's": lambda o, n: WarmupPolynomial(o, 4321, n),
}


class WarmupPolynomial(s.LRScheduler):
    """As many repositories write it: rates and a decay that depend on the step number alone."""

    def __init__(self, optimizer: Any, warmup: int, total: int) -> None:
        self.warmup, self.total = warmup, total
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        for group in self.optimizer.param_groups:
            group["weight_decay"] = 0.04 + 0.36 * self.last_epoch / self.total
        rest = (self.total - self.last_epoch) / (self.total - self.warmup)
        return [base * min(self.last_epoch / self.warmup, rest**0.9) for base in self.base_lrs]


class LateRecursion(s.LRScheduler):
    """Reads the step number at first, the rate that it wrote from step 500 on."""

    def get_lr(self) -> list[Any]:
        if self.last_epoch <= 500:
            return [base * self.last_epoch / 500 for base in self.base_lrs]
        return [group["lr"] * 0.9999 for group in self.optimizer.param_groups]


def test_what_depends_on_the_course_is_stepped_and_not_evaluated() -> None:
    model, optimizer = pair()
    found = simulated(model, optimizer, LateRecursion(optimizer), total_steps=90_001)
    assert found.capped == 30_000
    for group in found.groups:
        assert group.lr is not None
        base = (1e-5, 1e-3)[group.group]
        assert group.lr.last == pytest.approx(base * 0.9999 ** (30_000 - 500), rel=1e-6)


@pytest.mark.parametrize("name", LONG)
def test_a_long_horizon_shows_extremes_and_changes_to_the_step(name: str) -> None:
    total = 90_001  # beyond what is stepped through, and still quick to step for comparison
    model, optimizer = pair()
    found = simulated(model, optimizer, LONG[name](optimizer, total), total_steps=total)
    _, optimizer = pair()
    rows = really(optimizer, LONG[name](optimizer, total), total)
    assert found.capped is None
    for group in found.groups:
        real = [row[group.group] for row in rows]
        trace = group.lr
        assert trace is not None
        assert (trace.peak, trace.floor) == pytest.approx((max(real), min(real)), rel=1e-6, abs=1e-12)
        assert real[trace.peak_step] == pytest.approx(max(real), rel=1e-6)
        assert all(
            real[step] == pytest.approx(v, rel=1e-5, abs=1e-12)
            for step, v in zip(trace.steps, trace.values, strict=True)
        )
        jumps = [t for t in range(1, total) if real[t] < 0.5 * real[t - 1] and real[t - 1] > 1e-3 * max(real)]
        assert all(trace.at(t) == pytest.approx(real[t], rel=1e-5) for t in jumps[:20])


@pytest.mark.parametrize("name", [*LONG, "state-driven"])
def test_a_million_steps_are_hardly_more_work_than_a_tenth_of_them(name: str) -> None:
    def simulate(total: int) -> Schedule:
        model, optimizer = pair()
        make = LONG.get(name, lambda o, n: s.MultiplicativeLR(o, lambda t: 0.999999))
        return simulated(model, optimizer, make(optimizer, total), total_steps=total)

    tenth = min(calls(lambda: simulate(100_000)) for _ in range(2))  # the first imports as well
    assert calls(lambda: simulate(1_000_000)) < 1.5 * tenth
    found = simulate(1_000_000)
    assert found.horizon == 1_000_000
    assert all(len(group.lr.steps) < 1000 for group in found.groups if group.lr)


def test_a_look_ahead_goes_on_where_the_rates_still_rise() -> None:
    def noam(step: int) -> float:
        return 512**-0.5 * min(max(step, 1) ** -0.5, step * 4000**-1.5)

    model, optimizer = pair((1.0, 1.0))
    found = simulated(model, optimizer, s.LambdaLR(optimizer, noam))
    assert found.horizon == 10_000
    assert all(
        g.lr is not None and (g.lr.peak_step, g.lr.peak) == (4000, pytest.approx(noam(4000))) for g in found.groups
    )
    model, optimizer = pair()
    growing = simulated(model, optimizer, s.ExponentialLR(optimizer, 1.01))  # a range test: it never turns
    assert growing.horizon == 1000


def test_what_was_not_followed_to_the_end_is_said() -> None:
    model, optimizer = pair()
    scheduler = s.MultiplicativeLR(optimizer, lambda t: 0.999999)
    setup = lrlint.inspect(model, optimizer, scheduler, total_steps=1_000_000, graph=False)
    (found,) = setup.schedules
    assert found.capped == found.groups[0].lr.steps[-1] < 1_000_000
    assert f"followed for {found.details['capped']} of 1000000 steps" in (setup.note("schedule") or "")
    assert not found.declared


@pytest.mark.parametrize("name", ["ReduceLROnPlateau", "greedy"])
def test_what_follows_a_metric_is_named_and_not_guessed(name: str) -> None:
    model, optimizer = pair()
    scheduler = s.ReduceLROnPlateau(optimizer)
    if name == "greedy":
        import transformers.optimization

        scheduler = transformers.optimization.get_greedy_schedule(optimizer)
    setup = lrlint.inspect(model, optimizer, scheduler, total_steps=100, graph=False)
    (found,) = setup.schedules
    assert found.groups == ()
    assert "metric that only training produces" in (found.skipped or "")
    assert setup.note("schedule") == found.skipped


def test_a_step_that_needs_a_loss_is_not_guessed() -> None:
    class Follower:
        def __init__(self, optimizer: Any) -> None:
            self.optimizer = optimizer

        def step(self, loss: float) -> None:
            raise AssertionError("was called")

        def get_last_lr(self) -> list[float]:
            return []

    model, optimizer = pair()
    assert "`loss`" in (simulated(model, optimizer, Follower(optimizer)).skipped or "")


# --- nothing of the user's changes ----------------------------------------------------------------------------------


class Counting:
    """A factor with a state of its own."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, step: int) -> float:
        self.calls += 1
        return 0.9**self.calls


def state(optimizer: Any, scheduler: Any) -> str:
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    return repr((groups, {k: v for k, v in vars(scheduler).items() if k != "optimizer"}, list(optimizer.state)))


@pytest.mark.parametrize("name", [*LONG, "plateau"])
def test_the_objects_are_the_same_before_and_after(name: str) -> None:
    model, optimizer = pair()
    scheduler = LONG.get(name, lambda o, n: s.ReduceLROnPlateau(o))(optimizer, 100_000)
    values = [p.detach().clone() for p in model.parameters()]
    before, generators = state(optimizer, scheduler), (torch.get_rng_state(), random.getstate())
    step = optimizer.step
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        simulated(model, optimizer, scheduler, total_steps=100_000)
    assert caught == []
    assert state(optimizer, scheduler) == before
    assert optimizer.step == step
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]
    assert all(torch.equal(a, b) for a, b in zip(values, model.parameters(), strict=True))


def test_state_in_a_closure_and_in_a_callable_is_left_alone() -> None:
    seen: list[int] = []
    counting = Counting()

    def remembering(step: int) -> float:
        seen.append(step)
        return counting(step)

    model, optimizer = pair((0.1,), SGD)
    scheduler = s.LambdaLR(optimizer, remembering)
    before = (list(seen), counting.calls)
    found = simulated(model, optimizer, scheduler, total_steps=5)
    assert (seen, counting.calls) == before
    assert found.groups[0].lr is not None
    assert found.groups[0].lr.last == pytest.approx(0.1 * 0.9**5)


CALLS, HISTORY = 0, [1.0]


def counting_globally(step: int) -> float:
    global CALLS
    CALLS += 1
    return 0.9**CALLS


def keeping_a_global_list(step: int) -> float:
    return _halve()


def _halve() -> float:
    HISTORY[0] *= 0.9
    return HISTORY[0]


@pytest.mark.parametrize("factor", [counting_globally, keeping_a_global_list])
def test_state_in_globals_is_followed_and_left_alone(factor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "CALLS", 0)
    monkeypatch.setitem(globals(), "HISTORY", [1.0])
    model, optimizer = pair((0.1,), SGD)
    scheduler = s.LambdaLR(optimizer, factor)
    before = (CALLS, list(HISTORY))
    found = simulated(model, optimizer, scheduler, total_steps=5)
    assert (CALLS, list(HISTORY)) == before
    assert found.groups[0].lr is not None
    assert found.groups[0].lr.last == pytest.approx(0.1 * 0.9**5)


class Lookahead(torch.optim.Optimizer):
    """An optimizer around another one whose groups it shares."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer, self.param_groups, self.state = optimizer, optimizer.param_groups, optimizer.state
        self.defaults = optimizer.defaults

    def step(self, closure: Any = None) -> Any:
        return self.optimizer.step(closure)


def test_a_scheduler_of_a_wrapper_that_shares_the_groups_is_followed() -> None:
    model, optimizer = pair((0.1,), SGD)
    found = simulated(model, optimizer, s.ExponentialLR(Lookahead(optimizer), 0.5), total_steps=4)
    assert found.groups[0].lr is not None
    assert found.groups[0].lr.last == pytest.approx(0.1 / 8)


def test_random_factors_leave_the_generators_alone() -> None:
    model, optimizer = pair((0.1,), SGD)
    scheduler = s.LambdaLR(optimizer, lambda step: float(torch.rand(())) * random.random())
    torch.manual_seed(3)
    random.seed(3)
    expected = torch.rand(()), random.random()
    torch.manual_seed(3)
    random.seed(3)
    simulated(model, optimizer, scheduler, total_steps=50)
    assert (torch.rand(()), random.random()) == expected


class Uncopyable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def __deepcopy__(self, memo: Any) -> Any:
        raise AssertionError("the model was copied")


def test_a_model_that_a_closure_holds_is_not_copied() -> None:
    model = Uncopyable()
    optimizer = SGD(model.parameters(), lr=0.1)
    scheduler = s.LambdaLR(optimizer, lambda step: 1.0 / (step + len(list(model.parameters()))))
    found = simulated(model, optimizer, scheduler, total_steps=4)
    assert found.groups[0].lr is not None
    assert found.groups[0].lr.last == pytest.approx(0.1 / 5)


def test_a_closure_over_the_optimizer_sees_the_stand_in() -> None:
    model, optimizer = pair((0.1,), SGD)
    s.StepLR(optimizer, 10)

    class Halving:
        """Not a scheduler of torch's, and written against the optimizer it closes over."""

        def __init__(self, optimizer: Any) -> None:
            self.optimizer = optimizer
            self.halve = lambda: optimizer.param_groups[0].update(lr=optimizer.param_groups[0]["lr"] / 2)

        def step(self) -> None:
            self.halve()

    found = simulated(model, optimizer, Halving(optimizer), total_steps=4)
    assert found.groups[0].lr is not None
    assert found.groups[0].lr.values[-1] == pytest.approx(0.1 / 8)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_a_rate_kept_as_a_tensor_is_followed_and_not_written() -> None:
    rate = torch.tensor(0.1)
    model = nn.Linear(2, 2)
    optimizer = AdamW(model.parameters(), lr=rate, foreach=False)
    found = simulated(model, optimizer, s.ExponentialLR(optimizer, 0.5), total_steps=3)
    assert found.groups[0].lr is not None
    assert found.groups[0].lr.last == pytest.approx(0.025)
    assert rate.item() == pytest.approx(0.1)


def test_a_generator_cannot_be_copied_and_that_is_said() -> None:
    rates = (0.9**k for k in range(1000))
    model, optimizer = pair((0.1,), SGD)
    scheduler = s.LambdaLR(optimizer, lambda step: next(rates))
    position = next(rates)
    assert "generator" in (simulated(model, optimizer, scheduler, total_steps=5).skipped or "")
    assert next(rates) == pytest.approx(position * 0.9)


# --- any class ------------------------------------------------------------------------------------------------------


class Timm:
    """The interface of timm.scheduler.scheduler.Scheduler: two counters, one of which the schedule is written in."""

    def __init__(self, optimizer: Any, in_epochs: bool) -> None:
        self.optimizer, self.t_in_epochs, self.t_initial = optimizer, in_epochs, 10
        self.base_values = [group["lr"] for group in optimizer.param_groups]
        self.update_groups(0)

    def update_groups(self, t: int) -> None:
        for group, base in zip(self.optimizer.param_groups, self.base_values, strict=True):
            group["lr"] = base * group.get("lr_scale", 1.0) * max(0.0, 1 - t / 10)

    def step(self, epoch: int, metric: float | None = None) -> None:
        if self.t_in_epochs:
            self.update_groups(epoch)

    def step_update(self, num_updates: int, metric: float | None = None) -> None:
        if not self.t_in_epochs:
            self.update_groups(num_updates)


@pytest.mark.parametrize(("in_epochs", "unit"), [(False, "step"), (True, "epoch")])
def test_timms_interface(in_epochs: bool, unit: str) -> None:
    model, optimizer = pair((1e-3, 1e-3))
    optimizer.param_groups[1]["lr_scale"] = 0.5
    found = simulated(model, optimizer, Timm(optimizer, in_epochs))
    assert (found.unit, found.length.steps) == (unit, 10)
    assert [g.lr.first for g in found.groups if g.lr] == pytest.approx([1e-3, 1e-3 / 2])
    assert [g.lr.last for g in found.groups if g.lr] == pytest.approx([1e-4, 1e-4 / 2])


def test_timm_in_epochs_holds_its_rate_for_an_epoch() -> None:
    model, optimizer = pair((1e-3,))
    found = simulated(model, optimizer, Timm(optimizer, True), total_steps=1000, steps_per_epoch=100)
    assert (found.unit, found.period) == ("step", 100)
    assert found.groups[0].lr is not None
    assert found.groups[0].lr.at(500) == pytest.approx(5e-4)


def test_weight_decay_momentum_and_betas_are_followed() -> None:
    class Decay(s.LRScheduler):
        def get_lr(self) -> list[Any]:
            for group in self.optimizer.param_groups:
                group["weight_decay"] = 0.04 + 0.01 * self.last_epoch
            return [group["lr"] for group in self.optimizer.param_groups]

    model, optimizer = pair((1e-3,))
    found = simulated(model, optimizer, Decay(optimizer), total_steps=11)
    decay = found.groups[0].others["weight_decay"]
    assert (decay.first, decay.last) == pytest.approx((0.04, 0.14))
    model, optimizer = pair((1e-3,))
    found = simulated(model, optimizer, s.OneCycleLR(optimizer, 1e-3, 100), total_steps=100)
    betas = found.groups[0].others["betas.0"]
    assert (betas.first, betas.floor, betas.last) == pytest.approx((0.95, 0.85, 0.95))


def test_schedulers_on_one_optimizer_are_stepped_side_by_side() -> None:
    model, optimizer = pair((1e-3,))
    both = [s.LinearLR(optimizer, 0.1, total_iters=30), s.CosineAnnealingLR(optimizer, 100)]
    found = lrlint.inspect(model, optimizer, both, total_steps=100, graph=False).schedules
    assert [schedule.wiring.together for schedule in found] == [(0, 1), (0, 1)]
    assert found[0].groups[0].lr is not None
    assert found[0].groups[0].lr.peak == pytest.approx(7.94e-4, rel=1e-3)


def test_a_resumed_scheduler_goes_on_where_it_stands() -> None:
    model, optimizer = pair((1.0,), SGD)
    scheduler = s.StepLR(optimizer, 10)
    really(optimizer, scheduler, 25)
    found = simulated(model, optimizer, scheduler, total_steps=40)
    assert found.position.start == 25
    assert found.groups[0].lr is not None
    assert (found.groups[0].lr.steps[0], found.groups[0].lr.first, found.groups[0].lr.last) == pytest.approx(
        (25, 0.01, 1e-3)
    )


def test_the_facts_survive_the_snapshot() -> None:
    import json

    from lrlint.facts import Setup

    model, optimizer = pair()
    setup = lrlint.inspect(model, optimizer, s.OneCycleLR(optimizer, 1e-3, 100), total_steps=100, graph=False)
    again = Setup.from_dict(json.loads(json.dumps(setup.to_dict())))
    assert again.schedules == setup.schedules
