"""Nothing that is passed is changed: a check, a graph or a probe in the middle of a seeded training is not to be seen."""

from __future__ import annotations

import collections
import contextvars
import functools
import io
import itertools
import random
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

import lrlint
from lrlint.reports import render

CALLS = itertools.count()
SEEN: list[int] = []
STEP = 0
NOISE = random.Random(5)


class Meter:
    def __init__(self) -> None:
        self.n = 0


class Slotted:
    __slots__ = ("last", "n")

    def __init__(self) -> None:
        self.n, self.last = 0, None


class Containers(nn.Module):
    """State in everything that holds something; the next loss depends on all of it."""

    shared: list[int] = []  # noqa: RUF012 - shared on purpose
    instances = 0

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 1)
        self.nested: Any = {"a": [1], "b": {"c": []}}
        self.recent: Any = collections.deque([0.0], maxlen=4)
        self.counter: Any = collections.Counter()
        self.meter, self.slotted = Meter(), Slotted()
        self.array, self.rows = numpy.zeros(2), numpy.array([[1], [2]], dtype=object)
        self.plain, self.tensors = torch.zeros(6), [torch.zeros(6)]
        self.raw = bytearray(2)
        count = 0

        def tick() -> int:
            nonlocal count
            count += 1
            return count

        self.tick = tick

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        type(self).instances += 1
        self.shared.append(1)
        self.nested["a"].append(1)
        self.nested["b"]["c"].append(1)
        self.recent.append(float(self.slotted.n))
        self.counter["x"] += 1
        self.meter.n += 1
        self.slotted.n += 1
        self.array += 1
        self.rows[0][0] += 1
        self.plain += 1
        self.tensors[0] += 1
        self.raw[0] += 1
        self.late = getattr(self, "late", 0) + 1
        numbers = (type(self).instances, len(self.shared), len(self.nested["a"]), len(self.nested["b"]["c"]))
        total = sum(numbers) + sum(self.recent) + self.counter["x"] + self.meter.n + self.slotted.n + self.tick()
        total += float(self.array.sum()) + int(self.rows.sum()) + self.raw[0] + self.late
        return self.body(x + self.plain * 0.01 + self.tensors[0] * 0.01) * (1 + 0.001 * total)


class Random(nn.Module):
    """Generators of its own, of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.drop = nn.Linear(6, 1), nn.Dropout(0.5)
        self.torch = torch.Generator().manual_seed(0)
        self.numpy, self.old = numpy.random.default_rng(0), numpy.random.RandomState(0)
        self.bits, self.python = numpy.random.PCG64(1), random.Random(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        noise = self.numpy.random() + self.old.rand() + self.python.random() + NOISE.random()
        noise += float(self.bits.random_raw() % 7)
        return self.body(self.drop(x) + torch.randn(x.shape, generator=self.torch)) * (1 + 0.01 * noise)


class Iterators(nn.Module):
    """Positions in iterators: attributes, lists, variables of functions, classes and the module."""

    ids = itertools.count(3)

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 1)
        self.cycle, self.listed = itertools.cycle([1.0, 2.0, 3.0]), [iter([4.0] * 500), enumerate([1.0] * 500)]
        self.chain = itertools.chain(itertools.repeat(2.0, 3), itertools.islice(itertools.count(), 500))
        self.map = map(float, iter(range(500)))
        (self.tee,) = itertools.tee(itertools.count(1), 1)
        numbers = itertools.accumulate(itertools.count(1))
        self.next = lambda: next(numbers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = next(self.cycle) + next(self.listed[0]) + next(self.listed[1])[0] + next(self.chain) + next(self.map)
        total += next(self.tee) + self.next() + next(self.ids) + next(CALLS)
        return self.body(x) * (1 + 0.01 * total)


class Module(nn.Module):
    """State in the module around it, and in caches of functions."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 1)
        self.register_buffer("frequency", torch.ones(6))

    @functools.lru_cache(maxsize=4)  # noqa: B019
    def angles(self, length: int) -> torch.Tensor:
        return self.frequency * length

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        global STEP
        STEP += 1
        SEEN.append(STEP)
        return self.body(x + self.angles(x.shape[1])) * (1 + 0.01 * (STEP + len(SEEN) + table(STEP)))


@functools.lru_cache(maxsize=64)
def table(step: int) -> int:
    return step % 5


