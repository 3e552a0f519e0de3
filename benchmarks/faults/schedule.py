"""Schedules that end early, raise, or drive something else."""

from __future__ import annotations

import warnings

import torch
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, OneCycleLR, StepLR

from benchmarks.faults import Net, Setup, pair


def constant_rate(made: Setup) -> float:
    """The rate that is left at the end of the run."""
    return max(float(g["lr"]) for g in made["optimizer"].param_groups)


def runs_out(made: Setup) -> float:
    """Whether the scheduler raises before the declared run is over (only the scheduler is stepped)."""
    scheduler = made["scheduler"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for _ in range(made["total_steps"] - scheduler.last_epoch - 1):
                scheduler.step()
        except ValueError:
            return 1.0
    return 0.0


@pair(
    "schedule", "https://github.com/vLAR-group/GrowSP/issues/11", "2023", "LR403", names="60000", harm=runs_out, steps=2
)
def one_cycle_runs_out(fault: bool) -> Setup:
    """60,000 steps of OneCycleLR in a run of 64,000: `step()` raises near the end."""
    model = Net()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = OneCycleLR(optimizer, max_lr=0.1, total_steps=60000 if fault else 64000)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 64000}


@pair("schedule", "https://github.com/hazdzz/stgcn/issues/18", "2021", "LR403", names="StepLR", steps=4000)
def epochs_stepped_per_batch(fault: bool) -> Setup:
    """StepLR(10, 0.95) counts epochs and is stepped per batch: the rate is gone for most of the run."""
    model = Net()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    scheduler = StepLR(optimizer, step_size=10 if fault else 400, gamma=0.95)
    made = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "train": per_step}
    return {**made, "total_steps": 4000, "steps_per_epoch": 40}


def per_step(model, optimizer, scheduler, loader):
    """The loop that is read, not run."""
    for x, y in loader:
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
        scheduler.step()


@pair(
    "schedule",
    "https://github.com/ContextualAI/HALOs/pull/33",
    "2024",
    "LR403",
    names="CosineAnnealingLR",
    harm=constant_rate,
)
def cosine_comes_back(fault: bool) -> Setup:
    """T_max is half of the run: the cosine climbs back to the full rate."""
    model = Net()
    optimizer = SGD(model.parameters(), lr=0.5, momentum=0.9)
    scheduler = CosineAnnealingLR(optimizer, T_max=100 if fault else 200)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 200}


@pair(
    "schedule",
    "https://github.com/huggingface/transformers/issues/324",
    "2019",
    "LR409",
    names="negative",
    harm=lambda made: -min(float(g["lr"]) for g in made["optimizer"].param_groups) + 1e-3,
)
def rate_becomes_negative(fault: bool) -> Setup:
    """A linear decay over 150 steps without a floor, in a run of 200: gradient ascent at the end."""
    model = Net()
    optimizer = SGD(model.parameters(), lr=0.1)
    scheduler = LambdaLR(optimizer, lambda t: 1 - t / 150 if fault else max(0.0, 1 - t / 200))
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 200}


@pair(
    "schedule",
    "https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.LambdaLR.html",
    "2026",
    "LR407",
)
def lambda_returns_the_rate(fault: bool) -> Setup:
    """LambdaLR multiplies: a function that returns the rate gives its square."""
    model = Net()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    scheduler = LambdaLR(optimizer, lambda t: 1e-3 * 0.999**t if fault else 0.999**t)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 200}


@pair(
    "schedule", "https://github.com/ildoonet/pytorch-gradual-warmup-lr/issues/27", "2021", "LR405", harm=constant_rate
)
def scheduler_of_an_old_optimizer(fault: bool) -> Setup:
    """The optimizer is built anew after the scheduler: nothing anneals the one that trains."""
    model = Net()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = CosineAnnealingLR(optimizer, T_max=200)
    if fault:
        optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 200}


@pair("schedule", "https://github.com/hirofumi0810/neural_sp/issues/137", "2020", "LR411", names="warm-up")
def warm_up_as_long_as_the_run(fault: bool) -> Setup:
    """The warm-up is counted before accumulation: the run ends before it does."""
    model = Net()
    optimizer = AdamW(model.parameters(), lr=3e-3)
    scheduler = LinearLR(optimizer, start_factor=0.01, total_iters=1600 if fault else 20)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 200}


@pair(
    "schedule",
    "https://github.com/ultralytics/yolov5/issues/292",
    "2020",
    "LR406",
    "LR416",
    names="lr",
    harm=constant_rate,
    steps=3,
)
def scheduler_built_after_the_load(fault: bool) -> Setup:
    """A scheduler that is built after the optimizer was restored writes the full rate back."""
    model = Net()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(2, 16)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    half = LambdaLR(optimizer, lambda t: 0.5 ** (t / 40)) if not fault else None
    optimizer.param_groups[0].update(lr=0.05, initial_lr=0.1)
    scheduler = half or LambdaLR(optimizer, lambda t: 0.5 ** (t / 40))
    scheduler.last_epoch = 40
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler}


@pair("schedule", "https://github.com/pytorch/pytorch/issues/21965", "2019", "LR419")
def scheduler_stepped_while_building(fault: bool) -> Setup:
    """A look at the curve leaves the scheduler at its end."""
    model = Net()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = CosineAnnealingLR(optimizer, T_max=400)
    for _ in range(380 if fault else 0):
        scheduler.step()
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 400}
