"""What torch's schedulers silently do is said before training, with the numbers of the group it happens to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim import lr_scheduler as s

import lrlint
from lrlint.config.loader import Settings


class Setup:
    """Two groups at 1e-5 and 1e-3 inside a factory, so that their construction is seen."""

    def __init__(self, tmp_path: Any) -> None:
        self.path = tmp_path

    def check(self, body: str, *codes: str, **declared: Any) -> list[str]:
        """Severity and message of each finding on the factory whose body this is (model, optimizer → scheduler)."""
        lines = "\n    ".join(body.strip().splitlines())
        extra = ", ".join(f'"{key}": {value!r}' for key, value in declared.items())
        (self.path / "schedule_under_test.py").write_text(
            "import torch\nfrom torch import nn\nfrom torch.optim import *\nfrom torch.optim.lr_scheduler import *\n"
            "def factory():\n"
            "    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)])\n"
            "    slow = {'params': model[0].parameters(), 'lr': 1e-5}\n"
            "    groups = [slow, {'params': model[1].parameters(), 'lr': 1e-3}]\n"
            f"    {lines}\n"
            f"    return {{'model': model, 'optimizer': optimizer, 'scheduler': scheduler, {extra}}}\n"
        )
        from lrlint.inspection.build import build
        from lrlint.lint.run import lint
        from lrlint.targets.load import load

        built = load(f"{self.path / 'schedule_under_test.py'}:factory", root=self.path)
        found = lint(build(built, graph=False), Settings(select=codes)).findings
        return [f"{f.severity}: {f.message}" for f in found]


@pytest.fixture
def setup(tmp_path: Any) -> Setup:
    return Setup(tmp_path)


def test_one_cycle_flattens_the_groups(setup: Setup) -> None:
    body = "optimizer = AdamW(groups)\nscheduler = OneCycleLR(optimizer, 1e-3, total_steps=100)"
    assert setup.check(body, "LR401") == [
        "warning: OneCycleLR gives all 2 groups one rate, 1e-03 at its peak: group 0 had 1e-05 and group 1 had 1e-03"
    ]


def test_one_cycle_replaces_beta1(setup: Setup) -> None:
    body = (
        "optimizer = AdamW(groups, betas=(0.9, 0.98))\nscheduler = OneCycleLR(optimizer, [1e-5, 1e-3], total_steps=100)"
    )
    assert setup.check(body, "LR412") == [
        "info: OneCycleLR sets beta1 to 0.95 and moves it between 0.85 and 0.95; 0.9 was configured"
    ]


@pytest.mark.parametrize(
    ("call", "given", "low", "high"),
    [
        ("OneCycleLR(optimizer, 0.1, total_steps=100)", "0", "0.85", "0.95"),
        ("CyclicLR(optimizer, 0.01, 0.1)", "0", "0.8", "0.9"),
    ],
)
def test_a_cycle_gives_sgd_momentum(setup: Setup, call: str, given: str, low: str, high: str) -> None:
    (found,) = setup.check(f"optimizer = SGD(groups)\nscheduler = {call}", "LR412")
    assert f"sets momentum to {high} and moves it between {low} and {high}; {given} was configured" in found


def test_one_step_beyond_one_cycle(setup: Setup) -> None:
    body = "optimizer = AdamW(groups)\nscheduler = OneCycleLR(optimizer, [1e-5, 1e-3], total_steps=50)"
    (found,) = setup.check(body, "LR403", total_steps=60)
    assert found.startswith("error: OneCycleLR raises at step 51 of 60: Tried to step 51 times")


@pytest.mark.parametrize(
    "call",
    ["CosineAnnealingLR(optimizer, 100, eta_min=1e-4)", "CosineAnnealingWarmRestarts(optimizer, 100, eta_min=1e-4)"],
)
def test_a_floor_above_a_rate_raises_it(setup: Setup, call: str) -> None:
    (found,) = setup.check(f"optimizer = AdamW(groups)\nscheduler = {call}", "LR402", total_steps=100)
    assert found == "warning: group 0: 1e-05 → 1e-04, rises 10×: eta_min 1e-04 is above its rate" or (
        "Restarts" in call and found.startswith("warning: group 0: 1e-05 → 9.9")
    )


def test_a_floor_above_many_rates_is_one_finding(setup: Setup) -> None:
    body = """
