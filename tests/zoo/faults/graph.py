"""Faults that show in the forward pass alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from zoo.seeding import Fault, Sound, seed


@seed("LR501", graph=True)
def a_layer_is_never_called(sound: Sound) -> Fault:
    sound.model.aside = nn.Linear(8, 8)
    sound.take("aside.weight", 1)
    sound.take("aside.bias", 2)
    return Fault(sound.model, sound.adamw(), parameters=["aside.weight", "aside.bias"])


@seed("LR502", only=("bert", "roberta", "electra", "gpt_neox", "llama", "qwen3"), graph=True)
def the_embedding_runs_without_a_graph(sound: Sound) -> Fault:
    table = sound.model.get_input_embeddings()
    table.forward = torch.no_grad()(table.forward)
    return Fault(sound.model, sound.adamw(), parameters=[sound.names[id(table.weight)]])


@seed("LR503", only=("resnet",), graph=True)
def convolutions_have_biases_before_norms(sound: Sound) -> Fault:
    added = []
    for name, module in sound.model.named_modules():
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
            sound.take(f"{name}.bias", 2)
            added.append(f"{name}.bias")
    return Fault(sound.model, sound.adamw(), parameters=added)


@seed("LR506", only=("resnet",), graph=True)
def batches_are_too_small_for_their_norms(sound: Sound) -> Fault:
    inputs: Any = {"pixel_values": torch.zeros(1, 3, 16, 16)}
    declared = {"batch_size": 1, "example_inputs": inputs}
    return Fault(sound.model, sound.adamw(), says="batch", declared=declared)
