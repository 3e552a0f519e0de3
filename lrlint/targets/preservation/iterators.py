"""Iterators among the objects that are kept: a copy takes their place while the user's code runs.

An iterator cannot be wound back, but one of `itertools` or of a builtin type says how to make another that stands where it
stands. Whoever holds it holds that one meanwhile, and has the original back, which nobody has moved. What cannot be copied
(a generator) is used as it is, and it is noticed whether something was taken out of it.
"""

from __future__ import annotations

import types
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from lrlint.targets.preservation.records import Holder

_COPIED_FROM = ("itertools", "builtins")


class Uncopyable(Exception):
    """There is no second iterator that gives the same."""


class Watched:
    """Stands for an iterator that cannot be copied; ``taken``: whether something was taken out of it."""

    __slots__ = ("_inner", "taken")

    def __init__(self, inner: Any) -> None:
        self._inner, self.taken = inner, False

    def __iter__(self) -> Watched:
        return self

    def __next__(self) -> Any:
        self.taken = True
        return next(self._inner)

    def __getattr__(self, name: str) -> Any:
        self.taken = self.taken or name in ("send", "throw", "close")
        return getattr(self._inner, name)


def is_position(item: Any) -> bool:
    """Whether the object is an iterator whose position lies outside Python's attributes."""
    kind = type(item)
    if kind is Watched or not hasattr(kind, "__next__"):
        return False
    return kind.__module__ in _COPIED_FROM or kind is types.GeneratorType or not hasattr(item, "__dict__")


def parts(iterator: Any) -> tuple[Any, ...]:
    """What an iterator goes through and calls, where it says so."""
    try:
        _, arguments, *_ = _reduced(iterator)
    except Uncopyable:
        return ()
    return tuple(arguments)


def twin(iterator: Any, made: dict[int, Any]) -> Any:
    """An iterator that gives what this one would give, and leaves it where it is. Raises Uncopyable.

    ``made``: the copies by the ids of their originals, so that what two of them share their copies share too.
    """
    if id(iterator) in made:
        return made[id(iterator)]
    if type(iterator).__name__ == "_tee":
        copied = iterator.__copy__()
    else:
        kind, arguments, *state = _reduced(iterator)
        copied = kind(*(_inner(item, made) for item in arguments))
        if state and state[0] is not None:
            copied.__setstate__(_apart(state[0], made))
    made[id(iterator)] = copied
    return copied


def _reduced(iterator: Any) -> Any:
    if type(iterator).__module__ not in _COPIED_FROM:
        raise Uncopyable
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # copying is deprecated, and no longer offered from Python 3.14 on
            reduced = iterator.__reduce__()
    except TypeError as error:
        raise Uncopyable from error
    if not isinstance(reduced, tuple) or len(reduced) < 2:
        raise Uncopyable
    return reduced


def _inner(item: Any, made: dict[int, Any]) -> Any:
    if type(item) is tuple:
        return tuple(_inner(part, made) for part in item)
    if not isinstance(item, Iterator) or type(item) is Watched:
        return item
    if is_position(item):
        return twin(item, made)
    if hasattr(item, "__dict__") and not type(item).__module__.startswith("torch."):
        return item  # a class in Python: its attributes are put back
    raise Uncopyable


def _apart(state: Any, made: dict[int, Any]) -> Any:
    """The state with lists of its own: `itertools.cycle` writes into its."""
    if type(state) is tuple:
        return tuple(_apart(part, made) for part in state)
    return list(state) if type(state) is list else _inner(state, made)


class StandIns:
    """Copies of iterators in the places where the originals are held."""

    def __init__(self, iterators: Sequence[Any], holders: Sequence[Holder]) -> None:
        self._iterators = list(iterators)
        ids = {id(item) for item in iterators}
        self._holders = [holder for holder in holders if holder.holds(ids)] if ids else []
        self._watched: dict[int, Watched] = {}

    def install(self) -> None:
        """Put fresh copies in the places of the originals, which must be there."""
        if not self._holders:
            return
        made: dict[int, Any] = {}
        for item in self._iterators:
            try:
                twin(item, made)
            except Uncopyable:
                made[id(item)] = self._watched.setdefault(id(item), Watched(item))
        for holder in self._holders:
            holder.swap(made)

    def notes(self) -> list[str]:
        """What was taken out of iterators that cannot be wound back."""
        notes = []
        for holder in self._holders:
            for name, value in holder.references():
                watched = self._watched.get(id(value))
                if watched is not None and watched.taken:
                    notes.append(f"{holder.label(name)} is a {type(value).__name__}: what was taken out of it is gone")
        return notes