ladder = [{'params': [p], 'lr': 1e-6 * 2 ** k} for k, p in enumerate(model.parameters())]
optimizer = AdamW(ladder)
scheduler = CosineAnnealingLR(optimizer, 100, eta_min=1e-5)
"""
    (rises,) = setup.check(body, "LR402", total_steps=100)
    assert (
        rises
        == "warning: group 0: 1e-06 → 1e-05, rises 10×: eta_min 1e-05 is above its rate, and 3 other groups likewise"
    )


def test_a_decay_is_judged_by_a_declared_clock_alone(setup: Setup) -> None:
    body = "optimizer = AdamW(groups)\nscheduler = ExponentialLR(optimizer, 0.95)"
    assert not setup.check(body, "LR403", total_steps=1000)
    (found,) = setup.check(body, "LR403", total_steps=1000, interval="step")
    assert found.startswith("warning: ExponentialLR ends at step 13")
    assert ": no more than 9." in found


def test_a_cosine_comes_back(setup: Setup) -> None:
    body = "optimizer = AdamW(groups)\nscheduler = CosineAnnealingLR(optimizer, 5)"
    (found,) = setup.check(body, "LR403", total_steps=10)
    assert found.startswith("warning: CosineAnnealingLR ends at step 5 of 10 (T_max=5) and then rises again to 9.0")


@pytest.mark.parametrize(
    ("t_max", "said"),
    [("0", "raises ZeroDivisionError at step 1"), ("0.5", "leaves the rate constant at 1e-05 (T_max=0.5")],
)
def test_impossible_lengths(setup: Setup, t_max: str, said: str) -> None:
    body = f"optimizer = AdamW(groups)\nscheduler = CosineAnnealingLR(optimizer, {t_max})"
    (found,) = setup.check(body, "LR409", total_steps=10)
    assert said in found


LATE = """
optimizer = AdamW(groups)
scheduler = {}
optimizer.add_param_group({{'params': model[2].parameters(), 'lr': 1e-3}})
"""


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            "LambdaLR(optimizer, lambda t: 0.9 ** t)",
            "error: LambdaLR was built for 2 groups (base_lrs), the optimizer has 3: ValueError at step 1",
        ),
        ("MultiplicativeLR(optimizer, lambda t: 0.9)", "ValueError at step 1"),
        ("CosineAnnealingWarmRestarts(optimizer, 10)", "ValueError at step 1"),
        ("CyclicLR(optimizer, 1e-4, 1e-3, cycle_momentum=False)", "ValueError at step 1"),
        ("OneCycleLR(optimizer, 1e-3, total_steps=100)", "KeyError at step 1"),
        ("LinearLR(optimizer)", "group 2 goes from 1e-03 to 3e-03, 3× its rate"),
        ("LinearLR(optimizer, start_factor=0.01)", "group 2 goes from 1e-03 to 0.1, 100× its rate"),
        ("ConstantLR(optimizer, factor=0.1)", "group 2 goes from 1e-03 to 0.01, 10× its rate"),
        (
            "ReduceLROnPlateau(optimizer, min_lr=[1e-6, 1e-6])",
            "error: ReduceLROnPlateau was built for 2 groups (min_lrs), the optimizer has 3: it raises at the first",
        ),
        ("StepLR(optimizer, 10)", "info: "),
        ("MultiStepLR(optimizer, [10])", "info: "),
        ("ExponentialLR(optimizer, 0.9)", "info: "),
        ("CosineAnnealingLR(optimizer, 100)", "info: "),
        ("PolynomialLR(optimizer, 100)", "info: "),
        (
            "SequentialLR(optimizer, [LinearLR(optimizer, 0.01, 1, 3), CosineAnnealingLR(optimizer, 97)], [3])",
            "error: ",
        ),
    ],
)
def test_a_group_added_after_the_scheduler(setup: Setup, call: str, said: str) -> None:
    (found,) = setup.check(LATE.format(call), "LR404", total_steps=100)
    assert said in found


@pytest.mark.parametrize(
    "call", ["LinearLR(optimizer, start_factor=0.01)", "OneCycleLR(optimizer, [1e-5, 1e-3], total_steps=100)"]
)
def test_a_late_group_is_judged_by_the_rate_it_was_given(setup: Setup, call: str) -> None:
    found = setup.check(LATE.format(call), "LR2", total_steps=100)
    assert [text.split(" ")[0] for text in found if "100× apart" not in text] == []
    assert all(text.startswith("info") for text in found)


def test_a_plateau_scheduler_with_one_floor_adapts(setup: Setup) -> None:
    assert setup.check(LATE.format("ReduceLROnPlateau(optimizer, min_lr=1e-7)"), "LR404") == []


def test_a_plateau_floor_above_a_rate(setup: Setup) -> None:
    body = "optimizer = AdamW(groups)\nscheduler = ReduceLROnPlateau(optimizer, min_lr=1e-4)"
    assert setup.check(body, "LR402") == [
        "info: group 0 stays at 1e-05 at every plateau: min_lr 1e-04 is above its rate"
    ]


def test_a_function_that_returns_the_rate(setup: Setup) -> None:
    body = "optimizer = AdamW(model.parameters(), lr=1e-3)\nscheduler = LambdaLR(optimizer, lambda t: 1e-3)"
    (found,) = setup.check(body, "LR407")
    assert found.startswith("error: group 0: 1e-03 → 1e-06 at its peak")


def test_functions_that_share_the_loop_variable(setup: Setup) -> None:
    body = "optimizer = AdamW(groups)\nscheduler = LambdaLR(optimizer, [lambda t: f for f in (1, 0.1)])"
    (found,) = setup.check(body, "LR408")
    assert "share the loop variable `f`" in found


def test_shared_variables_without_a_source_are_told_as_info() -> None:
    scope: dict[str, Any] = {}
    exec("def make():\n    return [lambda t: f for f in (1.0, 0.1)]", scope)
    model = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
    optimizer = AdamW([{"params": m.parameters()} for m in model], lr=1e-3)
    scheduler = s.LambdaLR(optimizer, scope["make"]())
    run = lrlint.check(model, optimizer, scheduler, graph=False, settings=Settings(select=("LR408",)))
    assert [(f.severity, f.data["variables"]) for f in run.findings] == [("info", ["f"])]


def test_a_sequence_runs_past_its_end(setup: Setup) -> None:
    body = """
