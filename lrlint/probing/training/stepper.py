"""Training steps as the user's loop takes them, with their statistics.

A `Stepper` changes the objects it is given: use it inside `preserved`. Every step draws its random numbers from
(seed, step), so that runs differ in what was changed on purpose and in nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from lrlint.errors import UsageError
from lrlint.facts import Training
from lrlint.probing.training.batches import Batches
from lrlint.probing.training.device import place_of
from lrlint.probing.training.failures import is_out_of_memory
from lrlint.probing.training.objective import objective
from lrlint.probing.training.seeding import seed_all
from lrlint.probing.training.statistics import GroupFacts, Key, Statistics
from lrlint.probing.training.step import Closure, LossPart, Step, closure_of
from lrlint.probing.training.trace import Reading, StepFacts, Trace

__all__ = ["DECLARED", "GroupFacts", "Key", "Rates", "Reading", "StepFacts", "Stepper", "Trace", "set_rates"]

#: Learning rates of groups.
Rates = Mapping[Key, float]
#: Clip as the target declares it (``Training.clip_norm``); None clips nothing.
DECLARED = -1.0
_MIXED = {"bf16-mixed": torch.bfloat16, "fp16-mixed": torch.float16}


class Stepper:
    """Takes training steps with models, optimizers and batches.

    ``loss_fn``: see `lrlint.probing.training.objective.objective`; a list or dict of as many as there are optimizers gives
    each optimizer its own (they step one after the other, and the loss is the sum). ``training`` declares precision,
    gradient scaler, accumulation and clipping. ``statistics``: whether steps measure groups (else the loss alone).

    Modules stay on the device and in the mode (train or eval) they are in. Raises UsageError when models, optimizers
    and loss make no step.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        optimizers: Sequence[Any],
        batches: Batches,
        loss_fn: Any = None,
        training: Training | None = None,
        *,
        seed: int = 0,
        statistics: bool = True,
    ) -> None:
        self.models, self.optimizers, self.batches = list(models), list(optimizers), batches
        self.training, self.seed, self.statistics = training or Training(), seed, statistics
        if not self.models or not self.optimizers:
            raise UsageError("there is no model or no optimizer to take steps with")
        self.device = place_of(self.models)
        self.parts = self._divide(loss_fn)
        self.closures: list[Closure] = [closure_of(optimizer) for optimizer in self.optimizers]
        self.scaler: torch.amp.GradScaler | None = None
        self._parameters = self._everything()
        self.begin()

    @property
    def keys(self) -> tuple[Key, ...]:
        """All groups."""
        return tuple((o, g) for o, optimizer in enumerate(self.optimizers) for g in range(len(optimizer.param_groups)))

    @property
    def rates(self) -> dict[Key, float]:
        """The groups' learning rates now, where they have one."""
        values = {(o, g): self.optimizers[o].param_groups[g].get("lr") for o, g in self.keys}
        return {key: float(value) for key, value in values.items() if value is not None}

    def begin(self) -> None:
        """Call when a run begins, its state restored."""
        for part in self.parts:
            part.statistics.reset()
        for optimizer in self.optimizers:
            if callable(getattr(optimizer, "train", None)):
                optimizer.train()  # a schedule-free optimizer steps in this mode alone
        scaled = self.training.precision == "fp16-mixed" or self.training.grad_scaler
        self.scaler = torch.amp.GradScaler(self.device.type) if scaled else None

    def step(
        self,
        k: int,
        rates: Rates | None = None,
        clip: float | None = DECLARED,
        *,
        statistics: bool | None = None,
    ) -> Reading:
        """Take step ``k``: with its batches, its random numbers and these ``rates`` (by default as they are).

        ``clip``: the norm that each model's gradients are clipped to. Nothing is read from the device; that is for
        `Reading.read`. Raises UsageError where there is no loss to follow, TargetError where the target's code fails.
        """
        measured = self.statistics if statistics is None else statistics
        if rates is not None:
            set_rates(self.optimizers, rates)
        norm = self.training.clip_norm if clip == DECLARED else clip
        steps = [Step(self, part, k, norm, measured) for part in self.parts]
        losses = [step.take() for step in steps]
        loss = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        terms = {name: term for step in steps for name, term in step.terms.items()} if measured else {}
        return Reading(k, loss, [part.statistics for part in self.parts] if measured else [], terms)

    def run(
        self,
        steps: int,
        rates: Rates | Callable[[int], Rates] | None = None,
        clip: float | None = DECLARED,
        *,
        start: int = 0,
        statistics: bool | None = None,
        stop: Callable[[Trace], bool] | None = None,
        trace: Trace | None = None,
    ) -> Trace:
        """Take ``steps`` steps from step ``start`` on.

        Ends early at the first value that is not finite, when memory is used up, or when ``stop``, asked after each
        step, says so. ``rates`` may be a function of the step. ``trace``: of the steps before, to be continued.
        """
        taken = Trace(self.keys) if trace is None else trace
        taken.stopped = None
        for k in range(start, start + steps):
            try:
                facts = self.step(k, rates(k) if callable(rates) else rates, clip, statistics=statistics).read()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                taken.stopped = "memory"
                break
            taken.add(facts)
            if not facts.finite:
                taken.stopped = "non-finite"
                break
            if stop is not None and stop(taken):
                taken.stopped = "asked"
                break
        if taken.stopped == "memory":
            self._release()
        return taken

    def look(self, start: int, steps: int) -> list[float]:
        """The losses that these steps would begin with if none of them was taken; empty where memory does not suffice."""
        try:
            losses = [
                torch.stack([Step(self, part, k, None, False).look() for part in self.parts]).sum()
                for k in range(start, start + steps)
            ]
            return [float(value) for value in torch.stack(losses).tolist()]
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._release()
            return []

    def zero_grad(self) -> None:
        """No gradients any more, also of parameters that no optimizer holds."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()  # the user's own may do more
        for parameter in self._parameters:
            parameter.grad = None

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The precision that the target declares."""
        dtype = _MIXED.get(self.training.precision or "")
        return contextlib.nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)

    def reseed(self, k: int) -> None:
        """The random numbers of step ``k``."""
        seed_all(self.seed, k)

    def _everything(self) -> list[torch.Tensor]:
        held = [p for optimizer in self.optimizers for group in optimizer.param_groups for p in group["params"]]
        return list({id(p): p for p in (*held, *(p for model in self.models for p in model.parameters()))}.values())

    def _release(self) -> None:
        self.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _divide(self, loss_fn: Any) -> list[LossPart]:
        """Which loss each optimizer follows."""
        if isinstance(loss_fn, Mapping):
            loss_fn = list(loss_fn.values())
        if not isinstance(loss_fn, (list, tuple)):
            indices = list(range(len(self.optimizers)))
            return [LossPart(objective(self.models, loss_fn), indices, Statistics(self.optimizers, indices))]
        if len(loss_fn) != len(self.optimizers):
            raise UsageError(f"there are {len(loss_fn)} loss functions for {len(self.optimizers)} optimizers")
        return [
            LossPart(objective(self.models, function), [i], Statistics([self.optimizers[i]], [i]))
            for i, function in enumerate(loss_fn)
        ]


def set_rates(optimizers: Sequence[Any], rates: Rates) -> None:
    """Write the groups' learning rates. A rate that is a tensor stays that tensor, unless groups share it."""
    owner: dict[int, Key] = {}
    for (o, g), rate in rates.items():
        group = optimizers[o].param_groups[g]
        lr = group.get("lr")
        if not isinstance(lr, torch.Tensor):
            group["lr"] = rate
            continue
        if owner.setdefault(id(lr), (o, g)) != (o, g):
            lr = group["lr"] = lr.clone()
        lr.fill_(rate)
