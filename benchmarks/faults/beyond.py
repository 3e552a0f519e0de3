"""Faults that a look at the setup cannot tell, by their headers: what is silent here is not a miss, and is counted."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import SGD, AdamW

from benchmarks.faults import Net, Setup, data, pair


@pair(
    "beyond",
    "https://arxiv.org/abs/2009.07118 (Defects4ML: wrong loss)",
    "2020",
    beyond="the loss is the author's choice",
    harm=lambda made: float(nn.functional.mse_loss(made["model"](data()[0]), data()[1])),
)
def wrong_loss(fault: bool) -> Setup:
    """A sum of outputs is minimised instead of the error."""
    model = Net()
    loss = (lambda out, y: (out * y).mean()) if fault else nn.functional.mse_loss
    return {"model": model, "optimizer": SGD(model.parameters(), lr=0.05), "loss_fn": loss}


@pair(
    "beyond",
    "https://conf.researchr.org/details/icse-2022 (DeepFD: labels shifted)",
    "2022",
    beyond="the data are not the setup",
    harm=lambda made: float(nn.functional.mse_loss(made["model"](data()[0]), data()[1])),
)
def shifted_labels(fault: bool) -> Setup:
    """Targets belong to the next row."""
    model = Net()
    x, y = data()
    return {"model": model, "optimizer": AdamW(model.parameters(), lr=3e-3), "data": (x, y.roll(1, 0) if fault else y)}


@pair(
    "beyond",
    "https://stackoverflow.com/questions/tagged/pytorch (softmax before a loss that has one)",
    "2021",
    beyond="an activation before the loss is a question of the model",
    steps=300,
)
def squashed_output(fault: bool) -> Setup:
    """A sigmoid after the head of a regression."""
    model = nn.Sequential(Net(), nn.Sigmoid()) if fault else nn.Sequential(Net())
    return {"model": model, "optimizer": AdamW(model.parameters(), lr=3e-3)}


@pair(
    "beyond",
    "https://github.com/pytorch/examples (evaluation mode left on)",
    "2019",
    beyond="the mode is set in the loop: observed by a rehearsal",
    harm=lambda made: 1 / (float(made["model"][1].running_mean.abs().sum()) + 1e-6),
)
def evaluation_mode_left_on(fault: bool) -> Setup:
    """`model.eval()` before training: batch-norm statistics stay at their initial values."""
    model = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4))
    model.train(not fault)
    return {"model": model, "optimizer": SGD(model.parameters(), lr=0.05)}


def noise(count: int = 256) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs in units a thousand times too large, with the usual targets."""
    x, y = data(count)
    return x * 1000, y


@pair(
    "beyond",
    "https://github.com/DeepCrime (inputs not normalised)",
    "2021",
    beyond="the scale of the data is not the setup",
)
def inputs_not_normalised(fault: bool) -> Setup:
    """Inputs are a thousand times as large as the initialisation expects."""
    model = Net()
    return {"model": model, "optimizer": SGD(model.parameters(), lr=0.05), "data": noise() if fault else data()}
