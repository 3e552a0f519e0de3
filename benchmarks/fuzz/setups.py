"""Generated setups, each trained twice from one seed: once alone, and once with a look of lrlint's in the middle.

    python -m benchmarks.fuzz.setups [--count 500] [--seed 0] [--first 0] [--verbose]

A setup is a model with all kinds of state, an optimizer, a scheduler and data. Where the two trainings differ by a bit, a
note has to name the object that could not be put back.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import nn
from torch.optim import lr_scheduler as schedulers
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, Sampler, TensorDataset

import lrlint
from benchmarks.fuzz import states

#: Steps of a training, and the one before which lrlint looks.
_STEPS, _LOOK = 6, 3
_INPUTS = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
_WANTED = torch.zeros(24, 1)
#: One setup in so many holds something that cannot be wound back.
_RARE = 60


@dataclass(frozen=True)
class Plan:
    """What a setup is made of, by names."""

    index: int
    body: str
    states: tuple[str, ...]
    optimizer: str
    scheduler: str
    data: str
    mode: str
    look: str


def plan(seed: int, index: int) -> Plan:
    """The plan with this number, the same in every run."""
    draw = random.Random(f"{seed}:{index}")
    held = draw.sample(sorted(states.KINDS), draw.randint(1, 4))
    if index % _RARE == _RARE - 1:
        held.append(draw.choice(sorted(states.NOTED)))
    names = (draw.choice(sorted(table)) for table in (_BODIES, _OPTIMIZERS, _SCHEDULERS, _DATA))
    body, optimizer, scheduler, data = names
    look = draw.choice(("check", "check", "graph", "probe", "inspect"))
    return Plan(index, body, tuple(held), optimizer, scheduler, data, draw.choice(("train", "eval", "mixed")), look)


class Model(nn.Module):
    """A body, and states that its output depends on; what they are is known by name alone."""

    def __init__(self, body: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.body, self.out = body, nn.Linear(6, 1)
        self.kinds = {name: (states.KINDS | states.NOTED)[name] for name in names}
        for name, (make, _) in self.kinds.items():
            setattr(self, f"state_{name}", make())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = sum(step(getattr(self, f"state_{name}")) for name, (_, step) in self.kinds.items())
        self.calls = getattr(self, "calls", 0) + 1
        return self.out(self.body(x)) * (1 + 0.001 * total + 0.0001 * self.calls)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.hidden = nn.GRUCell(6, 6), None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = None if self.hidden is None or len(self.hidden) != len(x) else self.hidden
        out = self.cell(x, before)
        self.hidden = out.detach()
        return out


class Hooked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.inner.register_forward_hook(lambda module, inputs, output: output * 1.01)
        self.inner.weight.register_hook(lambda gradient: gradient * 0.9)
        return self.inner(x)


_BODIES = {
    "linear": lambda: nn.Linear(6, 6),
    "norms": lambda: nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6, momentum=None), nn.Dropout(0.3), nn.LayerNorm(6)),
    "spectral": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6)),
    "spectral_hook": lambda: nn.utils.spectral_norm(nn.Linear(6, 6)),
    "weight_norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)),
    "tied": lambda: nn.Sequential(*[nn.Linear(6, 6)] * 2),
    "recurrent": Recurrent,
    "hooked": Hooked,
    "frozen": lambda: nn.Linear(6, 6).requires_grad_(False),
}
_OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW([{"params": [q]} for q in p], lr=torch.tensor(0.01)),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.001, centered=True),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.001),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.001),
}


def _jitter() -> Any:
    noise, steps = torch.Generator().manual_seed(2), []

    def rate(step: int) -> float:
        steps.append(step)
        return 1 + 0.01 * float(torch.rand(1, generator=noise)) + 0.001 * len(steps)

    return rate


_SCHEDULERS = {
    "none": lambda o: None,
    "step": lambda o: schedulers.StepLR(o, 2, 0.5),
    "jitter": lambda o: schedulers.LambdaLR(o, _jitter()),
    "one_cycle": lambda o: schedulers.OneCycleLR(o, 0.02, total_steps=80, cycle_momentum=False),
    "restarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 3),
    "sequence": lambda o: schedulers.SequentialLR(
        o, [schedulers.LinearLR(o, 0.1, total_iters=3), schedulers.ExponentialLR(o, 0.9)], [3]
    ),
}


class Counting(Dataset[Any]):
    """It draws its augmentation from a generator of its own."""

    def __init__(self) -> None:
        self.noise, self.given, self.recent = numpy.random.default_rng(0), 0, [0]

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> Any:
        self.given += 1
        self.recent.append(index)
        return _INPUTS[index] + float(self.noise.random()) + self.given * 0.01, _WANTED[index]


class Turning(Sampler[int]):
    def __init__(self) -> None:
        self.epoch = 0

    def __iter__(self) -> Iterator[int]:
        self.epoch += 1
        return iter([(self.epoch * 5 + k) % 24 for k in range(24)])

    def __len__(self) -> int:
        return 24


class Flow(IterableDataset[Any]):
    def __init__(self) -> None:
        self.at = 0

    def __iter__(self) -> Iterator[Any]:
        for _ in range(24):
            self.at += 1
            yield _INPUTS[self.at % 24], _WANTED[0]


class Batches:
    """Batches in plain Python, with a position."""

    def __init__(self) -> None:
        self.at = 0

    def __iter__(self) -> Iterator[Any]:
        for _ in range(4):
            self.at = (self.at + 1) % 24
            yield _INPUTS[self.at :][:4].clone(), _WANTED[self.at :][:4]


def _pairs() -> TensorDataset:
    return TensorDataset(_INPUTS, _WANTED)


_DATA = {
    "list": lambda: [(_INPUTS[k : k + 4], _WANTED[:4]) for k in range(0, 16, 4)],
    "shuffled": lambda: DataLoader(_pairs(), batch_size=4, shuffle=True),
    "shuffled_apart": lambda: DataLoader(_pairs(), 4, shuffle=True, generator=torch.Generator().manual_seed(3)),
    "counting": lambda: DataLoader(Counting(), batch_size=4),
    "turning": lambda: DataLoader(Counting(), batch_size=4, sampler=Turning()),
    "turning_batches": lambda: DataLoader(_pairs(), batch_sampler=BatchSampler(Turning(), 4, True)),
    "flow": lambda: DataLoader(Flow(), batch_size=4),
    "python": Batches,
}


def losses(plan: Plan, look: bool) -> tuple[list[str], list[str]]:
    """(the losses of a seeded training to the bit, and what its state was at the end; what the look's notes say)."""
    random.seed(0), numpy.random.seed(0), torch.manual_seed(0)
    model = Model(_BODIES[plan.body](), plan.states)
    model.train(plan.mode != "eval")
    if plan.mode == "mixed":
        model.body.eval()
    optimizer = _OPTIMIZERS[plan.optimizer]([p for p in model.parameters() if p.requires_grad])
    scheduler, data = _SCHEDULERS[plan.scheduler](optimizer), _DATA[plan.data]()
    seen: list[str] = []
    notes: list[str] = []
    while len(seen) < _STEPS:
        for x, y in data:
            if len(seen) == _LOOK and look:
                notes = _look(plan.look, model, optimizer, scheduler, data)
            optimizer.zero_grad()
            loss = (model(x) - y).square().mean()
            loss.backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            seen.append(loss.item().hex())
            if len(seen) == _STEPS:
                break
    hooks = sum(len(module._forward_hooks) for module in model.modules())
    end = [f"{p.detach().double().sum().item().hex()}" for p in model.parameters()]
    return [*seen, str(hooks), str(model.training), *end, random.random().hex(), float(torch.rand(1)).hex()], notes


def _look(door: str, model: nn.Module, optimizer: Any, scheduler: Any, data: Any) -> list[str]:
    if door == "graph":
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            lrlint.graph(model, (_INPUTS[:4],))
        return [str(warning.message) for warning in caught]
    if door == "probe":
        found = lrlint.probe(
            model, optimizer, batches=data, loss_fn=nn.MSELoss(), steps=10, scheduler=scheduler, headroom=False
        )
        return list(found.facts.notes)
    if door == "inspect":
        setup = lrlint.inspect(model, optimizer, scheduler, example_inputs=(_INPUTS[:4],), total_steps=50)
    else:
        run = lrlint.check(model, optimizer, scheduler, batches=data, total_steps=50)
        assert run.setup is not None
        setup = run.setup
    return [note.reason for note in setup.notes if note.fact == "state"]


def judge(plan: Plan) -> tuple[str, str]:
    """(``same``, ``noted``, ``differs`` or ``failed``; what there is to say)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            alone, _ = losses(plan, look=False)
            looked_at, notes = losses(plan, look=True)
        except Exception:
            return "failed", traceback.format_exc()
    if alone == looked_at:
        return "same", ""
    named = [note for note in notes if any(f"state_{name}" in note or "is a generator" in note for name in plan.states)]
    return ("noted", named[0]) if named else ("differs", "; ".join(notes))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args()
    started, tally, looks = time.monotonic(), Counter[str](), Counter[str]()
    for index in range(given.first, given.first + given.count):
        planned = plan(given.seed, index)
        outcome, said = judge(planned)
        tally[outcome] += 1
        looks[planned.look] += 1
        if outcome != "same" or given.verbose:
            print(f"{outcome}: {planned}\n    {said}", flush=True)
    share = tally["noted"] / max(given.count, 1)
    seconds = time.monotonic() - started
    print(
        f"{given.count} setups ({', '.join(f'{n} {look}' for look, n in sorted(looks.items()))}): {tally['differs']} "
        f"differ, {tally['noted']} ({share:.1%}) differ in an object that a note names, {tally['failed']} failed, "
        f"{seconds:.0f} s"
    )
    return 1 if tally["differs"] or tally["failed"] or share > 0.02 else 0


if __name__ == "__main__":
    sys.exit(main())
