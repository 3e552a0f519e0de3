"""One width: a few steps on one batch, and what every layer does in them.

A layer is a module that owns a trainable matrix (a table, a kernel) and is called. Norms are watched too, for what comes
into them: between the branches of a residual network they alone see the stream.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from lrlint.probing.training.seeding import seed_all

#: Random inputs that a readout is given, where the few that data brings would leave its size to chance.
_DRAWS = 8


@dataclass
class LayerSeen:
    """One module at one width; sizes are root mean squares, None where there is none. ``features``: elements of one call.

    ``sensitivities`` has one entry per step.
    """

    module: str
    weight: str  # "" for a norm
    features_in: int = 0
    features_out: int = 0
    input: float | None = None
    signal: float | None = None
    probed: float | None = None
    update: float | None = None
    change: float | None = None
    sensitivities: list[float] = field(default_factory=list)

    @property
    def sensitivity(self) -> float | None:
        """The typical gradient at its output: the mean over the steps, of those that had any (a readout may begin at 0)."""
        present = [size for size in self.sensitivities if size > 0]
        return math.exp(sum(map(math.log, present)) / len(present)) if present else None


class Observer:
    """Watches the layers of models during steps; use `watching` around them, and `finish` afterwards."""

    def __init__(self, models: Mapping[str, nn.Module], names: Mapping[int, str], seed: int) -> None:
        self.seen: dict[str, LayerSeen] = {}
        self._seed, self._step = seed, 0
        self._modules: dict[str, nn.Module] = {}
        self._first: dict[str, tuple[Any, Any, torch.Tensor]] = {}
        self._called: set[str] = set()
        self._start: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._watched: list[tuple[str, nn.Module, str]] = []
        known: set[int] = set()
        for lead, model in models.items():
            for path, module in model.named_modules():
                own = [p for p in module.parameters(recurse=False) if p.requires_grad]
                if not own or id(module) in known:
                    continue
                known.add(id(module))
                largest = max(own, key=lambda p: (p.ndim, p.numel()))
                weight = names.get(id(largest), "") if largest.ndim > 1 else ""
                self._watched.append((".".join(filter(None, (lead, path))), module, weight))
                self._start.update((id(p), (p, p.detach().clone())) for p in own)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks on the layers, for as long as the block lasts."""
        handles = [
            module.register_forward_hook(self._hook(name, weight), with_kwargs=True)
            for name, module, weight in self._watched
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def begin_step(self, step: int) -> None:
        """The calls that follow are those of this step."""
        self._step = step
        self._called.clear()

    def _hook(self, name: str, weight: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            result = first_float(output)
            if name in self._called or result is None:
                return
            self._called.add(name)
            if self._step == 0:
                self._remember(name, weight, module, args, kwargs, result)
            record = self.seen.get(name)
            if record is None:
                return
            before = self._first[name][2]
            if self._step and before.shape == result.shape:
                record.change = rms(result.detach() - before)
            if result.requires_grad:
                result.register_hook(lambda gradient: record.sensitivities.append(rms(gradient)))

        return hook

    def _remember(
        self, name: str, weight: str, module: nn.Module, args: Any, kwargs: Any, result: torch.Tensor
    ) -> None:
        given = first_float(args) if args else first_float(kwargs)
        sizes = [t for t in (*args, *kwargs.values()) if isinstance(t, torch.Tensor)]
        self.seen[name] = LayerSeen(
            name,
            weight,
            features_in=given.numel() if given is not None else (sizes[0].numel() if sizes else 0),
            features_out=result.numel(),
            input=None if given is None else rms(given),
            signal=rms(result),
        )
        self._modules[name] = module
        self._first[name] = (_copied(args), _copied(kwargs), result.detach().clone())

    @torch.no_grad()
    def finish(self) -> list[LayerSeen]:
        """What was seen, in the order the layers ran in, with what each layer's own weights have done to its output."""
        layers = [name for name, record in self.seen.items() if record.weight]
        after = {name: self._output(name) for name in layers}
        for parameter, start in self._start.values():
            parameter.copy_(start)
        for name in layers:
            before, now = self._output(name), after[name]
            if before is not None and now is not None and before.shape == now.shape:
                self.seen[name].update = rms(now - before)
            with suppress(Exception):  # a module that takes something else than any tensor of floats
                self.seen[name].probed = self._probed(name)
        return list(self.seen.values())

    def _output(self, name: str) -> torch.Tensor | None:
        """The layer's output on the inputs of the first step; None where it cannot be called by itself."""
        args, kwargs, _ = self._first[name]
        seed_all(self._seed, 0)
        try:
            output = first_float(self._modules[name](*_copied(args), **_copied(kwargs)))
        except Exception:  # it needs what only the running model has
            return None
        return None if output is None else output.detach().clone()

    def _probed(self, name: str) -> float | None:
        """How large its output is on random inputs of the size that it was given, without its bias."""
        args, kwargs, _ = self._first[name]
        if len(args) != 1 or kwargs or not isinstance(args[0], torch.Tensor) or not args[0].is_floating_point():
            return None
        module, size, squares = self._modules[name], rms(args[0]), 0.0
        at_rest = first_float(module(torch.zeros_like(args[0])))
        seed_all(self._seed, 1)
        for _ in range(_DRAWS):
            output = first_float(module(torch.randn_like(args[0]) * size))
            if output is None or at_rest is None:
                return None
            squares += rms(output - at_rest) ** 2
        return math.sqrt(squares / _DRAWS)


def rms(tensor: torch.Tensor) -> float:
    """The root mean square of all elements."""
    return float(tensor.detach().float().square().mean().sqrt()) if tensor.numel() else 0.0


def first_float(item: Any) -> torch.Tensor | None:
    """The first tensor of floats in what a module takes or gives."""
    if isinstance(item, torch.Tensor):
        return item if item.is_floating_point() else None
    parts = item.values() if isinstance(item, Mapping) else item if isinstance(item, (tuple, list)) else ()
    return next((found for part in parts if (found := first_float(part)) is not None), None)


def _copied(item: Any) -> Any:
    """The inputs as they were, should the module write into them."""
    if isinstance(item, torch.Tensor):
        return item.detach().clone()
    if type(item) in (tuple, list):
        return type(item)(_copied(part) for part in item)
    return {key: _copied(part) for key, part in item.items()} if type(item) is dict else item
