"""Faults of weight decay: who is decayed, and how strongly."""

from __future__ import annotations

from torch.optim import Adam

from zoo import models
from zoo.seeding import LR, Fault, Sound, seed

#: Their dense layers have no biases.
WITHOUT_BIASES = ("llama", "qwen3", "mixtral", "t5", "resnet")


def _spelling(sound: Sound) -> list[str]:
    """Scales of the norms that are spelled like the first one; the first alone where all are spelled alike."""
    spelled = {name: name.split(".")[-2].rstrip("0123456789") for name in sound.norms}
    alike = [name for name in sound.norms if spelled[name] == spelled[sound.norms[0]]]
    return alike if len(alike) < len(sound.norms) else sound.norms[:1]


@seed("LR301")
def one_spelling_of_the_norms_is_decayed(sound: Sound) -> Fault:
    missed = _spelling(sound)
    sound.move(missed, 0)
    return Fault(sound.model, sound.adamw(), parameters=missed, also=("LR306",))


@seed("LR304", without=WITHOUT_BIASES)
def the_filter_knows_biases_and_no_norm(sound: Sound) -> Fault:
    sound.move(sound.norms, 0)
    return Fault(sound.model, sound.adamw(), parameters=sound.norms)


@seed("LR303", without=(*WITHOUT_BIASES, "mamba"))
def one_bias_is_decayed(sound: Sound) -> Fault:
    missed = sound.biases[:1]
    sound.move(missed, 0)
    return Fault(sound.model, sound.adamw(), parameters=missed)


@seed("LR305")
def the_two_lists_are_swapped(sound: Sound) -> Fault:
    sound.options = [{"weight_decay": 0.0}, {"weight_decay": 0.0}, {"weight_decay": 0.1}]
    return Fault(sound.model, sound.adamw(), groups=[(0, 2)], also=("LR302",))


@seed("LR306", without=("resnet", "convnext", "swin"))
def one_matrix_of_many_is_spared(sound: Sound) -> Fault:
    odd = sound.repeated()[0]
    sound.move([odd], 2)
    return Fault(sound.model, sound.adamw(), parameters=[odd])


@seed("LR307")
def what_the_author_marked_is_decayed(sound: Sound) -> Fault:
    marked = sound.repeated()[0]
    sound.parameter(marked)._no_weight_decay = True
    return Fault(sound.model, sound.adamw(), parameters=[marked])


@seed("LR307")
def what_the_model_declares_is_decayed(sound: Sound) -> Fault:
    declared = sound.matrices[0]
    kind = type(sound.model)
    sound.model.__class__ = type(kind.__name__, (kind,), {"no_weight_decay": lambda self: {declared}})
    return Fault(sound.model, sound.adamw(), parameters=[declared])


@seed("LR308", only=("mamba",))
def the_dynamics_are_decayed(sound: Sound) -> Fault:
    dynamics = [n for n, _ in sound.named if n.endswith(("A_log", ".D"))]
    sound.move(dynamics, 0)
    return Fault(sound.model, sound.adamw(), parameters=dynamics)


@seed("LR309", only=("clip", "convnext"))
def a_scale_is_decayed(sound: Sound) -> Fault:
    scales = [n for n, _ in sound.named if n.endswith(("logit_scale", "layer_scale_parameter"))]
    sound.move(scales, 0)
    return Fault(sound.model, sound.adamw(), parameters=scales)


@seed("LR310")
def adam_with_the_decay_of_adamw(sound: Sound) -> Fault:
    return Fault(sound.model, Adam(sound.groups(), lr=LR), groups=[(0, 0), (0, 1)])


@seed("LR311")
def the_groups_override_the_decay(sound: Sound) -> Fault:
    sound.options = [{"weight_decay": 0.0}] * 3
    return Fault(sound.model, sound.adamw(weight_decay=0.05), groups=[(0, 0), (0, 1), (0, 2)])


@seed("LR312")
def the_decay_is_a_thousand_times_too_strong(sound: Sound) -> Fault:
    sound.options[0]["weight_decay"] = 200.0
    return Fault(sound.model, sound.adamw(), groups=[(0, 0)], also=("LR306",))


@seed("LR302")
def everything_decays(sound: Sound) -> Fault:
    sound.options[2]["weight_decay"] = 0.1
    declared = {"total_steps": 100_000}
    return Fault(sound.model, sound.adamw(), parameters=models.norm_scales(sound.model), declared=declared)
