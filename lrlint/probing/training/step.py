"""One training step: gradients of a step's batches, clipping, the optimizers' own steps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lrlint.errors import TargetError
from lrlint.probing.training.failures import target_code
from lrlint.probing.training.objective import Loss
from lrlint.probing.training.statistics import Statistics

if TYPE_CHECKING:
    from lrlint.probing.training.stepper import Stepper

#: Halvings of the loss scale (of 2**16) after which gradients count as infinite themselves.
_HALVINGS = 20


class Closure(Enum):
    """What an optimizer's `step` wants: no closure, a closure that gives the gradients (LBFGS), or both gradients and
    a closure (sharpness-aware minimisation)."""

    NONE = 0
    GIVES = 1
    REPEATS = 2


def closure_of(optimizer: Any) -> Closure:
    """What the signature of `step` says. That an optional closure is missed shows at the first step only."""
    try:
        parameters = inspect.signature(type(optimizer).step).parameters
    except (TypeError, ValueError):
        return Closure.NONE
    required = "closure" in parameters and parameters["closure"].default is inspect.Parameter.empty
    return Closure.GIVES if required else Closure.NONE


@dataclass
class LossPart:
    """A loss, and the optimizers that follow its gradient (by index)."""

    loss: Loss
    indices: Sequence[int]
    statistics: Statistics


class Step:
    """Step ``k`` of one part. ``clip``: norm per model, or None. ``measured``: keep the part's statistics."""

    def __init__(self, stepper: Stepper, part: LossPart, k: int, clip: float | None, measured: bool) -> None:
        self.stepper, self.part, self.k, self.clip, self.measured = stepper, part, k, clip, measured
        self._loss: torch.Tensor | None = None  # the first that was computed
        self.terms: dict[str, torch.Tensor] = {}  # and its parts

    def take(self) -> torch.Tensor:
        """Take it. The loss before the step, on the device."""
        stepper = self.stepper
        stepper.reseed(self.k)
        wants = {index: stepper.closures[index] for index in self.part.indices}
        if any(want is not Closure.GIVES for want in wants.values()):
            self._gradients()
        for index, want in wants.items():
            optimizer = stepper.optimizers[index]
            with target_code(f"the step of {type(optimizer).__name__}"):
                if want is Closure.NONE:
                    self._step_without(index)
                else:
                    optimizer.step(self._closure)
        if self._loss is None:
            raise TargetError("the optimizer's step wants a closure and does not call it")
        if stepper.scaler is not None:
            stepper.scaler.update()
        if self.measured:
            self.part.statistics.after()
        else:
            self.part.statistics.reset()
        return self._loss

    def _step_without(self, index: int) -> None:
        stepper, optimizer = self.stepper, self.stepper.optimizers[index]
        try:
            if stepper.scaler is None:
                optimizer.step()
            else:
                stepper.scaler.step(optimizer)
        except (TypeError, AssertionError, ValueError, RuntimeError) as error:
            if "closure" not in str(error):
                raise
            stepper.closures[index] = Closure.REPEATS
            optimizer.step(self._closure)

    def _closure(self) -> torch.Tensor:
        """What the optimizer calls for loss and gradients, at wherever it has put the parameters."""
        loss = self._backward(None)
        self._settle(loss)
        return loss

    def _gradients(self) -> None:
        """Gradients to step with; under a loss scale, one at which they are finite.

        A training loop skips steps until its scale fits, runs that are compared must not.
        """
        stepper, scaler = self.stepper, self.stepper.scaler
        loss = self._backward(scaler)
        if scaler is not None:
            for _ in range(_HALVINGS):
                self._unscale(scaler)
                if self._all_finite() or not bool(torch.isfinite(loss)):
                    break
                scaler.update(scaler.get_scale() / 2)
                stepper.reseed(self.k)
                loss = self._backward(scaler)
            else:
                self._unscale(scaler)
        self._settle(loss)

    def _unscale(self, scaler: torch.amp.GradScaler) -> None:
        for index in self.part.indices:
            scaler.unscale_(self.stepper.optimizers[index])

    def _all_finite(self) -> bool:
        groups = [g for i in self.part.indices for g in self.stepper.optimizers[i].param_groups]
        gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        return not gradients or bool(torch.isfinite(torch.stack(torch._foreach_norm(gradients))).all())

    def look(self) -> torch.Tensor:
        """The loss that the step would start from, and nothing else."""
        self.stepper.reseed(self.k)
        return self._losses(None)

    def _backward(self, scaler: torch.amp.GradScaler | None) -> torch.Tensor:
        """The loss, its gradients accumulated over the step's batches."""

        def backward(loss: torch.Tensor) -> None:
            with target_code("the backward pass"):
                (loss if scaler is None else scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]

        self.stepper.zero_grad()
        return self._losses(backward)

    def _losses(self, each: Callable[[torch.Tensor], None] | None) -> torch.Tensor:
        """The sum over the step's batches; ``each`` is called with every one's loss."""
        stepper = self.stepper
        count = stepper.training.accumulation or 1
        total: torch.Tensor | None = None
        with torch.enable_grad():
            for micro in range(self.k * count, (self.k + 1) * count):
                batch = stepper.batches.at(micro)
                with stepper.autocast():
                    loss = self.part.loss(batch, micro)
                if self._loss is None:
                    for name, term in getattr(self.part.loss, "terms", {}).items():
                        self.terms[name] = self.terms[name] + term / count if name in self.terms else term / count
                if count > 1:
                    loss = loss / count
                if each is not None:
                    each(loss)
                total = loss.detach() if total is None else total + loss.detach()
        assert total is not None
        return total

    def _settle(self, loss: torch.Tensor) -> None:
        """Gradients are there: note the first ones, clip."""
        if self._loss is None:
            self._loss = loss
            if self.measured:
                self.part.statistics.before()
        if self.clip is not None:
            for model in self.stepper.models:
                nn.utils.clip_grad_norm_(model.parameters(), self.clip)
