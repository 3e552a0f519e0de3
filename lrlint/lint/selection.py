"""Which rules a target is judged by, with which options and severities: settled once, before anything runs.

An error in a selection must not cost a run, so the command line settles all of them before the first target is built.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lrlint.config import loader
from lrlint.errors import UsageError
from lrlint.lint import engine, engine_rules, registry, suppressions
from lrlint.lint.rule import Rule

if TYPE_CHECKING:
    from lrlint.config.settings import Settings, Target
    from lrlint.text.grades import Severity


@dataclass(frozen=True)
class Selection:
    """The rules that run on a target. ``options`` and ``severities`` are by rule name; ``settings`` are the target's."""

    settings: Settings
    rules: tuple[Rule, ...]
    options: Mapping[str, Mapping[str, Any]]
    severities: Mapping[str, Severity]


def select(settings: Settings, target: Target | None = None) -> Selection:
    """The selection for a target (None: no table of its own). Raises UsageError for what no rule is called."""
    settings = loader.for_target(settings, target) if target else settings
    known = known_rules(settings.extra_rules)
    rules = tuple(_enabled(known, settings))
    options = _by_name(settings.options, known, settings.origins)
    return Selection(settings, rules, options, _by_name(settings.severities, known, settings.origins))


def known_rules(folders: tuple[str, ...]) -> registry.Catalog:
    """All rules. The shipped ones are loaded once per process; a team's own are read again, they may have changed."""
    return registry.load(folders) if folders else _shipped_rules()


@lru_cache(maxsize=1)
def _shipped_rules() -> registry.Catalog:
    return registry.load()


def _enabled(known: registry.Catalog, settings: Settings) -> list[Rule]:
    """The rules to run. Raises UsageError for a selector that names no rule."""
    select, ignore, extend = (
        [s for key in keys for s in _selectors(key, known, settings)]
        for keys in (("select",), ("ignore", "extend_ignore"), ("extend_select",))
    )
    if settings.select and not select and not extend:
        return []
    return known.select(select, ignore, extend)


def _selectors(key: str, known: registry.Catalog, settings: Settings) -> Iterable[str]:
    """The selectors of a setting that are about rule files. Raises UsageError, with the place of the setting."""
    for selector in getattr(settings, key):
        if (
            engine_rules.matching(selector) and selector.upper() != "LR"
        ):  # about the engine, which no rule file declares
            continue
        try:
            known.matching(selector)
        except UsageError as error:
            if any(suppressions.selects(selector, p.code, p.name, "policy") for p in settings.policies):
                continue
            origin = settings.origins.get(key.replace("_", "-"), "")
            raise UsageError(f"{origin}: {error.message}".removeprefix(": "), error.hint) from None
        yield selector


def _by_name(tables: Mapping[str, Any], known: registry.Catalog, origins: Mapping[str, str]) -> dict[str, Any]:
    """Tables of rule options, by rule name. Raises UsageError for a name that no rule has."""
    found = {}
    for key, value in tables.items():
        if engine_rules.matching(key):
            continue
        origin = f"{origins.get(f'rules.{key}', '')}: rules.{key}".removeprefix(": ")
        try:
            declared = known.get(key)
            if isinstance(value, Mapping):
                engine.check_options(declared, value)
        except KeyError as error:
            raise UsageError(f"{origin}: {error.args[0]}", "list them with `lrlint rule`") from None
        except UsageError as error:
            raise UsageError(f"{origin}: {error.message}", error.hint) from None
        found[declared.name] = value
    return found
