"""Faults of option values and of number formats."""

from __future__ import annotations

import torch
import transformers as hf
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from zoo.seeding import LR, Fault, Sound, seed

EVERY = ((0, 0), (0, 1), (0, 2))


@seed("LR601")
def a_rate_is_text(sound: Sound) -> Fault:
    sound.options[1]["lr"] = "1e-4"
    return Fault(sound.model, sound.adamw(), groups=[(0, 1)])


@seed("LR601")
def a_rate_is_negative(sound: Sound) -> Fault:
    sound.options[1]["lr"] = -LR
    return Fault(sound.model, sound.adamw(), groups=[(0, 1)])


@seed("LR601")
def a_beta_is_above_one(sound: Sound) -> Fault:
    sound.options[0]["betas"] = (0.9, 1.5)
    return Fault(sound.model, sound.adamw(), groups=[(0, 0)], also=("LR607",))


@seed("LR602")
def a_key_is_misspelled(sound: Sound) -> Fault:
    sound.options[2] = {"weight_deacy": 0.0}
    return Fault(sound.model, sound.adamw(), groups=[(0, 2)], also=("LR302", "LR306", "LR304", "LR303"))


@seed("LR602")
def a_key_has_the_name_of_another_library(sound: Sound) -> Fault:
    sound.options[1]["learning_rate"] = 1e-5
    return Fault(sound.model, sound.adamw(), groups=[(0, 1)])


@seed("LR603")
def half_precision_with_the_default_eps(sound: Sound) -> Fault:
    sound.model.half()
    return Fault(sound.model, sound.adamw(foreach=False), groups=EVERY, also=("LR206", "LR113"))


@seed("LR604")
def bfloat16_weights_that_cannot_move(sound: Sound) -> Fault:
    sound.model.bfloat16()
    return Fault(sound.model, sound.adamw(lr=1e-7), groups=EVERY)


@seed("LR605")
def half_precision_weights_with_a_scaler(sound: Sound) -> Fault:
    sound.model.half()
    declared = {"precision": "fp16-mixed", "grad_scaler": torch.amp.GradScaler("cpu")}
    return Fault(sound.model, sound.adamw(eps=1e-4), groups=EVERY, declared=declared)


@seed("LR606")
def an_eps_that_undoes_adam(sound: Sound) -> Fault:
    return Fault(sound.model, sound.adamw(eps=0.1), groups=EVERY)


@seed("LR607")
def the_betas_are_swapped(sound: Sound) -> Fault:
    return Fault(sound.model, sound.adamw(betas=(0.999, 0.9)), groups=EVERY)


@seed("LR608")
def a_group_looks_ahead_without_momentum(sound: Sound) -> Fault:
    sound.options[1].update(nesterov=True, momentum=0.0)
    return Fault(sound.model, SGD(sound.groups(), lr=0.01, momentum=0.9), groups=[(0, 1)], also=("LR601",))


@seed("LR609")
def adafactor_chooses_its_rate_and_is_scheduled(sound: Sound) -> Fault:
    optimizer = hf.Adafactor(sound.model.parameters(), relative_step=True, lr=None)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    run = {"total_steps": 100}
    return Fault(sound.model, optimizer, CosineAnnealingLR(optimizer, 100), groups=[(0, 0)], declared=run)


@seed("LR610", only=("bert", "roberta", "electra", "distilbert", "llama", "qwen3", "mixtral", "mamba", "gpt_neox"))
def a_sparse_table_under_adamw(sound: Sound) -> Fault:
    table = sound.model.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    table.sparse = True
    return Fault(sound.model, sound.adamw(), parameters=[sound.names[id(table.weight)]])
