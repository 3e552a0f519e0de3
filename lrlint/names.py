"""Parameter names as text: canonical spelling, patterns, compression."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

# Containers that wrap a model put themselves in front of a name; a pattern is written against the model's own names.
_WRAPPER = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_LEADING = re.compile(r"^(?:module\.)+")
_PEFT = re.compile(r"^base_model\.model\.")
_PARAMETRIZED = re.compile(r"parametrizations\.([^.]+)\.(original\d*)$")
_NUMBER = re.compile(r"\d+")


def canonical(name: str) -> str:
    """The name without wrapper prefixes: DDP, compile, FSDP, checkpoint wrappers and PEFT leave their mark in it.

    ``parametrizations.weight.original`` is ``weight``; of several originals the number stays (``weight.original1``).
    """
    name = _LEADING.sub("", _WRAPPER.sub("", name))
    name = _LEADING.sub("", _PEFT.sub("", name))
    return _PARAMETRIZED.sub(lambda m: m[1] if m[2] == "original" else f"{m[1]}.{m[2]}", name)


def star(name: str) -> str:
    """Every number in the name replaced by ``*``: equal for the same place in repeated blocks."""
    return _NUMBER.sub("*", name)


def compress(names: Iterable[str]) -> list[str]:
    """Patterns that stand for the names, in order of appearance: ``h.{0..11}.ln_1.weight``.

    Names that differ in exactly one number share a pattern; a name that stands alone is itself.
    """
    buckets: dict[str, list[tuple[int, ...]]] = {}
    for name in dict.fromkeys(names):
        buckets.setdefault(star(name), []).append(tuple(int(n) for n in _NUMBER.findall(name)))
    patterns: list[str] = []
    for shape, numbers in buckets.items():
        patterns.extend(_fill(shape, columns) for columns in _columns(numbers))
    return patterns


def _columns(rows: list[tuple[int, ...]]) -> list[list[list[int]]]:
    """Each pattern as one list of numbers per position; several positions may vary only as a full grid."""
    if not rows or not rows[0]:
        return [[]]
    columns = [sorted(set(column)) for column in zip(*rows, strict=True)]
    cells = 1
    for column in columns:
        cells *= len(column)
    if cells == len(rows):
        return [columns]
    first: dict[int, list[tuple[int, ...]]] = {}
    for row in rows:
        first.setdefault(row[0], []).append(row[1:])
    merged: dict[str, tuple[list[int], list[list[int]]]] = {}
    for number, rest in first.items():
        for tail in _columns(rest):
            merged.setdefault(repr(tail), ([], tail))[0].append(number)
    return [[sorted(heads), *tail] for heads, tail in merged.values()]


def _fill(shape: str, columns: Sequence[Sequence[int]]) -> str:
    parts = shape.split("*")
    text = parts[0]
    for column, part in zip(columns, parts[1:], strict=False):
        text += _numbers(column) + part
    return text


def _numbers(values: Sequence[int]) -> str:
    if len(values) == 1:
        return str(values[0])
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return "{" + ",".join(f"{r[0]}..{r[-1]}" if len(r) > 2 else ",".join(map(str, r)) for r in runs) + "}"


def describe(names: Iterable[str], limit: int = 3) -> str:
    """Compressed names for a message, at most ``limit`` patterns: ``a, b, c and 4 more``."""
    patterns = compress(names)
    shown = ", ".join(f"`{pattern}`" for pattern in patterns[:limit])
    return shown + (f" and {len(patterns) - limit} more" if len(patterns) > limit else "")


@lru_cache(maxsize=1024)
def _glob(pattern: str) -> re.Pattern[str]:
    # `*` stays within one dotted part, `**` crosses parts; everything else is literal (names hold odd characters).
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    wild = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
    return re.compile("".join(wild.get(part, re.escape(part)) for part in parts), re.DOTALL)


def matches(pattern: str, name: str) -> bool:
    """Whether a glob matches the whole name, or a whole dotted prefix of it (``head`` matches ``head.weight``)."""
    found = _glob(pattern).match(name)
    if found is None:
        return False
    return _glob(pattern).fullmatch(name) is not None or _glob(pattern + ".**").fullmatch(name) is not None


def any_match(patterns: Iterable[str], name: str) -> bool:
    return any(matches(pattern, name) for pattern in patterns)
