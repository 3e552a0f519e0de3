"""Faults of normalisation layers."""

from __future__ import annotations

import torch
from torch import nn

from zoo.seeding import LR, Fault, Sound, seed

WITHOUT_SHIFTS = ("llama", "qwen3", "mixtral", "mamba", "t5")


@seed("LR504", only=("resnet",))
def a_frozen_body_keeps_its_statistics_moving(sound: Sound) -> Fault:
    body = [n for n, _ in sound.named if n.startswith("resnet.")]
    for name in body:
        sound.parameter(name).requires_grad_(False)
    sound.drop(body)
    sound.lists, sound.options = [names for names in sound.lists if names], [{"lr": LR}, {"lr": LR}]
    return Fault(sound.model, sound.adamw(), says="the frozen `resnet`")


@seed("LR505", only=("resnet",))
def the_momentum_of_another_library(sound: Sound) -> Fault:
    for module in sound.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.99
    return Fault(sound.model, sound.adamw(), says="momentum 0.99 in 10 norm layers")


@seed("LR507", without=WITHOUT_SHIFTS)
def shifts_run_a_hundred_times_faster(sound: Sound) -> Fault:
    shifts = [
        n.removesuffix("weight") + "bias" for n in sound.norms if n.removesuffix("weight") + "bias" in sound.lists[2]
    ]
    sound.lists.append([])
    sound.options.append({"lr": 100 * LR, "weight_decay": 0.0})
    sound.move(shifts, 3)
    scales = [n.removesuffix("bias") + "weight" for n in shifts]
    return Fault(sound.model, sound.adamw(), parameters=[*shifts, *scales])


@seed("LR509", without=WITHOUT_SHIFTS)
def scales_are_frozen_and_shifts_train(sound: Sound) -> Fault:
    for name in sound.norms:
        sound.parameter(name).requires_grad_(False)
    sound.drop(sound.norms)
    halves = [n for n in sound.norms if isinstance(_shift(sound, n), torch.Tensor)]
    shifts = [n.removesuffix("weight") + "bias" for n in halves]
    return Fault(sound.model, sound.adamw(), parameters=[*halves, *shifts])


def _shift(sound: Sound, scale: str) -> torch.Tensor | None:
    return getattr(sound.model.get_submodule(scale.rpartition(".")[0]), "bias", None)
