"""Read the configuration in layers: defaults < pyproject.toml or lrlint.toml < command line, then a target's table.

Lists replace those of the layer below, ``extend-*`` adds to them, and ``ignore`` wins over ``select`` wherever both
were given.
"""

from __future__ import annotations

import datetime
import operator
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrlint._version import __version__
from lrlint.config import files
from lrlint.config.conditions import parse
from lrlint.config.settings import BASELINE, Policy, Settings, Suppression, Target
from lrlint.config.toml_lines import Key, line_of, lines_of
from lrlint.errors import UsageError

if TYPE_CHECKING:
    from lrlint.facts import Span

__all__ = [
    "BASELINE",
    "Policy",
    "Settings",
    "Suppression",
    "Target",
    "find",
    "for_target",
    "layer",
    "load",
    "split_arguments",
]

_LISTS = ("select", "extend_select", "ignore", "extend_ignore", "extra_rules")
_DECLARED = (
    "total-steps",
    "steps-per-epoch",
    "batch-size",
    "accumulation",
    "world-size",
    "clip-norm",
    "precision",
    "resume",
)
_SELECTION = ("select", "extend-select", "ignore", "extend-ignore")


def find(start: Path) -> tuple[Path | None, Path]:
    """(the nearest configuration file, the project root) from a folder upward.

    ``lrlint.toml`` wins over a ``pyproject.toml`` beside it. A pyproject.toml without ``[tool.lrlint]`` is no
    configuration but still marks the root, as does ``.git``.
    """
    for folder in (start, *start.parents):
        if (folder / "lrlint.toml").is_file():
            return folder / "lrlint.toml", folder
        if (folder / "pyproject.toml").is_file():
            return (folder / "pyproject.toml" if _has_table(folder / "pyproject.toml") else None), folder
        if (folder / ".git").exists():
            return None, folder
    return None, start


def _has_table(file: Path) -> bool:
    """Whether the file says anything under ``tool.lrlint``, however it is written; one that is no TOML may mean to."""
    text = files.read_text(file, "configuration")
    if "lrlint" not in text:
        return False
    try:
        tool = _toml(text).get("tool")
    except ValueError:
        return re.search(r"^\s*\[+\s*tool\s*\.\s*lrlint\b", text, re.MULTILINE) is not None
    return isinstance(tool, dict) and "lrlint" in tool


def load(start: Path | None = None, file: Path | None = None) -> Settings:
    """The settings of a configuration file, or of the nearest one from ``start`` (default: the working directory).

    Raises UsageError that names file, line and key.
    """
    if file is None:
        file, root = find((start or Path.cwd()).resolve())
        if file is None:
            return Settings(root=root)
    elif not _is_file(file):
        raise UsageError(f"there is no configuration file {file}")
    return _Reader(file.resolve()).settings()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # its name is too long
        return False


def layer(settings: Settings, flags: Mapping[str, Any]) -> Settings:
    """The settings with command-line values (by field name; None: not given) on top."""
    given = {key: value for key, value in flags.items() if value not in (None, ())}
    origins = {key.replace("_", "-"): f"--{key.replace('_', '-')}" for key in given}
    extends: dict[str, Any] = {
        key: (*getattr(settings, key), *given[key]) for key in ("extend_select", "extend_ignore") if key in given
    }
    return replace(settings, **{**given, **extends, "origins": {**settings.origins, **origins}})


def for_target(settings: Settings, target: Target) -> Settings:
    """The settings for one target: its own selection on top. What the command line ignores stays ignored."""
    if not target.overrides:
        return settings
    from_flags = settings.ignore if settings.origins.get("ignore") == "--ignore" else ()
    values: dict[str, Any] = {}
    for key, value in target.overrides.items():
        extends = key.startswith("extend_")
        values[key] = (*getattr(settings, key), *value) if extends else value
    place = {key.replace("_", "-"): str(target.span) for key in target.overrides if target.span}
    values["origins"] = {**settings.origins, **place}
    values["extend_ignore"] = (*values.get("extend_ignore", settings.extend_ignore), *from_flags)
    return replace(settings, **values)


