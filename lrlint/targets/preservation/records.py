"""What is remembered of Python objects, and how it is put back: in place, and only where something differs."""

from __future__ import annotations

import collections
import operator
import types
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol

#: Stands for an attribute or variable that has no value.
MISSING = object()


class Record(Protocol):
    """One thing remembered; `restore` puts it back."""

    def restore(self) -> None: ...


class Holder:
    """A record of named references, some of which another object may take the place of until they are restored."""

    __slots__ = ()

    def references(self) -> Iterator[tuple[Any, Any]]:
        """(name, object) of each reference, as remembered."""
        raise NotImplementedError

    def put(self, name: Any, value: Any) -> None:
        """Let the reference point to something else."""
        raise NotImplementedError

    def label(self, name: Any) -> str:
        """The reference in words for users."""
        raise NotImplementedError

    def holds(self, ids: Container[int]) -> bool:
        """Whether one of these objects is referred to."""
        return any(id(value) in ids for _, value in self.references())

    def swap(self, substitutes: Mapping[int, Any]) -> None:
        """Put substitutes in the places of objects, which are given by their ids."""
        for name, value in self.references():
            if id(value) in substitutes:
                self.put(name, substitutes[id(value)])


def _differ(now: list[Any], before: list[Any]) -> bool:
    """Objects are compared by identity: tensors have no truth value."""
    return len(now) != len(before) or not all(map(operator.is_, now, before))


class Contents(Holder):
    """The items of a dict, list, set or deque."""

    __slots__ = ("_flat", "_item")

    def __init__(self, item: Any) -> None:
        self._item = item
        self._flat = _flat(item)

    @property
    def entries(self) -> list[Any]:
        """The items; of a dict its keys and values in turn."""
        return self._flat

    def is_of(self, item: Any) -> bool:
        """Whether these are the items of this very container."""
        return self._item is item

    def restore(self) -> None:
        if _differ(_flat(self._item), self._flat):
            _refill(self._item, self._flat)

    def references(self) -> Iterator[tuple[Any, Any]]:
        if isinstance(self._item, dict):
            yield from zip(self._flat[::2], self._flat[1::2], strict=True)
        elif not isinstance(self._item, set):
            yield from enumerate(self._flat)

    def put(self, name: Any, value: Any) -> None:
        if isinstance(self._item, dict):
            _base(self._item).__setitem__(self._item, name, value)
        else:
            (list if isinstance(self._item, list) else collections.deque).__setitem__(self._item, name, value)

    def label(self, name: Any) -> str:
        return f"[{name!r:.40}] of a {type(self._item).__name__}"


# Containers are read and filled by their base class's own methods: a subclass may check or convert what it gets.


def _flat(item: Any) -> list[Any]:
    if isinstance(item, dict):
        return [part for pair in _base(item).items(item) for part in pair]
    return list(_BASES[_kind(item)].__iter__(item))


_BASES: dict[str, Any] = {"list": list, "set": set, "deque": collections.deque}


def _kind(item: Any) -> str:
    return "list" if isinstance(item, list) else "set" if isinstance(item, set) else "deque"


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


class Attributes(Holder):
    """The class of an object and its ``__dict__``."""

    __slots__ = ("_class", "_item", "_names", "_values")

    def __init__(self, item: Any) -> None:
        self._item, self._class = item, type(item)
        self._names, self._values = list(vars(item)), list(vars(item).values())

    def restore(self) -> None:
        if type(self._item) is not self._class:
            self._item.__class__ = self._class
        now = vars(self._item)
        if _differ(list(now.values()), self._values) or list(now) != self._names:
            now.clear()
            now.update(zip(self._names, self._values, strict=True))

    def references(self) -> Iterator[tuple[Any, Any]]:
        return zip(self._names, self._values, strict=True)

    def put(self, name: Any, value: Any) -> None:
        vars(self._item)[name] = value

    def label(self, name: Any) -> str:
        return f"{self._class.__name__}.{name}"


