"""Text arguments (``--arg name=value``) as the values that a factory's annotations ask for."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import enum
import inspect
import json
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lrlint.errors import UsageError

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_SEQUENCES = (list, tuple, set, frozenset)


def split(texts: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """``["lr=1e-3"]`` as ``{"lr": "1e-3"}``; a mapping (from a configuration file) stays. Raises UsageError."""
    if isinstance(texts, Mapping):
        return dict(texts)
    arguments: dict[str, Any] = {}
    for item in texts:
        name, equals, value = item.partition("=")
        if not equals or not name.strip().isidentifier():
            raise UsageError(f"--arg {item!r} is not of the form name=value")
        arguments[name.strip()] = value
    return arguments


def bind(
    function: Callable[..., Any], values_by_name: Mapping[str, Any], label: str, positional: int = 0
) -> dict[str, Any]:
    """The keyword arguments for a call of ``function``, converted by its annotations.

    ``positional`` leading parameters are filled by the caller. Raises UsageError naming what is unknown or missing.
    """
    parameters = _parameters(function)
    if parameters is None:
        return dict(values_by_name)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    positionals = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:positional]
    open_ = [p for p in named if p not in positionals]
    unknown = [name for name in values_by_name if name not in {p.name for p in open_}]
    if unknown and not takes_any:
        raise UsageError(f"{label} has no argument {unknown[0]!r}" + near(unknown[0], [p.name for p in open_]))
    hints = _hints(function)
    values = {
        p.name: convert(values_by_name[p.name], _type_of(p, hints), p.name) for p in open_ if p.name in values_by_name
    }
    values.update((name, convert(values_by_name[name], Any, name)) for name in unknown)
    missing = [p.name for p in parameters if _is_required(p) and p not in positionals and p.name not in values]
    if missing:
        listed = ", ".join(missing)
        example = " ".join(f"--arg {name}=..." for name in missing)
        raise UsageError(f"{label} needs arguments: {listed}", f"pass them with `{example}`, or give them defaults")
    return values


def accepts(function: Callable[..., Any], name: str, positional: int = 0) -> bool:
    """Whether the function can take this keyword beside its leading positional arguments."""
    parameters = _parameters(function)
    if parameters is None:
        return True
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return name in names[positional:] or any(p.kind is p.VAR_KEYWORD for p in parameters)


def near(name: str, known: Iterable[str]) -> str:
    """``; did you mean ...?``, else the list of what there is."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; there is {listing(names)}" if names else "; it takes none"


def listing(names: Sequence[str]) -> str:
    """The first dozen, and how many more there are."""
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return ", ".join(names[:12]) + more


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a builtin without a signature
        return None


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    subject = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
    try:
        return typing.get_type_hints(inspect.unwrap(subject))
    except Exception:  # a name that exists only while type checking, or a partial: the raw annotations are used
        return {}


