"""Setup ↔ JSON data, directed by the facts' own type annotations.

A parameter stands in full only in the list of parameters; everywhere else its index refers to it. Floats that JSON
lacks (nan, inf) are ``{"float": "nan"}``.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Union

from lrlint.facts import core, graph, probe, schedule, source, span
from lrlint.memo import per_class

SCHEMA = "lrlint-setup/1"

Decoder = Callable[[Any, tuple[core.Parameter, ...]], Any]


def encode_setup(setup: core.Setup) -> dict[str, Any]:
    """Plain JSON data of a Setup."""
    data: dict[str, Any] = {"schema": SCHEMA}
    for item in fields(setup):
        value = getattr(setup, item.name)
        data[item.name] = [_fields(p) for p in value] if item.name == "parameters" else _encode(value)
    return data


def _encode(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, core.Parameter):
        return value.index
    if is_dataclass(value):
        return _fields(value)
    if isinstance(value, Mapping):
        return {str(key): _encode(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    return [_encode(item) for item in value]


def _fields(value: Any) -> dict[str, Any]:
    found = ((name, getattr(value, name), default) for name, default in _layout(type(value)))
    return {name: _encode(item) for name, item, default in found if not _says_nothing(item, default)}


def _says_nothing(item: Any, default: Any) -> bool:
    """A None or empty default is left out: a large model's snapshot stays readable."""
    if default is None:
        return item is None
    return default == () and not item and not isinstance(item, (bool, int, float))


@per_class
def _layout(cls: Any) -> list[tuple[str, Any]]:
    """(field, its default where that is None, () for any other empty default, else MISSING) of a dataclass."""

    def default(item: Any) -> Any:
        if item.default is None:
            return None
        return () if item.default_factory is not MISSING or item.default in ("", ()) else MISSING

    return [(item.name, default(item)) for item in fields(cls)]


def decode_setup(data: Mapping[str, Any]) -> core.Setup:
    """The Setup of `encode_setup`'s data. Raises ValueError that names the place which does not fit."""
    found = data.get("schema") if isinstance(data, Mapping) else type(data).__name__
    if not isinstance(data, Mapping) or found != SCHEMA:
        if isinstance(found, str) and found.startswith(SCHEMA.partition("/")[0] + "/"):
            raise ValueError(f"another lrlint saved it: its schema is {found!r}, and this one reads {SCHEMA!r}")
        raise ValueError(f"not a setup snapshot: schema is {found!r}, expected {SCHEMA!r}")
    one = _decoder(core.Parameter, whole=True)
    try:
        parameters = tuple(one(item, ()) for item in data.get("parameters", ()))
        rest = {key: value for key, value in data.items() if key not in ("schema", "parameters")}
        setup: core.Setup = _decoder(core.Setup)(rest, parameters)
        object.__setattr__(setup, "parameters", parameters)
        misfit = next(_misfits(setup), "")
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"not a setup snapshot: {error}") from error
    if misfit:
        raise ValueError(f"damaged: {misfit}")
    return setup


def _misfits(setup: core.Setup) -> Iterator[str]:
    """Numbers that do not refer to what they count, and curves without points."""
    for what, items in (("parameters", setup.parameters), ("optimizers", setup.optimizers)):
        if [item.index for item in items] != list(range(len(items))):
            yield f"the {what} are not numbered in order"
    for optimizer in setup.optimizers:
        if [(g.optimizer, g.index) for g in optimizer.groups] != [
            (optimizer.index, k) for k in range(len(optimizer.groups))
        ]:
            yield f"the groups of optimizer {optimizer.index} are not numbered in order"
    for item in setup.schedules:
        count = None
        if item.optimizer is not None:
            if not 0 <= item.optimizer < len(setup.optimizers):
                yield f"a schedule drives optimizer {item.optimizer}, and there is none"
                continue
            count = len(setup.optimizers[item.optimizer].groups)
        if item.groups and item.horizon is None:
            yield "a schedule has a course, and no horizon"
        for group in item.groups:
            if count is not None and not 0 <= group.group < count:
                yield f"a schedule sets the rate of group {group.group}, and there is none"
            for trace in (group.lr, *group.others.values()):
                if trace is not None and (not trace.steps or len(trace.steps) != len(trace.values)):
                    yield "a schedule's curve has no points, or values without steps"


def _plain(value: Any, _: Any) -> Any:
    return value


def _any(value: Any, parameters: tuple[core.Parameter, ...]) -> Any:
    if isinstance(value, dict):
        if len(value) == 1 and isinstance(value.get("float"), str):
            return float(value["float"])
        return {key: _any(item, parameters) for key, item in value.items()}
    return [_any(item, parameters) for item in value] if isinstance(value, list) else value


def _float(value: Any, _: Any) -> Any:
    return float(value["float"]) if isinstance(value, dict) else value


def _reference(value: int, parameters: tuple[core.Parameter, ...]) -> core.Parameter:
    if value < 0:
        raise IndexError(f"there is no parameter {value}")
    return parameters[value]


@per_class
def _decoder(hint: Any, whole: bool = False) -> Decoder:
    """The decoder of an annotated type; ``whole`` decodes a Parameter itself instead of a reference to one."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        inner = _decoder(next(argument for argument in arguments if argument is not type(None)))
        return lambda value, parameters: None if value is None else inner(value, parameters)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            item = _decoder(arguments[0])
            return lambda value, parameters: tuple(item(v, parameters) for v in value)
        items = [_decoder(argument) for argument in arguments]
        return lambda value, parameters: tuple(d(v, parameters) for d, v in zip(items, value, strict=True))
    if origin is frozenset:
        return lambda value, _: frozenset(value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        as_key = arguments[0] if arguments[0] in (int, float) else str
        item = _decoder(arguments[1])
        return lambda value, parameters: {as_key(k): item(v, parameters) for k, v in value.items()}
    if hint is core.Parameter and not whole:
        return _reference
    if is_dataclass(hint):
        return _dataclass_decoder(hint)
    return {float: _float, Any: _any}.get(hint, _plain)


def _dataclass_decoder(cls: Any) -> Decoder:
    scope = {
        name: value for module in (core, graph, probe, schedule, source, span) for name, value in vars(module).items()
    }
    hints = typing.get_type_hints(cls, scope)
    known = {item.name for item in fields(cls)}
    decoders: dict[str, Decoder] = {}

    def decode(value: Any, parameters: tuple[core.Parameter, ...]) -> Any:
        if unknown := set(value) - known:
            raise ValueError(f"unknown key {sorted(unknown)[0]!r} in {cls.__name__.lower()} (from a newer lrlint?)")
        found = {}
        for name, item in value.items():
            if name not in decoders:
                decoders[name] = _decoder(hints[name])
            found[name] = item if decoders[name] is _plain else decoders[name](item, parameters)
        return cls(**found)

    return decode
