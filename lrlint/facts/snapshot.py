"""Facts ↔ JSON data, directed by the facts' own type annotations.

One class is written in full in one list of the root only; everywhere else its ``index`` refers to it. Floats that JSON
lacks (nan, inf) are ``{"float": "nan"}``.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from typing import Any, Union

Decoder = Callable[[Any, tuple[Any, ...]], Any]


def encode(root: Any, reference: type, listed: str) -> dict[str, Any]:
    """Plain JSON data of a dataclass. ``reference`` objects stand in full in its field ``listed``, elsewhere as index."""
    data: dict[str, Any] = {}
    for item in fields(root):
        value = getattr(root, item.name)
        in_full = item.name == listed
        data[item.name] = [_fields(p, reference) for p in value] if in_full else _encode(value, reference)
    return data


def _encode(value: Any, reference: type) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, reference):
        return value.index  # type: ignore[attr-defined]
    if is_dataclass(value):
        return _fields(value, reference)
    if isinstance(value, Mapping):
        return {str(key): _encode(item, reference) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    return [_encode(item, reference) for item in value]


def _fields(value: Any, reference: type) -> dict[str, Any]:
    cls: Any = type(value)
    found = ((name, getattr(value, name), default) for name, default in _layout(cls))
    return {name: _encode(item, reference) for name, item, default in found if not _says_nothing(item, default)}


def _says_nothing(item: Any, default: Any) -> bool:
    """A None or empty default is left out: a large model's snapshot stays readable."""
    if default is None:
        return item is None
    return default == () and not item and not isinstance(item, (bool, int, float))


@lru_cache(maxsize=4096)  # a notebook defines its classes again and again
def _layout(cls: Any) -> list[tuple[str, Any]]:
    """(field, its default where that is None, () for any other empty default, else MISSING) of a dataclass."""

    def default(item: Any) -> Any:
        if item.default is None:
            return None
        return () if item.default_factory is not MISSING or item.default in ("", ()) else MISSING

    return [(item.name, default(item)) for item in fields(cls)]


def decode(cls: type, data: Mapping[str, Any], reference: type, listed: str) -> Any:
    """The dataclass ``cls`` of `encode`'s data. Raises ValueError for an unknown key, and whatever misfits raise."""
    one = _decoder(reference, reference, whole=True)
    references = tuple(one(item, ()) for item in data.get(listed, ()))
    rest = {key: value for key, value in data.items() if key != listed}
    return _decoder(cls, reference)(rest, references, **{listed: references})  # type: ignore[call-arg]


def _plain(value: Any, _: Any) -> Any:
    return value


def _any(value: Any, parameters: tuple[Any, ...]) -> Any:
    if isinstance(value, dict):
        if len(value) == 1 and isinstance(value.get("float"), str):
            return float(value["float"])
        return {key: _any(item, parameters) for key, item in value.items()}
    return [_any(item, parameters) for item in value] if isinstance(value, list) else value


def _float(value: Any, _: Any) -> Any:
    return float(value["float"]) if isinstance(value, dict) else value


def _reference(value: int, parameters: tuple[Any, ...]) -> Any:
    if value < 0:
        raise IndexError(f"there is no parameter {value}")
    return parameters[value]


@lru_cache(maxsize=4096)
def _decoder(hint: Any, reference: type, whole: bool = False) -> Decoder:
    """The decoder of an annotated type; ``whole`` decodes a reference object itself instead of its index."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        inner = _decoder(next(argument for argument in arguments if argument is not type(None)), reference)
        return lambda value, parameters: None if value is None else inner(value, parameters)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            item = _decoder(arguments[0], reference)
            return lambda value, parameters: tuple(item(v, parameters) for v in value)
        items = [_decoder(argument, reference) for argument in arguments]
        return lambda value, parameters: tuple(d(v, parameters) for d, v in zip(items, value, strict=True))
    if origin is frozenset:
        return lambda value, _: frozenset(value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        as_key = arguments[0] if arguments[0] in (int, float) else str
        item = _decoder(arguments[1], reference)
        return lambda value, parameters: {as_key(k): item(v, parameters) for k, v in value.items()}
    if hint is reference and not whole:
        return _reference
    if is_dataclass(hint):
        return _dataclass_decoder(hint, reference)
    return {float: _float, Any: _any}.get(hint, _plain)


def _dataclass_decoder(cls: Any, reference: type) -> Decoder:
    hints = typing.get_type_hints(cls)  # of each class's own module
    known = {item.name for item in fields(cls)}
    decoders: dict[str, Decoder] = {}

    def decode(value: Any, references: tuple[Any, ...], /, **complete: Any) -> Any:
        if unknown := set(value) - known:
            raise ValueError(f"unknown key {sorted(unknown)[0]!r} in {cls.__name__.lower()} (from a newer lrlint?)")
        found = complete
        for name, item in value.items():
            if name not in decoders:
                decoders[name] = _decoder(hints[name], reference)
            found[name] = item if decoders[name] is _plain else decoders[name](item, references)
        return cls(**found)

    return decode
