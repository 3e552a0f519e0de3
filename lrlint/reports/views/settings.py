"""The configuration in force, and where each value was set (`lrlint show --settings`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from tabulate import tabulate

from lrlint.config.settings import Settings, Target
from lrlint.reports.style import clean

_SIMPLE = ("select", "extend-select", "ignore", "extend-ignore", "fail-on", "min-confidence", "baseline", "extra-rules")


def render(settings: Settings) -> str:
    """One line per value."""
    rows = [(key, clean(value), settings.origins.get(key, origin)) for key, value, origin in _values(settings)]
    where = f"configuration: {settings.file.name}" if settings.file else "no configuration file"
    return (
        f"{where}\n\n{tabulate(rows, headers=('setting', 'value', 'from'), tablefmt='simple', disable_numparse=True)}\n"
    )


def _values(settings: Settings) -> Iterator[tuple[str, str, str]]:
    known = {item.name.replace("_", "-") for item in fields(settings)}
    for key in _SIMPLE:
        assert key in known
        yield key, _value(getattr(settings, key.replace("-", "_"))), "default"
    for name, target in settings.targets.items():
        yield f"targets.{name}", _target(target), "default"
    for name in sorted({*settings.options, *settings.severities}):
        table = {
            **settings.options.get(name, {}),
            **({"severity": settings.severities[name]} if name in settings.severities else {}),
        }
        yield f"rules.{name}", ", ".join(f"{key} = {_value(value)}" for key, value in table.items()), "default"
    for key, value in settings.probe.items():
        yield f"probe.{key}", _value(value), "default"
    for entry in settings.suppress:
        until = f" until {entry.until}" if entry.until else ""
        yield "suppress", f"{', '.join(entry.rules)}: {entry.reason}{until}", str(entry.span or "default")
    for policy in settings.policies:
        yield (
            "policy",
            f"{policy.code}: " + ", ".join(f"{k} {v}" for k, v in policy.require.items()),
            str(policy.span or "default"),
        )


def _value(value: Any) -> str:
    if value is None or value == ():
        return "-"
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _target(target: Target) -> str:
    text = target.target or " ".join(part for part in (target.model, target.optimizer, target.scheduler) if part)
    arguments = ", ".join(f"{key}={value}" for key, value in target.args.items())
    return f"{text} ({arguments})" if arguments else text
