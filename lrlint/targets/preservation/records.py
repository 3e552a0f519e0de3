"""What is remembered of Python objects, and how it is put back: in place, and only where something differs."""

from __future__ import annotations

import collections
import types
from collections.abc import Callable
from typing import Any, Protocol

#: Stands for an attribute or variable that has no value.
MISSING = object()


class Record(Protocol):
    """One thing remembered; `restore` puts it back."""

    def restore(self) -> None: ...


class Contents:
    """The items of a dict, list, set or deque. They are compared by identity: tensors have no truth value."""

    __slots__ = ("_flat", "_item")

    def __init__(self, item: Any) -> None:
        self._item = item
        self._flat = _flat(item)

    @property
    def entries(self) -> list[Any]:
        """The items; of a dict its keys and values in turn."""
        return self._flat

    def restore(self) -> None:
        now = _flat(self._item)
        if len(now) != len(self._flat) or any(a is not b for a, b in zip(now, self._flat, strict=True)):
            _refill(self._item, self._flat)


# Containers are read and filled by their base class's own methods: a subclass may check or convert what it gets.


def _flat(item: Any) -> list[Any]:
    if isinstance(item, dict):
        return [part for pair in _base(item).items(item) for part in pair]
    return list(item)


def _base(item: Any) -> Any:
    return collections.OrderedDict if isinstance(item, collections.OrderedDict) else dict


def _refill(item: Any, entries: list[Any]) -> None:
    if isinstance(item, dict):
        base = _base(item)
        base.clear(item)
        for key, value in zip(entries[::2], entries[1::2], strict=True):
            base.__setitem__(item, key, value)
    elif isinstance(item, list):
        list.__setitem__(item, slice(None), entries)
    elif isinstance(item, collections.deque):
        collections.deque.clear(item)
        collections.deque.extend(item, entries)
    else:
        set.clear(item)
        set.update(item, entries)


class Attributes:
    """The class of an object and its ``__dict__``."""

    __slots__ = ("_class", "_entries", "_item")

    def __init__(self, item: Any) -> None:
        self._item, self._class = item, type(item)
        self._entries = list(vars(item).items())

    def restore(self) -> None:
        if type(self._item) is not self._class:
            self._item.__class__ = self._class
        now = vars(self._item)
        if len(now) != len(self._entries) or any(
            a is not c or b is not d for (a, b), (c, d) in zip(now.items(), self._entries, strict=True)
        ):
            now.clear()
            now.update(self._entries)


class Slots:
    """The values of an object's ``__slots__``."""

    __slots__ = ("_item", "_names", "values")

    def __init__(self, item: Any, names: tuple[str, ...]) -> None:
        self._item, self._names = item, names
        self.values = [getattr(item, name, MISSING) for name in names]

    def restore(self) -> None:
        for name, value in zip(self._names, self.values, strict=True):
            if getattr(self._item, name, MISSING) is value:
                continue
            if value is MISSING:
                object.__delattr__(self._item, name)
            else:
                object.__setattr__(self._item, name, value)


class Cell:
    """A variable that a function shares with its surroundings."""

    __slots__ = ("_cell", "value")

    def __init__(self, cell: types.CellType) -> None:
        self._cell, self.value = cell, _content(cell)

    def restore(self) -> None:
        if _content(self._cell) is self.value:
            return
        if self.value is MISSING:
            del self._cell.cell_contents
        else:
            self._cell.cell_contents = self.value


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return MISSING


class State:
    """A value that a setter takes back: the state of a random generator, the contents of an array."""

    __slots__ = ("_set", "_value")

    def __init__(self, value: Any, set_: Callable[[Any], Any]) -> None:
        self._value, self._set = value, set_

    def restore(self) -> None:
        self._set(self._value)
