"""Find and load rules: the shipped ones, a team's folders and installed entry points, all through one door."""

from __future__ import annotations

import difflib
import hashlib
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

from lrlint.errors import UsageError
from lrlint.lint.rule import Rule, apart
from lrlint.text import names

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "lrlint.rules"


@dataclass(frozen=True)
class Catalog:
    """All known rules, by code."""

    rules: tuple[Rule, ...]

    def get(self, name: str) -> Rule:
        """The rule with this code or name. Raises KeyError with the nearest names."""
        sought = name.strip()
        for known in self.rules:
            if sought.upper() == known.code or sought.lower().replace("_", "-") == known.name:
                return known
        names = [*(r.code for r in self.rules), *(r.name for r in self.rules)]
        near = difflib.get_close_matches(sought, names, n=2, cutoff=0.6)
        raise KeyError(f"no rule {name!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""))

    def matching(self, selector: str) -> list[Rule]:
        """Rules a selector names: code, code prefix (``LR3``, ``ACME``), name, family or ``ALL``.

        Raises UsageError for none.
        """
        code, name = selector.upper(), selector.lower()
        if code == "ALL":
            return list(self.rules)
        exact = [r for r in self.rules if code == r.code or name == r.name]
        matches = exact or [r for r in self.rules if name == r.family or names.is_prefix(code, r.code)]
        if not matches:
            try:
                self.get(selector)
            except KeyError as error:
                raise UsageError(str(error.args[0]), "list them with `lrlint rule`") from None
        return matches or [self.get(selector)]

    def select(
        self, select: Sequence[str] = (), ignore: Sequence[str] = (), extend_select: Sequence[str] = ()
    ) -> list[Rule]:
        """Rules to run: ``select`` (default: those on by default) plus ``extend_select``; ignore always wins.

        A prefix or family selects rules that are on by default; a rule that is off by default is selected by its code
        or name, and by ``ALL``.
        """
        chosen = {r.code for r in self.rules if r.default} if not select else set()
        for selector in (*select, *extend_select):
            named = {selector.upper(), selector.lower()}
            exact = "ALL" in named or any(named & {r.code, r.name} for r in self.rules)
            chosen |= {r.code for r in self.matching(selector) if exact or r.default}
        for selector in ignore:
            chosen -= {r.code for r in self.matching(selector)}
        return [r for r in self.rules if r.code in chosen]


def shipped(kind: str) -> Path:
    """The folder of shipped ``rules`` or ``fixtures``: inside the package in a wheel, at the top of a checkout."""
    package = Path(__file__).parents[1]
    inside = package / kind
    return inside if inside.is_dir() else package.parent / kind


def load(folders: Iterable[str | Path] = (), *, entry_points: bool = True) -> Catalog:
    """The shipped rules, then ``folders`` (searched recursively), then installed ``lrlint.rules`` entry points.

    Raises UsageError when a file cannot be loaded, or a code or name is used twice.
    """
    paths = [shipped("rules"), *map(Path, folders)]
    rules = [declared for folder in paths for file in _files(folder) for declared in load_file(file)]
    if entry_points:
        rules += _from_entry_points()
    seen: dict[str, Rule] = {}
    for declared in rules:
        for key in (declared.code, declared.name):
            if key in seen:
                both = f"{seen[key].path} and {declared.path}"
                raise UsageError(f"{key} is declared twice: {both}", "codes are never reused")
            seen[key] = declared
    return Catalog(tuple(sorted(rules, key=lambda r: r.code)))


def _files(folder: Path) -> list[Path]:
    try:
        is_folder, is_file = folder.is_dir(), folder.is_file()
    except OSError as error:  # its name is too long
        raise UsageError(f"no folder of rules at {folder}: {error.strerror}", "check `extra-rules`") from None
    if not is_folder:
        hint = "name the folder it lies in" if is_file else "check `extra-rules`"
        raise UsageError(f"no folder of rules at {folder}", hint)
    return sorted(p for p in folder.rglob("*.py") if not p.name.startswith("_"))


def load_file(path: Path) -> list[Rule]:
    """The rules one file declares."""
    # Registered before execution: dataclasses and `@rule` look the module up in sys.modules.
    name = f"lrlint_rules_{hashlib.sha1(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        with apart():
            spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        del sys.modules[name]
        raise UsageError(f"rule file {path} does not load: {type(error).__name__}: {error}") from error
    return [value.rule for value in vars(module).values() if isinstance(getattr(value, "rule", None), Rule)]


def _from_entry_points() -> list[Rule]:
    if not _any_entry_point():
        return []
    from importlib.metadata import entry_points

    rules = []
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: (entry.name, entry.value)):
        for file in _published(entry):
            rules += load_file(file)
    return rules


def _published(entry: EntryPoint) -> list[Path]:
    """The files of an entry point: those of a package with everything below it, or the one of a module.

    Raises UsageError that names the entry point, so that the package at fault is found.
    """
    try:
        module = import_module(entry.module)
        folders = list(getattr(module, "__path__", ()))
        return [file for folder in folders for file in _files(Path(folder))] or [Path(module.__file__ or "")]
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        text = f"the rules of {entry.name} = {entry.value!r} do not load: {type(error).__name__}: {error}"
        raise UsageError(text, "repair or uninstall the package that declares this entry point") from error


def _any_entry_point() -> bool:
    """Whether an installed distribution mentions our entry points. Most have none, and importlib's list costs 15 ms."""
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            declared = f"{folder}/{name}/entry_points.txt"
            if name.endswith((".dist-info", ".egg-info")) and ENTRY_POINTS in _read(declared):
                return True
    return False


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def fixture_of(declared: Rule) -> Path | None:
    """The fixture that proves a rule: the same relative path under ``fixtures/``; None where there is none."""
    return next((place for place in fixture_places(declared) if place.is_file()), None)


def fixture_places(declared: Rule) -> list[Path]:
    """Where a rule's fixture may lie: for a team's own, beside the folder that the rule lies in, or the one around that."""
    path = Path(declared.path)
    if path.is_relative_to(shipped("rules")):
        return [shipped("fixtures") / path.relative_to(shipped("rules"))]
    return [folder.parent / "fixtures" / path.relative_to(folder) for folder in (path.parent.parent, path.parent)]
