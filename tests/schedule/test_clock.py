"""How often a scheduler is stepped: declared, Lightning's interval, transformers' arguments, or its own length."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from torch.optim import SGD
from torch.optim import lr_scheduler as s

import lrlint
from lrlint.config.loader import Settings
from lrlint.facts import Schedule, Setup
from lrlint.inspection.build import build
from lrlint.targets.load import load


def inspected(make: Any, **declared: Any) -> Setup:
    model = nn.Linear(2, 2)
    optimizer = SGD(model.parameters(), lr=1.0)
    return lrlint.inspect(model, optimizer, make(optimizer), graph=False, **declared)


def followed(make: Any, **declared: Any) -> Schedule:
    (found,) = inspected(make, **declared).schedules
    return found


EPOCHS = {"total_steps": 9000, "steps_per_epoch": 100}


@pytest.mark.parametrize(
    ("make", "period"),
    [
        (lambda o: s.CosineAnnealingLR(o, 90), 100),
        (lambda o: s.CosineAnnealingLR(o, 9000), 1),
        (lambda o: s.CosineAnnealingLR(o, 2250), 1),
        (lambda o: s.MultiStepLR(o, [30, 60]), 100),
        (lambda o: s.MultiStepLR(o, [3000, 6000]), 1),
        (lambda o: s.StepLR(o, 30), 100),
        (lambda o: s.LinearLR(o, total_iters=5), 100),
        (lambda o: s.LinearLR(o, total_iters=500), 1),
        (lambda o: s.LinearLR(o, total_iters=80), 1),
        (lambda o: s.SequentialLR(o, [s.LinearLR(o, total_iters=5), s.CosineAnnealingLR(o, 85)], [5]), 100),
        (lambda o: s.LambdaLR(o, lambda epoch: 0.95**epoch), 100),
        (lambda o: s.LambdaLR(o, lambda step: 0.9995**step), 1),
        (lambda o: s.OneCycleLR(o, 1.0, 9000), 1),
    ],
)
def test_the_clock_fits_the_length(make: Any, period: int) -> None:
    found = followed(make, **EPOCHS)
    assert (found.unit, found.period, found.horizon) == ("step", period, 9000)


def test_a_declared_interval_wins() -> None:
    found = followed(lambda o: s.CosineAnnealingLR(o, 90), **EPOCHS, interval="step")
    assert (found.period, found.clock.source) == (1, "declared")
    found = followed(lambda o: s.LambdaLR(o, lambda step: 0.95**step), **EPOCHS, interval="epoch")
    assert found.period == 100


def test_a_rate_holds_for_its_epoch() -> None:
    found = followed(lambda o: s.StepLR(o, 30), **EPOCHS)
    trace = found.groups[0].lr
    assert trace is not None
    assert [trace.at(step) for step in (2900, 3000, 5900, 6000)] == pytest.approx([1.0, 0.1, 0.1, 0.01])


def test_without_a_run_the_schedulers_own_length_counts() -> None:
    found = followed(lambda o: s.CosineAnnealingLR(o, 50))
    assert (found.horizon, found.horizon_from) == (50, "scheduler")
    assert followed(lambda o: s.LambdaLR(o, lambda t: 1.0)).horizon_from == "default"


def test_a_run_of_many_epochs_is_no_mistake_but_is_said() -> None:
    setup = inspected(lambda o: s.CosineAnnealingLR(o, 90), total_steps=50_000)
    (found,) = setup.schedules
    assert (found.unit, found.horizon) == ("epoch", 90)
    from lrlint.lint.run import lint

    (told,) = lint(setup, Settings(select=("LR4",))).findings
    assert (told.rule, told.severity, told.confidence) == ("LR403", "info", "low")
    assert "declare steps_per_epoch" in told.message


def test_a_length_in_a_closure_is_found() -> None:
    def make(optimizer: Any) -> Any:
        total_steps = 70
        return s.LambdaLR(optimizer, lambda t: max(0.0, 1 - t / total_steps))

    found = followed(make)
    assert (found.horizon, found.length.name) == (70, "total_steps")


# --- Lightning ------------------------------------------------------------------------------------------------------

lightning = pytest.importorskip("lightning.pytorch")


def module(result: Any) -> Any:
    """A LightningModule whose configure_optimizers returns ``result(optimizer, scheduler)``."""

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def configure_optimizers(self) -> Any:
            optimizer = SGD(self.parameters(), lr=0.1, momentum=0.9)
            return result(optimizer, s.OneCycleLR(optimizer, 1e-3, total_steps=30))

    return Module()


def linted(tmp_path: Any, name: str, **declared: Any) -> tuple[Schedule, list[str]]:
    from lrlint.lint.run import lint

    (tmp_path / "target_under_test.py").write_text(
        f"from test_clock import RESULTS, module\n\n"
        f"def factory():\n    return {{'model': module(RESULTS[{name!r}]), **{declared!r}}}\n"
    )
    setup = build(load(f"{tmp_path / 'target_under_test.py'}:factory", root=tmp_path), graph=False)
    return setup.schedules[0], [f.message for f in lint(setup, Settings(select=("LR414",))).findings]


RESULTS = {
    "lists": lambda o, sc: ([o], [sc]),
    "plain dict": lambda o, sc: {"optimizer": o, "lr_scheduler": {"scheduler": sc}},
    "top level": lambda o, sc: {"optimizer": o, "lr_scheduler": sc, "interval": "step"},
    "typo": lambda o, sc: {"optimizer": o, "lr_scheduler": {"scheduler": sc, "intervall": "step"}},
    "step": lambda o, sc: {"optimizer": o, "lr_scheduler": {"scheduler": sc, "interval": "step"}},
    "every other": lambda o, sc: {
        "optimizer": o,
        "lr_scheduler": {"scheduler": sc, "interval": "step", "frequency": 2},
    },
}


@pytest.mark.parametrize("name", ["lists", "plain dict", "top level", "typo"])
def test_lightning_steps_per_epoch_unless_told(tmp_path: Any, name: str) -> None:
    found, messages = linted(tmp_path, name, total_steps=30, steps_per_epoch=10)
    trace = found.groups[0].lr
    assert trace is not None
    rates = [trace.at(step) for step in (0, 9, 10, 19, 29)]
    assert rates == pytest.approx([4e-5, 4e-5, 7.7e-5, 7.7e-5, 1.8e-4], rel=0.05)
    (message,) = messages
    assert "steps it once per epoch, 30 steps long, in a run of 3 epochs" in message


def test_lightning_per_step(tmp_path: Any) -> None:
    found, messages = linted(tmp_path, "step", total_steps=30, steps_per_epoch=10)
    trace = found.groups[0].lr
    assert trace is not None
    assert [trace.at(step) for step in (0, 9, 29)] == pytest.approx([4e-5, 9.9e-4, 4e-9], rel=0.05)
    assert messages == []


def test_lightning_frequency(tmp_path: Any) -> None:
    found, _ = linted(tmp_path, "every other", total_steps=60, steps_per_epoch=10)
    assert found.period == 2
    assert found.groups[0].lr is not None
    assert found.groups[0].lr.peak_step == pytest.approx(16, abs=2)


def test_transformers_trainer_is_stepped_per_optimizer_step(tmp_path: Any) -> None:
    import torch
    import transformers

    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=16, n_positions=16)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=200, warmup_steps=20, learning_rate=1e-3, report_to=[], use_cpu=True
    )
    rows = [{"input_ids": torch.zeros(4, dtype=torch.long), "labels": torch.zeros(4, dtype=torch.long)}] * 8
    trainer = transformers.Trainer(transformers.GPT2LMHeadModel(config), arguments, train_dataset=rows)
    from lrlint.targets.load import adopt

    built = adopt(trainer, None)
    (found,) = build(built, graph=False).schedules
    assert (found.unit, found.period, found.horizon) == ("step", 1, 200)
    assert found.groups[0].lr is not None
    assert (found.groups[0].lr.peak_step, found.groups[0].lr.peak) == (20, pytest.approx(1e-3))


LOOP = """
import torch

