"""Kinds of state that a model can hold: how each is made, and a step that changes it and depends on what it was."""

from __future__ import annotations

import array
import collections
import contextvars
import dataclasses
import fractions
import functools
import io
import itertools
import queue
import random
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import torch
from torch import nn

#: (makes the state, steps it: the number that the loss depends on)
Kind = tuple[Callable[[], Any], Callable[[Any], float]]

COUNT = 0
SEEN: list[int] = []
TABLE: dict[str, Any] = {}
NUMBERS = itertools.count()
NOISE = random.Random(0)


class Helper:
    def __init__(self) -> None:
        self.n, self.inner = 0, types.SimpleNamespace(n=0)

    def bump(self) -> float:
        self.n += 1
        self.inner.n += self.n
        return float(self.inner.n % 11)


class Slotted:
    __slots__ = ("__private", "n")

    def __init__(self) -> None:
        self.n, self.__private = 0, [0]

    def bump(self) -> float:
        self.n += 1
        self.__private.append(self.n)
        return float(sum(self.__private) % 7)


class Derived(Slotted):
    """Slots above, a dict of its own."""

    def bump(self) -> float:
        self.late = getattr(self, "late", 0) + 1
        return super().bump() + self.late


@dataclasses.dataclass
class Data:
    n: int = 0
    seen: list[int] = dataclasses.field(default_factory=list)


class Counted(type):
    made = 0


class OfClass(metaclass=Counted):
    calls = 0
    seen: list[int] = []  # noqa: RUF012 - shared on purpose

    def bump(self) -> float:
        OfClass.calls += 1
        self.seen.append(OfClass.calls)
        return float(len(self.seen) % 5 + OfClass.calls)


class Mine(dict[str, Any]):
    """A dict with attributes."""

    def bump(self) -> float:
        self["n"] = self.get("n", 0) + 1
        self.total = getattr(self, "total", 0) + self["n"]
        return float(self.total)


class Stream:
    """An iterator in Python: its position is an attribute."""

    def __init__(self) -> None:
        self.k = 0

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> float:
        self.k += 1
        return self.k / 10


def _closure() -> Callable[[], float]:
    n, seen = 0, [0]

    def bump() -> float:
        nonlocal n
        n += 1
        seen.append(n)
        return float(sum(seen))

    return bump


def _globally(_: Any) -> float:
    global COUNT
    COUNT += 1
    SEEN.append(COUNT)
    TABLE["n"] = TABLE.get("n", 0) + 2
    return COUNT + len(SEEN) + TABLE["n"] + next(NUMBERS) + NOISE.random()


def _fresh_globals() -> None:
    global COUNT, NUMBERS, NOISE
    COUNT, NUMBERS, NOISE = 0, itertools.count(), random.Random(0)
    SEEN.clear()
    TABLE.clear()


def _fresh_class() -> OfClass:
    OfClass.calls = 0
    OfClass.seen.clear()
    return OfClass()


@functools.lru_cache(maxsize=3)
def cached(k: int) -> list[int]:
    return [k]


def _cached(state: list[int]) -> float:
    state[0] += 1
    held = cached(state[0] % 2)
    held.append(1)
    return float(len(held))


def _append(state: Any) -> float:
    state.append(len(state))
    return float(sum(state))


def _nested(state: Any) -> float:
    state["a"][0].append(1)
    state["b"]["c"][("k", 1)] = len(state["a"][0])
    return float(len(state["a"][0]) + sum(state["b"]["c"].values()))


def _array(state: Any) -> float:
    state += 1
    return float(state.reshape(-1)[0])


def _rotated(state: Any) -> float:
    state.rotate(1)
    state[0] += 1
    return float(state[0])


def _generator() -> Iterator[float]:
    yield from (k / 10 for k in range(1000))


def _queued(state: Any) -> float:
    state.put(state.qsize())
    return float(state.qsize())


def _local(state: Any) -> float:
    state.n = getattr(state, "n", 0) + 1
    return float(state.n)


def _varied(state: Any) -> float:
    state.set(state.get(0) + 1)
    return float(state.get())


def _written(state: Any) -> float:
    state.write("x")
    return float(state.tell())


def _put(state: Any, key: Any = 0) -> float:
    state[key] = state[key] + 1
    return float(state[key])


def _popped(state: set[int]) -> float:
    state.add(len(state) * 7)
    return float(sum(state))


def _grouped(state: Any) -> float:
    return float(next(state)[0])


def _record(state: Any) -> float:
    state.n += 1
    state.seen.append(state.n)
    return float(len(state.seen) + state.n)


def _tensor(state: Any) -> float:
    with torch.no_grad():
        state.add_(1)
    return float(state.sum())


def _reassigned(state: dict[str, Any]) -> float:
    state["t"] = state["t"] + 1
    return float(state["t"].sum())


def _partial(state: Any) -> float:
    state.args[0].append(1)
    return float(state())


def _bits(state: Any) -> float:
    return float(state.random_raw() % 5)


def _drawn(state: torch.Generator) -> float:
    return float(torch.rand(1, generator=state))


_bump = lambda state: state.bump()  # noqa: E731
_take = lambda state: float(next(state))  # noqa: E731
_two = lambda kind: lambda: kind(["a", "b"])  # noqa: E731

