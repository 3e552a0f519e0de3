"""What the code of functions and classes reads and writes beside its arguments: global variables, and caches of results."""

from __future__ import annotations

import dis
import functools
import gc
import sys
import types
from collections.abc import Iterator
from typing import Any

#: Packages whose classes keep nothing of a run: the interpreter's own, and those that the walk knows.
_SETTLED = frozenset(sys.stdlib_module_names) | {"torch", "numpy"}
_STORE = dis.opmap["STORE_GLOBAL"]
_CACHE: Any = type(functools.lru_cache(lambda: None))


def is_settled(kind: type) -> bool:
    """Whether a class belongs to a package whose classes keep nothing of a run."""
    return str(kind.__module__).partition(".")[0] in _SETTLED


def is_cache(item: Any) -> bool:
    """Whether a function is one that remembers its results (`functools.lru_cache`)."""
    return isinstance(item, _CACHE)


def cached(item: Any) -> list[Any]:
    """The arguments and results that a function remembers, as far as the garbage collector knows them."""
    found: list[Any] = []
    for held in gc.get_referents(item):
        if type(held) is dict:  # the cache's own table, which is not to be written into
            found += gc.get_referents(held)
        elif held is not item.__wrapped__:
            found.append(held)
    return found


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


def writes_globals(code: types.CodeType) -> bool:
    """Whether the code assigns a global variable."""
    return _STORE in code.co_code[::2]


def functions_of(value: Any) -> tuple[Any, ...]:
    """The functions behind an attribute of a class."""
    if isinstance(value, (types.FunctionType, _CACHE)):
        return (value,)
    if isinstance(value, (staticmethod, classmethod)):
        return functions_of(value.__func__)
    if isinstance(value, property):
        return tuple(f for f in (value.fget, value.fset) if isinstance(f, types.FunctionType))
    return ()
