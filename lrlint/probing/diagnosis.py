"""Where a value that is not finite came up first, and what else is wrong with a model that does not learn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from lrlint.facts.probe import NonFinite
from lrlint.inspection.model import tree as trees
from lrlint.probing.laboratory import TrialRunner
from lrlint.probing.search.trial import TrialRun
from lrlint.probing.training.batches import Batches
from lrlint.text.names import describe
from lrlint.text.wording import count, listing


class Names:
    """Canonical names of the parameters and modules of some models."""

    def __init__(self, models: Mapping[str, nn.Module]) -> None:
        tree = trees.walk(models)
        self.modules = {identity: entry.path for identity, entry in tree.place_of.items()}
        self.parameters: dict[int, str] = {}
        self.tensors: list[tuple[str, nn.Parameter, nn.Module]] = []
        for identity, tensor in tree.objects.items():
            raw, _, owner = tree.spellings[identity][0]
            name = trees.canonical(raw, tree.place_of[id(owner)].root)
            self.parameters[identity] = name
            self.tensors.append((name, tensor, owner))


def find(lab: TrialRunner, names: Names, failed: TrialRun) -> NonFinite | None:
    """Take the run again up to the step that fails, and look closely at that one."""
    step = len(failed.losses) - 1
    stepper, rates = lab.stepper, lab.rates_at(failed.factors)
    lab.replay(failed)
    for k in range(step):
        stepper.step(k, rates(k), statistics=False)
    lab.steps += step + 1
    for name, tensor, _ in names.tensors:
        if kind := _kind(tensor):
            return NonFinite(step, "parameter", kind, parameter=name)
    if kind := _in(stepper.batches.at(step)):
        return NonFinite(step, "input", kind)
    order: dict[int, int] = {}
    with _watched(stepper.models, order) as first:
        loss = float(stepper.step(step, rates(step), None, statistics=False).read().loss)
    if first:
        module, kind = first[0]
        return NonFinite(step, "forward", kind, names.modules.get(id(module), ""), type(module).__name__)
    if kind := _kind(torch.tensor(loss)):
        return NonFinite(step, "loss", kind)
    return _backward(names, order, step)


def _backward(names: Names, order: Mapping[int, int], step: int) -> NonFinite | None:
    """The gradient that came first in the backward pass: its module ran last in the forward pass."""
    bad = [(order.get(id(owner), -1), name, kind) for name, p, owner in names.tensors if (kind := _kind(p.grad))]
    if bad:
        _, name, kind = max(bad, key=lambda item: item[0])
        return NonFinite(step, "gradient", kind, parameter=name)
    written = ((name, kind) for name, p, _ in names.tensors if (kind := _kind(p)))
    for name, kind in written:
        return NonFinite(step, "update", kind, parameter=name)
    return None


@contextmanager
def _watched(models: Sequence[nn.Module], order: dict[int, int]) -> Any:
    """Every module's first output that is not finite, and the order in which modules ran."""
    first: list[tuple[nn.Module, str]] = []

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        order[id(module)] = len(order)
        if not first and (kind := _in(output)):
            first.append((module, kind))

    handles = [m.register_forward_hook(after) for model in models for m in model.modules()]
    try:
        yield first
    finally:
        for handle in handles:
            handle.remove()


def _kind(tensor: torch.Tensor | None) -> str:
    """``nan``, ``inf``, or "" for a finite tensor."""
    if tensor is None or not (tensor.is_floating_point() or tensor.is_complex()):
        return ""
    values = tensor.detach()
    values = values.coalesce().values() if values.is_sparse else values
    if bool(torch.isfinite(values).all()):
        return ""
    return "nan" if bool(torch.isnan(values).any()) else "inf"


def _in(item: Any) -> str:
    """The same of the tensors in a batch or an output. Masks of -inf are what attention is given on purpose."""
    for tensor in _tensors(item):
        if tensor.is_floating_point() and bool(torch.isnan(tensor).any()):
            return "nan"
        if tensor.is_floating_point() and bool(torch.isposinf(tensor).any()):
            return "inf"
    return ""


