"""Setups made of facts, for fixtures whose cases cannot be built in a moment: see `lrlint.testing`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lrlint.facts import (
    Group,
    GroupSchedule,
    LoopFacts,
    Optimizer,
    Parameter,
    ProbeFacts,
    Schedule,
    Setup,
    Trace,
    Training,
)
from lrlint.facts.loop import Happening
from lrlint.facts.probe import LowRates, ProbeGroup
from lrlint.facts.source import SourceCall, SourceFacts
from lrlint.facts.span import Span

#: Roles of tensors with one dimension.
_VECTORS = ("norm", "bias", "vector", "prelu")
#: What a tensor of a role belongs to, where that is no linear layer.
_KINDS = {"norm": "norm:layer", "embedding": "embedding", "position": "other", "scalar": "other", "scale": "other"}


def tensor(name: str, role: str = "matrix", **facts: Any) -> Parameter:
    """A parameter of the model; ``facts`` are fields of `Parameter` that are not as the role has them."""
    module, _, leaf = name.rpartition(".")
    shape = (4,) if role in _VECTORS else (4, 8)
    known = {"leaf": leaf, "module": module, "module_kind": _KINDS.get(role, "linear"), "shape": shape, **facts}
    given = {
        "index": 0,
        "name": name,
        "names": (name,),
        "origin": "model",
        "dtype": "float32",
        "device": "cpu",
        **known,
    }
    return Parameter(**{"role": role, **given})


def held(*groups: tuple[Any, ...], optimizer: Mapping[str, Any] | None = None, **facts: Any) -> Setup:
    """A setup of one optimizer (AdamW), from ``(options, *tensors)`` of each group, without torch.

    Among the options may stand fields of `Group`: ``family``, ``decoupled``, ``peak_lr``, ``written``. ``optimizer`` are
    fields of the `Optimizer`, ``facts`` those of the `Setup`.
    """
    family = (optimizer or {}).get("family", "adam")
    fields = ("family", "decoupled", "peak_lr", "written", "requested")
    parameters: list[Parameter] = []
    made = []
    for index, (options, *tensors) in enumerate(groups):
        own = tuple(replace(one, index=len(parameters) + k) for k, one in enumerate(tensors))
        parameters += own
        known = {key: options[key] for key in fields if key in options}
        rest = {key: value for key, value in options.items() if key not in fields}
        made.append(
            Group(0, index, rest, own, **{"family": family, "decoupled": True, "peak_lr": rest.get("lr"), **known})
        )
    given = {"class_name": "AdamW", "module": "torch.optim.adamw", "family": "adam", **(optimizer or {})}
    held_by = Optimizer(**{"index": 0, "name": "", "groups": tuple(made), **given})
    return Setup(**{"parameters": tuple(parameters), "optimizers": (held_by,), **facts})


def facts_of(*objects: Any, **changed: Any) -> Setup:
    """The facts of a model, an optimizer and so on, with those fields of the Setup replaced that are given.

    For cases that return facts: a loop that was seen, a source that was read. What calls it is not read.
    """
    from lrlint.api import inspect

    return replace(inspect(*objects), **{"source": None, **changed})


def scheduled(*courses: Mapping[int, float] | None, training: Training | None = None, **facts: Any) -> Setup:
    """The facts of a layer per course, each in a group of its own, and of a scheduler that sets their rates.

    A course is the rate at each step, straight between two of them; None where it could not be read. ``facts`` are
    fields of the `Schedule`; its horizon is the last step, and declared, where they do not say.
    """
    layers = [
        ({"lr": 1.0}, tensor(f"{index}.weight"), tensor(f"{index}.bias", "bias")) for index in range(len(courses))
    ]
    optimizer = {"class_name": "SGD", "module": "torch.optim.sgd", "family": "sgd", "defaults": {"lr": 1.0}}
    setup = held(*layers, optimizer=optimizer, training=training or Training())
    groups = tuple(
        GroupSchedule(index, None if course is None else Trace(tuple(course), tuple(course.values())))
        for index, course in enumerate(courses)
    )
    horizon = max((step for course in courses for step in course or ()), default=None)
    given = {"class_name": "Own", "qualified": "own.Own", "horizon": horizon, "horizon_from": "total_steps", **facts}
    return replace(setup, schedules=(Schedule(**{"index": 0, "optimizer": 0, "groups": groups, **given}),))


def probed(*groups: Mapping[str, Any], verdict: str = "stable", **facts: Any) -> Setup:
    """What a probe showed of groups of a matrix each: the fields of their records; ``facts`` are those of the probe."""
    setup = held(*(({"lr": 1.0}, tensor(f"{index}.weight")) for index in range(max(len(groups), 1))))
    records = tuple(ProbeGroup(0, index, f"group {index}", 1.0, **group) for index, group in enumerate(groups))
    return replace(setup, probe=ProbeFacts(verdict, 0.0, groups=records, **facts))


def too_low(*indices: int) -> tuple[LowRates, ...]:
    """What a probe says of groups of the first optimizer whose rates are too low together."""
    pairs = tuple((0, index) for index in indices)
    return (LowRates("too-low", pairs, factor=4.0, gain=0.5, reached=0.1, ratio=5.0),)


def seen(steps: int = 4, **facts: Any) -> Setup:
    """A layer that SGD trains, and what was seen of the loop: ``facts`` are fields of `LoopFacts`."""
    layer = ({"lr": 0.1}, tensor("weight"), tensor("bias", "bias"))
    sgd = {"class_name": "SGD", "module": "torch.optim.sgd", "family": "sgd"}
    return held(layer, optimizer=sgd, loop=LoopFacts(steps=steps, **facts))


def call(kind: str, receiver: str = "optimizer", loops: tuple[int, ...] = (1,), **facts: Any) -> SourceCall:
    """A call in the loop of a function, whose line `read` gives it."""
    return SourceCall(kind, receiver, Span("train.py", 0), "train", loops, **facts)


def apart(*functions: Sequence[SourceCall]) -> list[SourceCall]:
    """The calls of functions, each of its own."""
    return [replace(one, function=f"train{k}") for k, calls in enumerate(functions) for one in calls]


def read(*calls: SourceCall, uncleared: tuple[str, ...] = (), **facts: Any) -> Setup:
    """The layer of `seen`, and functions whose calls stand on the lines from 1 on; ``facts`` are those of the `Setup`."""
    lines = tuple(replace(one, span=Span("train.py", line)) for line, one in enumerate(calls, 1))
    return replace(seen(), **{"loop": None, "source": SourceFacts(calls=lines, uncleared=uncleared), **facts})


def reached(setup: Setup) -> Setup:
    """The same, and every line was seen to run."""
    calls = setup.source.calls if setup.source is not None else ()
    return replace(setup, loop=LoopFacts(steps=4, happenings=tuple(Happening("", "", one.span) for one in calls)))
