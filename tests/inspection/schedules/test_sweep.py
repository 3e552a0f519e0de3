"""Correct uses of every scheduler of torch and transformers stay silent, over their whole range of parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schedule_makers import HF, TORCH, rates, steps, torch_makers, transformers_makers
from torch import nn
from torch.optim import SGD, AdamW

import lrlint
from lrlint.config.loader import Settings

CODES = (*(f"LR4{number:02}" for number in range(1, 18)), "LR205", "LR210")
BY_DESIGN = {"LR412"}  # a one-cycle schedule does move the momentum: that is told as info


def check(make: Callable[[torch.optim.Optimizer], Any], lrs: list[float], **declared: Any) -> list[Any]:
    """Findings of all schedule rules on groups with the given rates."""
    model = nn.ModuleList(nn.Linear(2, 2) for _ in lrs)
    kind = SGD if max(lrs) > 0.01 else AdamW
    options = {"momentum": 0.9} if kind is SGD else {}
    groups = [{"params": layer.parameters(), "lr": lr} for layer, lr in zip(model, lrs, strict=True)]
    optimizer = kind(groups, lr=lrs[0], **options)
    scheduler = make(optimizer)
    run = lrlint.check(model, optimizer, scheduler, graph=False, settings=Settings(select=CODES), **declared)
    return [found for found in run.findings if found.rule not in BY_DESIGN]


#: Their own length tells that they count epochs; for the others the interval must be declared.
TELLING = ("StepLR", "MultiStepLR", "LinearLR down", "PolynomialLR", "CosineAnnealingLR", "SequentialLR")


def runs(name: str, total: int) -> list[dict[str, Any]]:
    """Declarations of a run as long as the scheduler: in optimizer steps, and in epochs of seven."""
    epochs = {"total_steps": 7 * total, "steps_per_epoch": 7}
    return [{"total_steps": total}, {**epochs, "interval": "epoch"}, *([epochs] if name in TELLING else [])]


def sweep(make: Callable[..., dict[str, Any]], names: list[str]) -> Any:
    """One test per scheduler, each over random parameters, declared in optimizer steps, in epochs, or not at all."""

    @pytest.mark.parametrize("name", names)
    @settings(max_examples=15, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(data=st.data())
    def test(name: str, data: st.DataObject) -> None:
        total = data.draw(steps)
        lrs = data.draw(st.lists(rates, min_size=1, max_size=3))
        made = make(data.draw, total, lrs)[name]
        declared = data.draw(st.sampled_from([{}, *runs(name, total)]))
        assert [f"{f.rule}: {f.message}" for f in check(made, lrs, **declared)] == []

    return test


test_torch_schedulers_are_silent = sweep(torch_makers, TORCH)
test_transformers_schedules_are_silent = sweep(transformers_makers, HF)