def _tensors(item: Any) -> list[torch.Tensor]:
    if isinstance(item, torch.Tensor):
        return [item]
    if isinstance(item, Mapping):
        item = list(item.values())
    if isinstance(item, (list, tuple)):
        return [tensor for part in item for tensor in _tensors(part)]
    values = getattr(item, "__dict__", None)
    return _tensors(list(values.values())) if isinstance(values, dict) and not callable(item) else []


def dead_signals(lab: TrialRunner, names: Names) -> tuple[str, ...]:
    """What may keep a model from learning, as phrases: seen in one step from its own state."""
    dead: list[str] = []

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        leaf = not any(True for _ in module.children())
        tensors = [t for t in _tensors(output) if t.is_floating_point() and t.numel() > 1]
        if leaf and tensors and all(not bool(t.any()) for t in tensors):
            dead.append(names.modules.get(id(module), ""))

    lab.begin()
    handles = [m.register_forward_hook(after) for model in lab.stepper.models for m in model.modules()]
    try:
        lab.stepper.step(0, dict.fromkeys(lab.keys, 0.0), statistics=False)
        lab.steps += 1
    finally:
        for handle in handles:
            handle.remove()
    trainable = [(name, p) for name, p, _ in names.tensors if p.requires_grad]
    zero = [name for name, p in trainable if p.grad is not None and not bool(p.grad.any())]
    none = [name for name, p in trainable if p.grad is None]
    frozen = len(names.tensors) - len(trainable)
    phrases = []
    if dead:
        phrases.append(f"the output of {listing(f'`{name}`' for name in sorted(set(dead))[:3])} is all zero")
    if zero:
        phrases.append(f"the gradient of {describe(zero)} is exactly zero")
    if none:
        phrases.append(f"{describe(none)} get{'s' if len(none) == 1 else ''} no gradient")
    if frozen:
        phrases.append(f"{frozen} of {count(len(names.tensors), 'parameter')} are frozen")
    return tuple(phrases)


def one_batch(batches: Batches) -> Batches:
    """The first batch, repeated."""
    return Batches([batches.at(0)], batches.device, cycled=True, weak=batches.weak)


class Watch:
    """Parameters whose gradient was never anything but zero, and frozen ones that changed, over a run.

    Call with each step's number, when it was taken. Only a few steps are looked at: each costs a synchronisation.
    """

    _STEPS = frozenset((0, 1, 2, 4, 8, 16, 24))

    def __init__(self, lab: TrialRunner, names: Names) -> None:
        held = {id(p) for o in lab.stepper.optimizers for g in o.param_groups for p in g["params"]}
        optimized = [(name, p) for name, p, _ in names.tensors if id(p) in held]
        self._candidates = [(name, p) for name, p in optimized if p.requires_grad]
        self._start = {name: p.detach().clone() for name, p in optimized if not p.requires_grad and p.numel() < 1 << 22}
        self._frozen = [(name, p) for name, p in optimized if name in self._start]
        self._zero: list[tuple[str, nn.Parameter]] | None = None
        self._first: dict[str, torch.Tensor] = {}
        self._none = {name for name, _ in self._candidates}
        self._looked = 0

    def __call__(self, step: int) -> None:
        if step not in self._STEPS:
            return
        self._looked += 1
        self._none -= {name for name, p in self._candidates if p.grad is not None}
        among = self._candidates if self._zero is None else self._zero
        left = [(name, p) for name, p in among if p.grad is not None and p.grad.layout == torch.strided]
        if left:
            norms = torch._foreach_norm([p.grad.detach() for _, p in left if p.grad is not None], math.inf)
            largest = torch.stack([norm.double().to(norms[0].device) for norm in norms]).tolist()
            left = [pair for pair, value in zip(left, largest, strict=True) if value == 0.0]
        if self._zero is None:
            self._first = {name: p.detach().clone() for name, p in left}
        self._zero = left

    def zero_gradient(self, at_least: int = 3) -> tuple[str, ...]:
        """Those that moved although every gradient that was looked at was exactly zero."""
        if self._looked < at_least or self._zero is None:
            return ()
        return tuple(name for name, p in self._zero if name in self._first and not torch.equal(p, self._first[name]))

    def unused(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self._candidates if name in self._none) if self._looked else ()

    def thawed(self) -> tuple[str, ...]:
        return tuple(name for name, p in self._frozen if not torch.equal(p, self._start[name]))