class Hooks(nn.Module):
    """Hooks that every pass registers once more."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.kept = nn.Linear(6, 1), []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.body.register_forward_hook(lambda module, inputs, output: output * 1.01)
        self.body.weight.register_hook(lambda gradient: gradient * 0.9)
        out = self.body(x)
        self.kept.append(out.detach())
        return out


class Norms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.ReLU())
        self.spectral = nn.utils.spectral_norm(nn.Linear(8, 8))
        self.weighted = nn.utils.weight_norm(nn.Linear(8, 8))
        self.parametrised = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.parametrised(self.weighted(self.spectral(self.body(x))))


class Elsewhere(nn.Module):
    """State of the thread, the context, in streams, in what a function remembers, and in a norm that hangs in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.norms = nn.Linear(6, 1), [nn.BatchNorm1d(6)]
        self.text, self.bytes, self.written = (
            io.StringIO("1234567890" * 99),
            io.BytesIO(bytes(range(99)) * 9),
            io.StringIO(),
        )
        self.thread, self.context = threading.local(), contextvars.ContextVar("steps", default=0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.thread.n = getattr(self.thread, "n", 0) + 1
        self.context.set(self.context.get() + 1)
        self.written.write("x")
        remembered(self.thread.n % 2).append(1)
        total = self.thread.n + self.context.get() + self.written.tell() + len(remembered(0)) + len(remembered(1))
        total += int(self.text.read(1)) + self.bytes.read(1)[0]
        return self.body(self.norms[0](x) + self.norms[0].running_mean) * (1 + 0.01 * total)


@functools.lru_cache
def remembered(key: int) -> list[int]:
    return []


def _lazy() -> nn.Module:
    model = nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.Dropout(0.2), nn.LazyLinear(1))
    model(torch.zeros(4, 6))
    return model


