"""Parameter names as text: canonical spelling, patterns, compression."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
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
    match = _glob(pattern).match(name)
    if match is None:
        return False
    return _glob(pattern).fullmatch(name) is not None or _glob(pattern + ".**").fullmatch(name) is not None


def any_match(patterns: Iterable[str], name: str) -> bool:
    return any(matches(pattern, name) for pattern in patterns)


def is_prefix(selector: str, code: str) -> bool:
    """Whether a selector stands for a band of codes: the letters of a code with none or some of its digits.

    >>> is_prefix("LR3", "LR301"), is_prefix("ACME", "ACME001"), is_prefix("AC", "ACME001")
    (True, True, False)
    """
    letters = code.rstrip("0123456789")
    return selector.startswith(letters) and code.startswith(selector)


def selector(kind: str, text: str) -> Callable[[str], bool]:
    """The comparison that code makes between a name and a literal; see `lrlint.facts.source.NamePattern`.

    A regular expression that is none selects nothing.
    """
    simple: dict[str, Callable[[str], bool]] = {
        "contains": lambda name: text in name,
        "prefix": lambda name: name.startswith(text),
        "suffix": lambda name: name.endswith(text),
        "equal": lambda name: name == text,
        "glob": lambda name: fnmatchcase(name, text),
    }
    if kind in simple:
        return simple[kind]
    if kind.startswith("segment "):
        position = int(kind.partition(" ")[2])
        return lambda name: name.split(".")[position : position + 1] == [text]
    try:
        find = getattr(re.compile(text), kind)
    except re.error:
        return lambda name: False
    return lambda name: find(name) is not None


def misses(kind: str, text: str, seen: Sequence[str]) -> tuple[str, int, str]:
    """Why a literal matches none of the names: (what hides them, how many it would match without that, near spelling).

    What hides them is a wrapper's prefix, a beginning that all names share, or one before a path of several parts;
    ("", 0) where none of these explains it;
    ``-`` leads a prefix that the literal has and the names do not.
    The near spelling differs in case, in separators within a part, or by one
    letter of a long word; "" without one.
    """
    select = selector(kind, text)
    for lead, bare in _unwrapped(seen):
        hits = sum(map(select, bare))
        if hits:
            return lead, hits, ""
    for wrapper in _WRAPPERS:  # the pattern has the prefix and the names do not
        if text.startswith(wrapper) and text != wrapper and kind in ("prefix", "equal", "contains"):
            hits = sum(map(selector(kind, text.removeprefix(wrapper)), seen))
            if hits and not any(wrapper in name for name in seen):
                return f"-{wrapper}", hits, ""
    if kind in ("prefix", "equal") and "." in text.strip("."):
        inner = [name for name in seen if f".{text}" in name and select(name[name.index(f".{text}") + 1 :])]
        leads = {name[: name.index(f".{text}") + 1] for name in inner}
        if len(leads) == 1:
            return leads.pop(), len(inner), ""
    return "", 0, "" if kind in _PATTERNS else _nearest(text, seen)


#: What wrappers put before every name (DistributedDataParallel, torch.compile, PEFT).
_WRAPPERS = ("module.", "_orig_mod.", "base_model.model.")
_PATTERNS = ("match", "search", "fullmatch", "glob")


def _unwrapped(seen: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each beginning that hides the names, with the names that it leaves: those of wrappers first, then shared ones."""
    own = [canonical(name) for name in seen]
    changed = [
        (name, bare) for name, bare in zip(seen, own, strict=True) if name != bare and "parametrizations" not in name
    ]
    if changed:
        name, bare = changed[0]
        wrapped = _WRAPPER.search(name)
        lead = name[: -len(bare)] if name.endswith(bare) else wrapped[0] if wrapped else ""
        if lead:
            yield lead, own
    first = seen[0].split(".")
    for count in range(1, len(first) - 1):
        lead = ".".join(first[:count]) + "."
        if not all(name.startswith(lead) for name in seen):
            return
        yield lead, [name[len(lead) :] for name in seen]


_LONG_WORD = 6


def _nearest(text: str, seen: Sequence[str]) -> str:
    letters = _squashed(text)
    if len(letters) < _LONG_WORD:
        return ""
    for name in seen:
        start = _squashed(name).find(letters)
        if start >= 0:
            positions = [position for position, letter in enumerate(name) if _squashed(letter)]
            spelling = name[positions[start] : positions[start + len(letters) - 1] + 1]
            if spelling == text:  # it is there, only not where it was looked for
                return ""
            if spelling.count(".") == text.strip(".").count("."):
                return spelling
    words = [word for word in _LETTERS.findall(text.lower()) if len(word) >= _LONG_WORD]
    known = {word for name in seen for word in _LETTERS.findall(name.lower())}
    slips = [(word, other) for word in words if word not in known for other in sorted(known) if _one_slip(word, other)]
    return text.lower().replace(*slips[0]) if len(slips) == 1 else ""


_LETTERS = re.compile("[a-z]+")


def _squashed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _one_slip(one: str, other: str) -> bool:
    """Whether two words differ by one letter more, one letter else, or two neighbours swapped."""
    if abs(len(one) - len(other)) > 1 or min(len(one), len(other)) < _LONG_WORD - 1:
        return False
    start = next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    a, b = one[start:], other[start:]
    swapped = len(a) == len(b) and a[:2] == b[:2][::-1] and a[2:] == b[2:]
    return a != b and (a[1:] == b or a == b[1:] or a[1:] == b[1:] or swapped)


def numbered_prefixes(name: str) -> Iterator[str]:
    """Each leading part of the name that ends with a numbered segment: `blocks.3`, `blocks.3.mlp.0`."""
    segments = name.split(".")[:-1]
    for end, segment in enumerate(segments, 1):
        if any(character.isdigit() for character in segment):
            yield ".".join(segments[:end])