KINDS: dict[str, Kind] = {
    "nested": (lambda: {"a": [[]], "b": {"c": {}}}, _nested),
    "list": (lambda: [1], _append),
    "deque": (lambda: collections.deque([0, 1, 2], maxlen=3), _rotated),
    "bounded": (lambda: collections.deque([1], maxlen=4), _append),
    "counter": (lambda: collections.Counter("aab"), lambda s: _put(s, "a")),
    "default": (lambda: collections.defaultdict(int), lambda s: _put(s, "x")),
    "ordered": (lambda: collections.OrderedDict(a=1, b=2), lambda s: s.move_to_end("a") or _put(s, "a")),
    "chained": (lambda: collections.ChainMap({"a": 1}, {"b": 2}), lambda s: _put(s, "b")),
    "user_dict": (lambda: collections.UserDict(a=1), lambda s: _put(s, "a")),
    "user_list": (lambda: collections.UserList([1]), _append),
    "dict_with_attributes": (Mine, _bump),
    "set": (lambda: {1}, _popped),
    "helper": (Helper, _bump),
    "method": (lambda: Helper().bump, lambda s: s()),
    "slots": (Slotted, _bump),
    "slots_and_dict": (Derived, _bump),
    "dataclass": (Data, _record),
    "namespace": (lambda: types.SimpleNamespace(n=0, seen=[]), _record),
    "class": (_fresh_class, _bump),
    "globals": (_fresh_globals, _globally),
    "closure": (_closure, lambda s: s()),
    "partial": (lambda: functools.partial(len, [1]), _partial),
    "cache": (lambda: cached.cache_clear() or [0], _cached),
    "bytes": (lambda: bytearray(3), _put),
    "array": (lambda: array.array("d", [0.5, 1.5]), _put),
    "numpy": (lambda: numpy.zeros(3), _array),
    "numpy_scalar": (lambda: numpy.zeros(()), _array),
    "numpy_strided": (lambda: numpy.zeros((4, 4))[::2, 1:3], _array),
    "numpy_objects": (lambda: numpy.array([[1], [2, 3], []], dtype=object), lambda s: _append(s[1])),
    "numpy_structured": (lambda: numpy.zeros(2, dtype=[("a", int), ("b", float)]), lambda s: _put(s["b"])),
    "tensor": (lambda: torch.zeros(3), _tensor),
    "tensor_in_tuple": (lambda: (torch.zeros(2), [torch.zeros(1)]), lambda s: _tensor(s[1][0]) + _tensor(s[0])),
    "tensor_view": (lambda: torch.zeros(4, 4)[1:3, ::2], _tensor),
    "tensor_replaced": (lambda: {"t": torch.zeros(2)}, _reassigned),
    "tensor_of_numpy": (lambda: torch.from_numpy(numpy.zeros(3)), lambda s: _array(s.numpy())),
    "parameter_list": (lambda: [nn.Parameter(torch.zeros(2))], lambda s: _tensor(s[0])),
    "module_in_list": (
        lambda: [nn.BatchNorm1d(2)],
        lambda s: float(s[0](torch.ones(2, 2)).sum() + _tensor(s[0].running_mean)),
    ),
    "torch_generator": (lambda: torch.Generator().manual_seed(1), _drawn),
    "numpy_generator": (lambda: numpy.random.default_rng(1), lambda s: s.random()),
    "numpy_state": (lambda: numpy.random.RandomState(1), lambda s: s.rand()),
    "bit_generator": (lambda: numpy.random.Philox(3), _bits),
    "python_random": (lambda: random.Random(1), lambda s: s.random()),
    "global_random": (lambda: None, lambda s: random.random() + numpy.random.rand() + float(torch.rand(1))),
    "count": (lambda: itertools.count(3), _take),
    "cycle": (lambda: itertools.cycle([1.0, 2.0, 3.0]), _take),
    "chain": (lambda: itertools.chain([1.0] * 3, itertools.count()), _take),
    "islice": (lambda: itertools.islice(itertools.count(), 2, 5000, 3), _take),
    "tee": (lambda: itertools.tee(itertools.count())[1], _take),
    "product": (lambda: itertools.product(range(9), repeat=3), lambda s: float(sum(next(s)))),
    "permutations": (lambda: itertools.permutations(range(7)), lambda s: float(next(s)[-1])),
    "accumulate": (lambda: itertools.accumulate(itertools.count(1)), _take),
    "groupby": (lambda: itertools.groupby(itertools.count(), lambda k: k // 2), _grouped),
    "zip": (lambda: zip(itertools.count(), itertools.cycle("ab")), lambda s: float(next(s)[0])),
    "enumerate": (lambda: enumerate(itertools.repeat(1.0)), lambda s: float(next(s)[0])),
    "map": (lambda: map(float, itertools.count()), _take),
    "filter": (lambda: filter(lambda k: k % 3, itertools.count()), _take),
    "list_iterator": (lambda: iter([k / 10 for k in range(2000)]), _take),
    "reversed": (lambda: reversed(range(2000)), _take),
    "dict_iterator": (lambda: iter(dict.fromkeys(range(2000))), _take),
    "stream": (Stream, _take),
    "fraction": (lambda: [fractions.Fraction(1, 3)], lambda s: _put(s)),
    "text_stream": (lambda: io.StringIO("0123456789" * 100), lambda s: float(s.read(1))),
    "byte_stream": (lambda: io.BytesIO(bytes(range(256)) * 8), lambda s: float(s.read(1)[0])),
    "written_stream": (io.StringIO, _written),
    "queue": (queue.Queue, _queued),
    "heap": (lambda: queue.PriorityQueue(), _queued),
    "thread_local": (threading.local, _local),
    "context_variable": (lambda: contextvars.ContextVar("mine", default=0), _varied),
}
#: What cannot be wound back, and is named in a note.
NOTED: dict[str, Kind] = {"generator": (_generator, _take)}