def _type_of(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Any:
    annotation = hints.get(parameter.name, parameter.annotation)
    if annotation is not parameter.empty and not isinstance(annotation, str):
        return annotation
    if isinstance(annotation, str) and annotation in ("int", "float", "bool", "str"):
        return {"int": int, "float": float, "bool": bool, "str": str}[annotation]
    default = parameter.default
    return type(default) if isinstance(default, (bool, int, float, str, Path)) else Any


def convert(value: Any, type_: Any, name: str) -> Any:
    """The text as the wanted type. Raises UsageError.

    A value that is no text (from a configuration file) stays, except a table where a dataclass is wanted.
    """
    if not isinstance(value, str):
        record = _dataclass(type_) if isinstance(value, Mapping) else None
        if record is not None:
            return _record(value, record)
        return float(value) if type_ is float and type(value) is int else value
    try:
        return _convert(value, type_)
    except (ValueError, TypeError, SyntaxError, RuntimeError):
        raise UsageError(f"argument {name}: {value!r} is not {_describe(type_)}") from None


def _convert(text: str, type_: Any) -> Any:
    origin, inner = typing.get_origin(type_), typing.get_args(type_)
    if origin is typing.Annotated:
        return _convert(text, inner[0])
    if origin is typing.Literal:
        return _choice(text, {str(option): option for option in inner})
    if origin in (typing.Union, types.UnionType):
        return _one_of(text, inner)
    if type_ is bool:
        return _boolean(text)
    if type_ is int:
        return _whole_number(text)
    if type_ in (float, str, complex):
        return type_(text)
    if dataclasses.is_dataclass(type_):
        value = _literal(text)
        return _record(value if isinstance(value, Mapping) else _fails(text), type_)
    if isinstance(type_, type) and issubclass(type_, Path):
        return type_(text)
    if isinstance(type_, type) and issubclass(type_, enum.Enum):
        options = {member.name: member for member in type_}
        return _choice(text, {**{str(member.value): member for member in type_}, **options})
    if _is_sequence(origin or type_):
        return _sequence(text, origin or type_, inner)
    if type_ is None or type_ is type(None):
        return _choice(text.lower(), {"none": None, "null": None, "": None})
    if type_ is torch.dtype:
        return _choice(
            text.removeprefix("torch."), {n: v for n, v in vars(torch).items() if isinstance(v, torch.dtype)}
        )
    if type_ is torch.device:
        return torch.device(text)
    value = _literal(text)
    if isinstance(origin or type_, type) and issubclass(origin or type_, Mapping) and not isinstance(value, Mapping):
        _fails(text)
    return value


def _fails(text: str) -> Any:
    raise ValueError(text)


def _whole_number(text: str) -> int:
    """``100``, ``1_000`` or ``1e5``."""
    try:
        return int(text)
    except ValueError:
        value = float(text)
        return int(value) if value.is_integer() else _fails(text)


def _dataclass(type_: Any) -> Any:
    """The dataclass among the alternatives of an annotation, or None."""
    options = (type_, *typing.get_args(type_))
    return next((option for option in options if isinstance(option, type) and dataclasses.is_dataclass(option)), None)


def _record(values: Mapping[str, Any], cls: Any) -> Any:
    """A dataclass of the user's, its fields converted as a factory's arguments are. Raises UsageError."""
    return cls(**bind(cls, values, cls.__name__))


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(text)


def _choice(text: str, options: Mapping[str, Any]) -> Any:
    if text not in options:
        raise ValueError(text)
    return options[text]


def _one_of(text: str, options: Sequence[Any]) -> Any:
    """The first alternative that takes the text; None and numbers before text, which takes everything."""
    for option in sorted(options, key=lambda option: (option is str, option is not type(None))):
        try:
            return _convert(text, option)
        except (ValueError, TypeError, SyntaxError):
            continue
    raise ValueError(text)


def _is_sequence(type_: Any) -> bool:
    if not isinstance(type_, type) or issubclass(type_, (str, bytes, Mapping)):
        return False
    return issubclass(type_, _SEQUENCES) or type_.__module__ == "collections.abc"


def _sequence(text: str, type_: Any, inner: Sequence[Any]) -> Any:
    """``1,2`` or ``[1, 2]``, each item converted."""
    stripped = text.strip()
    if stripped[:1] in ("[", "("):
        items = [item if isinstance(item, str) else repr(item) for item in ast.literal_eval(stripped)]
    else:
        items = [item.strip() for item in stripped.split(",") if item.strip()]
    fixed = type_ is tuple and inner and inner[-1] is not Ellipsis
    if fixed and len(inner) != len(items):
        raise ValueError(text)
    kinds = list(inner) if fixed else [inner[0] if inner else Any] * len(items)
    build = type_ if type_ in _SEQUENCES else list
    return build(_convert(item, kind) for item, kind in zip(items, kinds, strict=True))


def _literal(text: str) -> Any:
    """Without an annotation: JSON or a Python literal where it is one, else the text."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def _describe(type_: Any) -> str:
    origin, inner = typing.get_origin(type_), typing.get_args(type_)
    if origin is typing.Literal:
        return "one of " + ", ".join(str(option) for option in inner)
    if isinstance(type_, type) and issubclass(type_, enum.Enum):
        return "one of " + ", ".join(member.name for member in type_)
    if isinstance(type_, type) and dataclasses.is_dataclass(type_):
        names = ", ".join(f'"{item.name}"' for item in dataclasses.fields(type_))
        return f"a table of {type_.__name__}'s fields, as JSON: {{{names}}}"
    name = type_.__name__ if isinstance(type_, type) and origin is None else str(type_).replace("typing.", "")
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}" if name.isidentifier() else name