class Recurrent(nn.Module):
    """It carries its hidden state on from batch to batch."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head, self.memory = nn.GRU(6, 5, batch_first=True), nn.Linear(5, 1), {"hidden": None}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out, hidden = self.rnn(x[:, None], self.memory["hidden"])
        self.memory["hidden"] = hidden.detach()
        return self.head(out[:, -1])


MODELS: dict[str, Callable[[], nn.Module]] = {
    kind.__name__: kind for kind in (Containers, Random, Iterators, Module, Hooks, Norms, Recurrent, Elsewhere)
}
MODELS["lazy"] = _lazy
X, Y = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)), torch.zeros(8, 1)

Door = Callable[[nn.Module, torch.optim.Optimizer, Any], Any]
DOORS: dict[str, Door] = {
    "check": lambda m, o, s: lrlint.check(m, o, s, example_inputs=(X,), total_steps=50),
    "graph": lambda m, o, s: lrlint.graph(m, (X,)),
    "probe": lambda m, o, s: lrlint.probe(m, o, batches=[(X, Y)] * 4, loss_fn=nn.MSELoss(), steps=10, scheduler=s),
}


def _losses(make: Callable[[], nn.Module], door: Door | None) -> list[str]:
    """The losses of a seeded training, to the bit, with a look in its middle."""
    global CALLS, STEP, NOISE
    CALLS, STEP, NOISE = itertools.count(), 0, random.Random(5)
    Iterators.ids, Containers.instances = itertools.count(3), 0
    SEEN.clear()
    Containers.shared.clear()
    table.cache_clear()
    remembered.cache_clear()
    torch.manual_seed(0)
    model = make()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    schedule_noise = torch.Generator().manual_seed(2)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 1 + 0.01 * float(torch.rand(1, generator=schedule_noise))
    )
    losses = []
    for step in range(8):
        if step == 3 and door is not None:
            door(model, optimizer, scheduler)
        optimizer.zero_grad()
        loss = (model(X) - Y).square().mean() + random.random() + numpy.random.rand()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item().hex())
    return losses


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("kind", sorted(MODELS))
def test_a_look_in_the_middle_of_a_training_is_not_to_be_seen(kind: str) -> None:
    random.seed(0), numpy.random.seed(0)
    state = random.getstate(), numpy.random.get_state()

    def run(door: Door | None) -> list[str]:
        random.setstate(state[0]), numpy.random.set_state(state[1])
        return _losses(MODELS[kind], door)

    plain = run(None)
    assert len(set(plain)) == len(plain)
    for name, door in DOORS.items():
        assert run(door) == plain, name


def test_a_model_of_transformers_with_a_cache_of_its_own_is_left_alone() -> None:
    transformers = pytest.importorskip("transformers")

    def losses(door: Door | None) -> list[str]:
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, attention_dropout=0.1,
        )  # fmt: skip
        model = transformers.LlamaForCausalLM(config).train()
        model.cache = transformers.DynamicCache(config=config)
        ids = torch.arange(8).view(2, 4)

        def forward(input_ids: torch.Tensor) -> torch.Tensor:
            past = model.cache.get_seq_length()
            out = model(input_ids=input_ids, labels=input_ids, past_key_values=model.cache, use_cache=True)
            for layer in model.cache.layers:
                layer.keys, layer.values = layer.keys.detach(), layer.values.detach()
            return out.loss * (1 + past)

        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        found = []
        for step in range(4):
            if step == 2 and door is not None:
                door(model, optimizer, None)
            loss = forward(ids)
            loss.backward()
            optimizer.step()
            found.append(loss.item().hex())
        return found

    ids = torch.arange(8).view(2, 4)
    plain = losses(None)
    given = {"input_ids": ids, "labels": ids}
    assert losses(lambda m, o, s: lrlint.check(m, o, example_inputs={**given, "past_key_values": m.cache})) == plain
    assert losses(lambda m, o, s: lrlint.probe(m, o, batches=[given] * 2, steps=10)) == plain


# -- what is looked at beside the model --------------------------------------------------------------------------------


class Counting(Dataset[Any]):
    """A data set that draws its augmentation from a generator of its own and counts what it gave."""

    def __init__(self) -> None:
        self.rng, self.given, self.large = numpy.random.default_rng(0), 0, numpy.zeros(300_000)

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.given += 1
        return torch.full((6,), float(self.rng.random())), torch.zeros(1)


class Turning(Sampler[int]):
    """It starts elsewhere in every epoch."""

    def __init__(self) -> None:
        self.epoch = 0

    def __iter__(self) -> Iterator[int]:
        self.epoch += 1
        return iter([(self.epoch + k) % 40 for k in range(40)])

    def __len__(self) -> int:
        return 40


@pytest.mark.parametrize("door", ["check", "probe"])
def test_loaders_samplers_and_data_sets_stay_where_they_are(door: str) -> None:
    data, sampler = Counting(), Turning()
    loader = DataLoader(data, batch_size=4, sampler=sampler)
    model = nn.Linear(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = data.rng.bit_generator.state
    if door == "check":
        lrlint.check(model, optimizer, batches=loader)
    else:
        lrlint.probe(model, optimizer, batches=loader, loss_fn=nn.MSELoss(), steps=10)
    assert (data.given, sampler.epoch, data.rng.bit_generator.state) == (0, 0, before)


def test_the_probe_says_what_it_took_out_of_an_iterator() -> None:
    model = nn.Linear(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    stream = ((X, Y) for _ in range(30))
    result = lrlint.probe(model, optimizer, batches=stream, loss_fn=nn.MSELoss(), steps=10)
    (note,) = [note for note in result.facts.notes if "batches is" in note]
    assert note == "batches is a generator, which cannot be wound back: 30 batches were taken out of it"
    copied = itertools.cycle([(X, Y)])
    result = lrlint.probe(model, optimizer, batches=zip(itertools.count(), copied), loss_fn=_second, steps=10)
    assert not [note for note in result.facts.notes if "batches is" in note]


def _second(model: nn.Module, batch: Any) -> torch.Tensor:
    return (model(batch[1][0]) - batch[1][1]).square().mean()


def test_a_note_names_the_iterator_that_cannot_be_wound_back() -> None:
    class Streaming(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.scales, self.unused = nn.Linear(6, 1), (1.0 + k for k in range(9)), (k for k in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x) * next(self.scales)

    model = Streaming()
    scales = model.scales
    setup = lrlint.inspect(model, torch.optim.SGD(model.parameters(), lr=0.1), example_inputs=(X,))
    assert [n.reason for n in setup.notes if n.fact == "state"] == [
        "Streaming.scales is a generator: what was taken out of it is gone"
    ]
    assert setup.graph is not None
    assert "note: Streaming.scales is a generator" in render(
        "full", lrlint.check(model, torch.optim.SGD(model.parameters(), lr=0.1), example_inputs=(X,))
    )
    with pytest.warns(UserWarning, match=r"Streaming\.scales is a generator"):
        lrlint.graph(model, (X,))
    assert model.scales is scales
    assert list(model.unused) == [0, 1, 2]


def test_hooks_on_all_modules_do_not_pile_up() -> None:
    class Hooking(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            nn.modules.module.register_module_forward_hook(lambda module, inputs, output: output)
            optimizers.register_optimizer_step_pre_hook(lambda *given: None)
            return super().forward(x)

    def held() -> tuple[int, int]:
        return len(nn.modules.module._global_forward_hooks), len(optimizers._global_optimizer_pre_hooks)

    optimizers: Any = sys.modules["torch.optim.optimizer"]
    model, before = Hooking(6, 1), held()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    lrlint.check(model, optimizer, example_inputs=(X,))
    lrlint.probe(model, optimizer, batches=[(X, Y)] * 2, loss_fn=nn.MSELoss(), steps=10, headroom=False)
    assert held() == before


def test_a_scheduler_on_a_copy_draws_from_a_copy_of_its_generator() -> None:
    """The rates that are foreseen are the rates that come, though every one is drawn."""
    model = nn.Linear(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    class Jitter(torch.optim.lr_scheduler.LRScheduler):
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            self.torch, self.numpy = torch.Generator().manual_seed(1), numpy.random.default_rng(1)
            super().__init__(optimizer)

        def get_lr(self) -> list[float]:
            drawn = float(torch.rand(1, generator=self.torch)) + float(self.numpy.random())
            return [base * drawn for base in self.base_lrs]

    scheduler = Jitter(optimizer)
    setup = lrlint.inspect(model, optimizer, scheduler, total_steps=6, graph=False)
    trace = setup.schedules[0].groups[0].lr
    assert trace is not None
    coming = []
    for _ in range(6):
        coming.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert [trace.at(step) for step in range(6)] == pytest.approx(coming)