def build():
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)

def epoch(model, optimizer, loader):
    for batch in loader:
        model(batch).sum().backward()
        optimizer.step()
        {inner}

def main(loader):
    model, optimizer, scheduler = build()
    for _ in range(30):
        epoch(model, optimizer, loader)
        {outer}
"""


@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [
        ("pass", "scheduler.step()", ("epoch", "source")),
        ("scheduler.step()", "pass", ("step", "source")),
        ("scheduler.step()", "scheduler.step()", ("step", "assumed")),
        ("pass", "scheduler.step(1)", ("step", "assumed")),
        ("if len(batch): scheduler.step()", "pass", ("step", "assumed")),
    ],
)
def test_the_loop_shows_how_often_the_scheduler_is_stepped(
    tmp_path: Path, inner: str, outer: str, expected: tuple[str, str]
) -> None:
    (tmp_path / "train.py").write_text(LOOP.format(inner=inner, outer=outer))
    (found,) = build(load(f"{tmp_path}/train.py:build"), graph=False).schedules
    assert (found.unit, found.clock.source) == expected


def test_a_function_that_only_makes_sense_in_epochs_counts_epochs() -> None:
    linear = lambda e: 1 - max(0, e - 100) / 101  # noqa: E731  # CycleGAN's
    found = followed(lambda o: s.LambdaLR(o, linear), total_steps=200_000, steps_per_epoch=1000)
    assert (found.period, found.clock.source) == (1000, "course")
    assert found.groups[0].lr is not None
    assert found.groups[0].lr.floor == pytest.approx(2 / 101)


@pytest.mark.parametrize(
    "factor",
    [
        lambda t: 0.5 * (1 + math.cos(math.pi * t / 90)),
        lambda t: max(0.0, 1 - t / 90) ** 0.9,
        lambda t: (1 - t / 90) ** 0.9,  # complex where it is read per step
    ],
)
def test_a_function_that_ends_with_the_epochs_counts_epochs(factor: Any) -> None:
    found = followed(lambda o: s.LambdaLR(o, factor), total_steps=900, steps_per_epoch=10)
    assert (found.period, found.clock.source) == (10, "course")


def test_a_function_that_ends_in_the_middle_of_the_run_does_not() -> None:
    found = followed(lambda o: s.LambdaLR(o, lambda t: max(0.0, 1 - t / 450)), total_steps=900, steps_per_epoch=10)
    assert (found.period, found.clock.source) == (1, "assumed")


def test_a_function_that_is_wrong_in_both_clocks_stays_per_step() -> None:
    found = followed(lambda o: s.LambdaLR(o, lambda t: 1 - t / 5), total_steps=2000, steps_per_epoch=100)
    assert (found.period, found.clock.source) == (1, "assumed")