parts = lambda o: [LinearLR(o, 0.1, 1, 3), CosineAnnealingLR(o, 4)]
optimizer = AdamW(groups)
scheduler = SequentialLR(optimizer, parts(optimizer), [3])
"""
    (found,) = setup.check(body, "LR403", total_steps=14)
    assert "SequentialLR ends at step 7 of 14 (milestones + T_max=7) and then rises again" in found


def test_a_second_scheduler_takes_a_stale_base(setup: Setup) -> None:
    body = """
optimizer = AdamW(model.parameters(), lr=1e-3)
StepLR(optimizer, 10)
optimizer.param_groups[0]['lr'] = 5e-2
scheduler = CosineAnnealingLR(optimizer, 100)
"""
    assert setup.check(body, "LR406") == [
        "warning: group 0 has lr 0.05, but CosineAnnealingLR scales the initial_lr 1e-03 it found"
    ]


def test_two_schedulers_side_by_side(setup: Setup) -> None:
    body = """
optimizer = AdamW(model.parameters(), lr=1e-3)
scheduler = [LinearLR(optimizer, 0.1, total_iters=30), CosineAnnealingLR(optimizer, 100)]
"""
    (found,) = setup.check(body, "LR413", total_steps=100)
    assert "stepped side by side the rate peaks at 7.94e-04 instead of 1e-03" in found


def test_a_negative_rate(setup: Setup) -> None:
    body = "optimizer = AdamW(model.parameters(), lr=0.1)\nscheduler = LambdaLR(optimizer, lambda t: 1 - t / 5)"
    (found,) = setup.check(body, "LR409", total_steps=9)
    assert "negative from step 6 of 9 on, down to -0.06" in found


def test_transformers_cosine_climbs_back(setup: Setup) -> None:
    body = """
from transformers import get_cosine_schedule_with_warmup
optimizer = AdamW(model.parameters(), lr=1e-3)
scheduler = get_cosine_schedule_with_warmup(optimizer, 10, 500)
"""
    (found,) = setup.check(body, "LR403", total_steps=1000)
    assert "LambdaLR ends at step 500 of 1000 (num_training_steps=500) and then rises again to 1e-03" in found


def test_last_epoch_with_a_stamped_rate(setup: Setup) -> None:
    body = """
optimizer = SGD([{'params': model.parameters(), 'initial_lr': 0.1}], lr=0.1)
scheduler = CosineAnnealingLR(optimizer, 10, last_epoch=5)
"""
    (found,) = setup.check(body, "LR406")
    assert "last_epoch=5 on a fresh optimizer: the rate is still the full 0.1" in found


class Accelerated:
    """accelerate's wrapper, without a process group."""

    split_batches = False
    step_with_optimizer = True

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.optimizers = [scheduler.optimizer]

    def step(self) -> None:
        raise AssertionError("the wrapper itself is not stepped")

    def get_last_lr(self) -> list[float]:
        return self.scheduler.get_last_lr()  # type: ignore[no-any-return]


Accelerated.__module__ = "accelerate.scheduler"


def test_accelerate_steps_once_per_process() -> None:
    model = nn.Linear(2, 2)
    optimizer = SGD(model.parameters(), lr=0.1)
    wrapped = Accelerated(s.PolynomialLR(optimizer, 1000))
    run = lrlint.check(
        model, optimizer, wrapped, total_steps=1000, world_size=4, graph=False, settings=Settings(select=("LR403",))
    )
    (found,) = run.findings
    assert "ends at step 250 of 1000" in found.message
    assert "accelerate steps it 4 times per optimizer step" in found.message


def test_layer_decay_is_lost_under_a_torch_scheduler() -> None:
    model = nn.ModuleList(nn.Linear(2, 2) for _ in range(4))
    groups = [{"params": m.parameters(), "lr_scale": 0.5**k} for k, m in enumerate(model)]
    optimizer = AdamW(groups, lr=1e-3)
    scheduler = s.CosineAnnealingLR(optimizer, 100)
    run = lrlint.check(model, optimizer, scheduler, graph=False, settings=Settings(select=("LR210",)))
    assert [f.message for f in run.findings] == [
        "`lr_scale` runs from 0.125 to 1 over 4 groups, but all of them have lr 1e-03: "
        "CosineAnnealingLR does not apply it"
    ]
    assert torch.is_grad_enabled()
