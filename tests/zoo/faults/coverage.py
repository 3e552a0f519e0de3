"""Faults of membership and identity: who is in which optimizer."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim import AdamW, Muon

from zoo.seeding import LR, Fault, Sound, seed


def everything(sound: Sound) -> list[tuple[int, int]]:
    """All groups of the one optimizer."""
    return [(0, number) for number in range(len(sound.lists))]


TIED = ("gpt2", "t5", "whisper")  # as their configurations say


@seed("LR101", anywhere=True)
def a_layer_is_dropped(sound: Sound) -> Fault:
    lost = sound.block()
    sound.drop(lost)
    return Fault(sound.model, sound.adamw(), parameters=lost)


@seed("LR101")
def only_matrices_are_collected(sound: Sound) -> Fault:
    optimizer = AdamW([sound.parameter(n) for n in sound.matrices], lr=LR, weight_decay=0.1)
    lost = [n for n, _ in sound.named if n not in sound.matrices]
    return Fault(sound.model, optimizer, parameters=lost)


@seed("LR102", anywhere=True)
def the_head_is_replaced_after_the_optimizer(sound: Sound) -> Fault:
    optimizer, last = sound.adamw(), sound.last()
    sound.replace(last, nn.Parameter(sound.parameter(last).detach().clone()))
    return Fault(sound.model, optimizer, parameters=[last], also=("LR101",))


@seed("LR102", anywhere=True)
def the_model_is_copied_after_the_optimizer(sound: Sound) -> Fault:
    return Fault(copy.deepcopy(sound.model), sound.adamw(), groups=everything(sound), also=("LR101",))


@seed("LR103", anywhere=True)
def a_parameter_is_listed_twice(sound: Sound) -> Fault:
    twice = sound.matrices[0]
    sound.lists[0].append(twice)
    return Fault(sound.model, sound.adamw(), parameters=[twice])


@seed("LR104", anywhere=True)
def two_optimizers_share_a_layer(sound: Sound) -> Fault:
    shared = sound.block()
    second = AdamW([sound.parameter(n) for n in shared], lr=LR, weight_decay=0.0)
    return Fault(sound.model, [sound.adamw(), second], parameters=shared)


@seed("LR105", anywhere=True)
def layers_stand_in_a_plain_list(sound: Sound) -> Fault:
    sound.model.extra_heads = [nn.Linear(8, 8), nn.Linear(8, 8)]
    lost = [f"extra_heads[{k}].{leaf}" for k in (0, 1) for leaf in ("weight", "bias")]
    return Fault(sound.model, sound.adamw(), parameters=lost)


@seed("LR106", anywhere=True)
def a_parameter_is_scaled_where_it_is_made(sound: Sound) -> Fault:
    sound.model.gate = nn.Parameter(torch.ones(8)) * 0.1
    return Fault(sound.model, sound.adamw(), says="`gate`")


@seed("LR107", anywhere=True)
def the_loss_has_weights_of_its_own(sound: Sound) -> Fault:
    criterion = nn.Linear(32, 4, bias=False)
    declared = {"extra_modules": {"criterion": criterion}}
    return Fault(sound.model, sound.adamw(), declared=declared, parameters=["criterion.weight"])


@seed("LR108", anywhere=True)
def a_pattern_matches_nothing(sound: Sound) -> Fault:
    sound.lists.append([])
    sound.options.append({"lr": 10 * LR, "weight_decay": 0.0})
    return Fault(sound.model, sound.adamw(), groups=everything(sound)[-1:])


@seed("LR110", anywhere=True)
def frozen_with_a_gradient_in_place(sound: Sound) -> Fault:
    frozen = sound.matrices[-1]
    optimizer, parameter = sound.adamw(), sound.parameter(frozen)
    parameter.grad = torch.ones_like(parameter)
    parameter.requires_grad_(False)
    return Fault(sound.model, optimizer, parameters=[frozen])


@seed("LR112", anywhere=True)
def two_parameters_share_their_storage(sound: Sound) -> Fault:
    met: dict[torch.Size, str] = {}
    for second in sound.matrices:
        first = met.setdefault(sound.parameter(second).shape, second)
        if first != second:
            break
    sound.replace(second, nn.Parameter(sound.parameter(first).data))
    return Fault(sound.model, sound.adamw(), parameters=[first, second])


@seed("LR113", only=TIED)
def the_tie_is_broken(sound: Sound) -> Fault:
    head = sound.model.get_output_embeddings()
    table = sound.names[id(head.weight)]
    head.weight = nn.Parameter(head.weight.detach().clone())
    names = [n for n, p in sound.model.named_parameters() if p.requires_grad and n not in dict(sound.named)]
    sound.lists[1] += names
    return Fault(sound.model, sound.adamw(), parameters=[*names, table])


@seed("LR115")
def everything_is_frozen(sound: Sound) -> Fault:
    sound.model.requires_grad_(False)
    return Fault(sound.model, sound.adamw(), groups=[(0, 0), (0, 1), (0, 2)])


@seed("LR116")
def the_state_of_other_parameters_is_loaded(sound: Sound) -> Fault:
    before = sound.adamw()
    for parameter in (p for group in before.param_groups for p in group["params"]):
        parameter.grad = torch.zeros_like(parameter)
    before.step()
    before.zero_grad()
    shapes = {n: sound.parameter(n).shape for n in sound.lists[0]}
    first, second = sound.lists[0][0], next(n for n in sound.lists[0] if shapes[n] != shapes[sound.lists[0][0]])
    names = sound.lists[0]
    one, two = names.index(first), names.index(second)
    names[one], names[two] = names[two], names[one]
    after = sound.adamw()
    after.load_state_dict(before.state_dict())
    return Fault(sound.model, after, parameters=[first, second])


@seed("LR117", anywhere=True)
def a_layer_will_be_unfrozen_later(sound: Sound) -> Fault:
    frozen = sound.block()
    for name in frozen:
        sound.parameter(name).requires_grad_(False)
    sound.drop(frozen)
    declared = {"unfreezes": [f"{frozen[0].rpartition('.')[0]}.*"]}
    return Fault(sound.model, sound.adamw(), declared=declared, parameters=frozen)


@seed("LR119", without=("resnet", "convnext", "vit", "swin", "wav2vec2", "clip", "whisper"))
def an_embedding_goes_to_muon(sound: Sound) -> Fault:
    table = sound.model.get_input_embeddings().weight
    name = sound.names[id(table)]
    hidden = [n for n in sound.repeated() if sound.parameter(n).ndim == 2]
    muon = Muon([sound.parameter(n) for n in [name, *hidden]], lr=0.02)
    sound.drop([name, *hidden])
    return Fault(sound.model, [muon, sound.adamw()], parameters=[name])


@seed("LR109")
def a_frozen_layer_stays_in_the_optimizer(sound: Sound) -> Fault:
    frozen = sound.block()
    for name in frozen:
        sound.parameter(name).requires_grad_(False)
    return Fault(sound.model, sound.adamw(), parameters=frozen)


@seed("LR111")
def two_groups_are_the_same(sound: Sound) -> Fault:
    return Fault(sound.model, sound.adamw(), groups=[(0, 0), (0, 1)])