class Slots(Holder):
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

    def references(self) -> Iterator[tuple[Any, Any]]:
        return zip(self._names, self.values, strict=True)

    def put(self, name: Any, value: Any) -> None:
        object.__setattr__(self._item, name, value)

    def label(self, name: Any) -> str:
        return f"{type(self._item).__name__}.{name}"


class Cell(Holder):
    """A variable that a function shares with its surroundings."""

    __slots__ = ("_cell", "_name", "value")

    def __init__(self, cell: types.CellType, name: str) -> None:
        self._cell, self._name, self.value = cell, name, _content(cell)

    def restore(self) -> None:
        if _content(self._cell) is self.value:
            return
        if self.value is MISSING:
            del self._cell.cell_contents
        else:
            self._cell.cell_contents = self.value

    def references(self) -> Iterator[tuple[Any, Any]]:
        yield self._name, self.value

    def put(self, name: Any, value: Any) -> None:
        self._cell.cell_contents = value

    def label(self, name: Any) -> str:
        return f"the variable {name}"


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return MISSING


class ClassAttributes(Holder):
    """What a class in Python holds under its attributes' names, functions included."""

    __slots__ = ("_class", "_names", "_values")

    def __init__(self, kind: type) -> None:
        self._class = kind
        held = _of_class(kind)
        self._names, self._values = list(held), list(held.values())

    def restore(self) -> None:
        now = _of_class(self._class)
        if len(now) == len(self._names) and not _differ(list(now.values()), self._values):
            return
        before = dict(zip(self._names, self._values, strict=True))
        for name, value in before.items():
            if now.get(name, MISSING) is not value:
                with suppress(AttributeError, TypeError):  # a metaclass may refuse
                    type.__setattr__(self._class, name, value)
        for name in now.keys() - before.keys():
            with suppress(AttributeError, TypeError):
                type.__delattr__(self._class, name)

    def references(self) -> Iterator[tuple[Any, Any]]:
        return zip(self._names, self._values, strict=True)

    def put(self, name: Any, value: Any) -> None:
        with suppress(AttributeError, TypeError):
            type.__setattr__(self._class, name, value)

    def label(self, name: Any) -> str:
        return f"{self._class.__name__}.{name}"


def _of_class(kind: type) -> dict[str, Any]:
    return {name: value for name, value in vars(kind).items() if not name.startswith(("__", "_abc_"))}


class Globals(Holder):
    """Global variables of a module, of which functions name some."""

    __slots__ = ("_names", "_scope", "_values")

    def __init__(self, scope: dict[str, Any], names: Iterable[str]) -> None:
        self._scope, self._names = scope, list(names)
        self._values = [scope.get(name, MISSING) for name in self._names]

    def restore(self) -> None:
        for name, value in zip(self._names, self._values, strict=True):
            if value is MISSING:
                self._scope.pop(name, None)
            elif self._scope.get(name, MISSING) is not value:
                self._scope[name] = value

    def references(self) -> Iterator[tuple[Any, Any]]:
        return zip(self._names, self._values, strict=True)

    def put(self, name: Any, value: Any) -> None:
        self._scope[name] = value

    def label(self, name: Any) -> str:
        return f"{self._scope.get('__name__', '')}.{name}".lstrip(".")


class Cache:
    """A function that remembers its results: what it learnt meanwhile may be the result of a stand-in.

    Its table cannot be read. Where it has grown it is emptied, which costs the time to fill it again and nothing else.
    """

    __slots__ = ("_function", "_misses")

    def __init__(self, function: Any) -> None:
        self._function, self._misses = function, function.cache_info().misses

    def restore(self) -> None:
        if self._function.cache_info().misses != self._misses:
            self._function.cache_clear()
            self._misses = 0


class State:
    """A value that a setter takes back: the state of a random generator, the contents of an array."""

    __slots__ = ("_set", "_value")

    def __init__(self, value: Any, set_: Callable[[Any], Any]) -> None:
        self._value, self._set = value, set_

    def restore(self) -> None:
        self._set(self._value)
