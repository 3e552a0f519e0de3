"""The setup card: what trains, at which rates, how fast decay forgets. One (title, value) pair per line."""

from __future__ import annotations

import math

from lrlint.facts import Group, Optimizer, Parameter, Setup
from lrlint.reports.views.ladders import peak, shared_options
from lrlint.text.wording import count, rate, times

Pair = tuple[str, str]


def card(setup: Setup) -> list[Pair]:
    """Title and value of each fact, in the order in which a reviewer asks for them."""
    pairs = [("model", models(setup)), ("parameters", _parameters(setup))]
    for optimizer in setup.optimizers:
        title = "optimizer" if len(setup.optimizers) == 1 else f"optimizer {optimizer.name or optimizer.index}"
        pairs.append((title, _optimizer(optimizer)))
    pairs += [("peak rates", peak_rates(setup)), ("decay half-life", half_life(setup))]
    pairs += [("run", horizon(setup)), ("precision", _precision(setup)), ("gradient clipping", _clip(setup))]
    return [(title, value) for title, value in pairs if value]


def models(setup: Setup) -> str:
    """``generator: Net, critic: Net``."""
    named = ((model.name, model.class_name) for model in setup.models)
    return ", ".join(f"{name}: {kind}" if name not in ("", kind) else kind for name, kind in named)


def elements(number: int) -> str:
    """``768``, ``12.3k``, ``1.3B``."""
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if number >= limit:
            return f"{number / (1e3 if unit == 'k' else limit):.3g}{unit}"
    return str(number)


def present(setup: Setup) -> list[Parameter]:
    """Without those that only an optimizer holds which was built and not returned."""
    return [parameter for parameter in setup.parameters if parameter.origin != "discarded"]


def _parameters(setup: Setup) -> str:
    parameters = present(setup)
    training = [p for p in parameters if p.requires_grad and p.index in setup.membership]
    frozen = [p for p in parameters if not p.requires_grad]
    lost = [p for p in parameters if p.requires_grad and p.index not in setup.membership]
    parts = [f"{count(len(parameters), 'tensor')}, {_sum(parameters)} elements: {_sum(training)} training"]
    parts += [f"{_sum(frozen)} frozen"] if frozen else []
    parts += [f"{_sum(lost)} in no optimizer"] if lost else []
    return ", ".join(parts)


def _sum(parameters: list[Parameter]) -> str:
    return elements(sum(parameter.numel for parameter in parameters))


def _optimizer(optimizer: Optimizer) -> str:
    return ", ".join([f"{optimizer.class_name}, {count(len(optimizer.groups), 'group')}", *shared_options(optimizer)])


def _training(setup: Setup) -> list[Group]:
    groups = [group for optimizer in setup.optimizers for group in optimizer.groups]
    return [group for group in groups if group.trainable]


def peak_rates(setup: Setup) -> str:
    """``1.64e-05 … 1e-03 (×61)``."""
    rates = [value for group in _training(setup) if (value := peak(group))]
    if not rates:
        return ""
    low, high = min(rates), max(rates)
    return rate(low) if low == high else f"{rate(low)} … {rate(high)} (×{times(high / low)})"


def half_life(setup: Setup) -> str:
    """Steps in which decoupled decay alone halves a weight at the peak rate, ln 2 / (lr · wd), beside the run's."""
    products = [
        value * group.weight_decay
        for group in _training(setup)
        if group.decoupled and group.weight_decay > 0 and (value := peak(group))
    ]
    if not products:
        return ""
    fast, slow = (round(math.log(2) / product) for product in (max(products), min(products)))
    range_ = f"{fast:,}" if fast == slow else f"{fast:,} … {slow:,}"
    steps = setup.training.total_steps
    return f"{range_} steps" + (f" of {steps:,}" if steps else "")


def horizon(setup: Setup) -> str:
    """``10,000 steps, batch of 32, 4 accumulated, LambdaLR``."""
    training = setup.training
    parts = [count_of(training.total_steps, "step")] if training.total_steps else ["length not given"]
    parts += [f"batch of {training.batch_size}"] if training.batch_size else []
    parts += [f"{training.accumulation} accumulated"] if training.accumulation and training.accumulation > 1 else []
    parts += [f"{training.world_size} processes"] if training.world_size and training.world_size > 1 else []
    kinds = list(dict.fromkeys(schedule.class_name for schedule in setup.schedules))
    return ", ".join([*parts, *(kinds or ["no scheduler"])])


def count_of(number: int, noun: str) -> str:
    """``1 step``, ``10,000 steps``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _precision(setup: Setup) -> str:
    dtypes = list(dict.fromkeys(p.dtype.removeprefix("torch.") for p in present(setup) if p.requires_grad))
    declared = setup.training.precision
    return ", ".join(
        ([f"{declared} (declared)"] if declared else []) + [f"parameters {', '.join(dtypes)}"] if dtypes else []
    )


def _clip(setup: Setup) -> str:
    return "" if setup.training.clip_norm is None else f"norm at {setup.training.clip_norm:g}"