def split_arguments(texts: Iterable[str]) -> dict[str, str]:
    """``["lr=1e-3"]`` as ``{"lr": "1e-3"}``. Raises UsageError."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier():
            raise UsageError(f"--arg {text!r} is not of the form name=value")
        found[name.strip()] = value
    return found


class _Reader:
    """One configuration file: its data, and the line of each key."""

    def __init__(self, file: Path) -> None:
        self.file = file
        text = files.read_text(file, "configuration")
        self.prefix: Key = () if file.name == "lrlint.toml" else ("tool", "lrlint")
        self.lines = lines_of(text)
        data = self._parse(text)
        for depth, part in enumerate(self.prefix, 1):
            data = data.get(part, {})
            if not isinstance(data, dict):
                line = line_of(self.lines, self.prefix[:depth]) or 1
                raise UsageError(f"{file.name}:{line}: [{'.'.join(map(str, self.prefix[:depth]))}] has to be a table")
        self.data = _dates_as_text(data)

    def _parse(self, text: str) -> Any:
        try:
            return _toml(text)
        except ValueError as error:
            raise UsageError(f"{self.file.name} is not valid TOML: {error}") from None

    def settings(self) -> Settings:
        from lrlint.config import json_schema

        _require_version(self.data.get("required-version"), self.place(("required-version",)))
        if found := json_schema.problems(self.data, json_schema.load("config")):
            raise UsageError("\n".join(f"{self.place(p.at)}: {_dotted(p.at)}{p.message}" for p in found))
        values: dict[str, Any] = {
            key: tuple(self.data[key.replace("_", "-")]) for key in _LISTS if key.replace("_", "-") in self.data
        }
        values.update(
            {k.replace("-", "_"): self.data[k] for k in ("fail-on", "min-confidence", "baseline") if k in self.data}
        )
        tables = self.data.get("rules", {})
        return Settings(
            **{
                **values,
                "extra_rules": tuple(str(self.file.parent / folder) for folder in values.get("extra_rules", ())),
            },
            options={name: {k: v for k, v in table.items() if k != "severity"} for name, table in tables.items()},
            severities={name: table["severity"] for name, table in tables.items() if "severity" in table},
            suppress=tuple(self._suppression(*item) for item in enumerate(self.data.get("suppress", ()))),
            policies=tuple(self._policy(*item) for item in enumerate(self.data.get("policy", ()))),
            targets={name: self._target(name, table) for name, table in self.data.get("targets", {}).items()},
            probe=dict(self.data.get("probe", {})),
            rehearsal=dict(self.data.get("rehearsal", {})),
            root=self.file.parent,
            file=self.file,
            origins=dict(self._origins()),
        )

    def _origins(self) -> list[tuple[str, str]]:
        """Where each value was set, tables one level deeper."""
        found = [(key, self.place((key,))) for key, value in self.data.items() if not isinstance(value, (dict, list))]
        for key, value in self.data.items():
            if isinstance(value, dict):
                found += [(f"{key}.{name}", self.place((key, name))) for name in value]
            elif isinstance(value, list):
                found.append((key, self.place((key, 0) if value and isinstance(value[0], dict) else (key,))))
        return found

    def _suppression(self, index: int, table: Mapping[str, Any]) -> Suppression:
        until = table.get("until")
        values = {key: tuple(table[key]) for key in ("parameters", "groups", "modules", "targets") if key in table}
        return Suppression(
            tuple(table["rules"]),
            table["reason"],
            until=datetime.date.fromisoformat(until) if until else None,
            span=self.span(("suppress", index)),
            **values,
        )

    def _policy(self, index: int, table: Mapping[str, Any]) -> Policy:
        for key, text in table["require"].items():
            try:
                parse(text)
            except ValueError as error:
                place = self.place(("policy", index, "require"))
                raise UsageError(f"{place}: policy {table['code']}, require {key!r}: {error}") from None
        known = {item.name for item in fields(Policy)}
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items() if k in known}
        return Policy(**values, span=self.span(("policy", index)))

    def _target(self, name: str, table: Any) -> Target:
        table = {"target": table} if isinstance(table, str) else table
        ways = (table.get("target"), table.get("script"), table.get("model") and table.get("optimizer"))
        if sum(map(bool, ways)) != 1:
            place = self.place(("targets", name))
            raise UsageError(f"{place}: target {name!r} needs either `target`, `script`, or `model` and `optimizer`")
        return Target(
            name=name,
            target=table.get("target", ""),
            model=table.get("model"),
            optimizer=table.get("optimizer"),
            scheduler=table.get("scheduler"),
            script=table.get("script"),
            script_args=tuple(table.get("script-args", ())),
            args=table.get("args", {}),
            timeout=table.get("timeout"),
            graph=table.get("graph", True),
            source_hook=table.get("source-hook", True),
            declared={key.replace("-", "_"): table[key] for key in _DECLARED if key in table},
            overrides={key.replace("-", "_"): tuple(table[key]) for key in _SELECTION if key in table},
            configured=True,
            span=self.span(("targets", name)),
        )

    def span(self, key: Key) -> Span:
        from lrlint.facts import Span

        return Span(self.file.name, line_of(self.lines, (*self.prefix, *key)) or 1)

    def place(self, key: Key) -> str:
        return str(self.span(key))


def _toml(text: str) -> Any:
    """The data; raises ValueError that says where the text is no TOML."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def _dates_as_text(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _dates_as_text(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_dates_as_text(value) for value in data]
    return data.isoformat() if isinstance(data, (datetime.date, datetime.time)) else data


def _dotted(key: Key) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")
    return f"{text}: " if text else ""


_COMPARE = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def _require_version(wanted: Any, place: str) -> None:
    """Raise UsageError unless this version satisfies a list such as ``>=0.1, <1``."""
    if not isinstance(wanted, str):
        return
    for part in wanted.split(","):
        found = re.fullmatch(r"\s*(>=|<=|==|!=|>|<)?\s*(\d+(?:\.\d+)*)\s*", part)
        if found is None:
            raise UsageError(f"{place}: required-version: {part.strip()!r} is not of the form >=0.1")
        ours, theirs = ([*map(int, text.split(".")), 0, 0, 0][:3] for text in (__version__, found[2]))
        if not _COMPARE[found[1] or "=="](ours, theirs):
            raise UsageError(f"{place}: this is lrlint {__version__}; the configuration requires {wanted}")
