"""A rule's documentation, and the catalogue (`lrlint rule`). Reads rule files and fixtures, never torch."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any

from lrlint.config.files import dump
from lrlint.errors import UsageError
from lrlint.lint import engine_rules, registry
from lrlint.lint.engine_rules import Builtin
from lrlint.lint.registry import Catalog
from lrlint.lint.rule import Rule, sections
from lrlint.reports.links import rule_page
from lrlint.reports.style import SEVERITY_COLOUR, Style, columns, shorten
from lrlint.text.wording import count


def find(known: Catalog, name: str) -> Rule | Builtin:
    """The rule with this code or name, one of the engine's own included. Raises UsageError with the nearest names."""
    for own in engine_rules.ALL:
        if name.upper() == own.code or name.lower() == own.name:
            return own
    try:
        return known.get(name)
    except KeyError as error:
        raise UsageError(str(error.args[0]), "list them with `lrlint rule`") from None


def family(known: Catalog, name: str) -> list[Rule | Builtin]:
    """The rules of a family or of a code prefix that is no code itself; empty where it names neither."""
    sought = name.strip().lower()
    rules: list[Rule | Builtin] = [*engine_rules.ALL, *known.rules]
    if any(sought in (rule.code.lower(), rule.name) for rule in rules):
        return []
    return [
        rule for rule in rules if rule.family == sought or (len(sought) > 1 and rule.code.lower().startswith(sought))
    ]


def render(rule: Rule | Builtin, style: Style) -> str:
    """The page of one rule: head, documentation, options, example."""
    lines = [
        f"{style.paint(rule.code, SEVERITY_COLOUR[rule.severity])} {style.paint(rule.name, 'bold')}",
        _facts(rule),
        "",
    ]
    for heading, text in sections(rule.documentation):
        lines += [style.paint(heading, "bold"), *(f"  {line}".rstrip() for line in text.splitlines()), ""]
    if isinstance(rule, Rule):
        lines += _options(rule, style) + _example(rule, style)
    lines += [style.paint("Suppress", "bold"), f"  # lrlint: ignore[{rule.code}] the reason"]
    return "\n".join(lines) + "\n"


def _facts(rule: Rule | Builtin) -> str:
    facts = [rule.family, f"severity {rule.severity}", f"confidence {rule.confidence}"]
    if isinstance(rule, Rule):
        facts += [f"needs {', '.join(rule.needs)}"] if rule.needs else []
        facts += [] if rule.default else ["off by default"]
    return " · ".join(facts)


def _options(rule: Rule, style: Style) -> list[str]:
    if not rule.options:
        return []
    lines = [style.paint("Options", "bold"), f"  [tool.lrlint.rules.{rule.name}]"]
    lines += [f"  {option.name} = {toml(option.default)}  # {option.type}" for option in rule.options]
    return [*lines, ""]


def toml(value: Any) -> str:
    """An option's value as it is written in configuration."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def examples(rule: Rule) -> Iterator[tuple[str, list[str]]]:
    """(title, lines) of the first bad and the first good function of the tested fixture, as they stand in its file."""
    path = registry.fixture_of(rule)
    if path is None:
        return
    source = path.read_text(encoding="utf-8")
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    for title, prefix in (("Example: flagged", "bad"), ("Example: not flagged", "good")):
        node = next((node for node in functions if node.name.startswith(prefix)), None)
        if node is not None:
            text = ast.get_source_segment(source, node) or ""
            tail = source.splitlines()[(node.end_lineno or node.lineno) - 1][node.end_col_offset or 0 :]
            yield title, (text + tail).splitlines()


def _example(rule: Rule, style: Style) -> list[str]:
    lines: list[str] = []
    for title, code in examples(rule):
        lines += [style.paint(title, "bold"), *(f"  {line}".rstrip() for line in code), ""]
    return lines


def every(known: Catalog) -> list[Rule | Builtin]:
    """All rules, those of the engine first."""
    return [*engine_rules.ALL, *known.rules]


def catalogue(listed: Sequence[Rule | Builtin], style: Style) -> str:
    """Rules by family: code, name, summary."""
    families: dict[str, list[Rule | Builtin]] = {}
    for declared in listed:
        families.setdefault(declared.family, []).append(declared)
    width = max(columns(rule.name) for rules in families.values() for rule in rules)
    lines: list[str] = []
    for family, rules in families.items():
        lines.append(style.paint(family, "bold"))
        for rule in rules:
            off = " (off by default)" if isinstance(rule, Rule) and not rule.default else ""
            code = style.paint(style.link(rule.code, rule_page(rule.code)), SEVERITY_COLOUR[rule.severity])
            room = max(style.width - width - len(rule.code) - 6, 30)
            lines.append(f"  {code}  {rule.name.ljust(width)}  {shorten(rule.summary + off, room)}")
        lines.append("")
    return "\n".join([*lines, f"{count(len(listed), 'rule')}; `lrlint rule CODE` explains one"]) + "\n"


def rule_json(rule: Rule | Builtin) -> str:
    return dump(_data(rule))


def catalogue_json(listed: Sequence[Rule | Builtin]) -> str:
    return dump([_data(rule) for rule in listed])


def _data(rule: Rule | Builtin) -> dict[str, Any]:
    options = rule.options if isinstance(rule, Rule) else ()
    return {
        "code": rule.code,
        "name": rule.name,
        "family": rule.family,
        "severity": rule.severity,
        "confidence": rule.confidence,
        "default": rule.default if isinstance(rule, Rule) else True,
        "needs": list(rule.needs) if isinstance(rule, Rule) else [],
        "summary": rule.summary,
        "documentation": rule.documentation,
        "options": [{"name": o.name, "default": o.default, "type": o.type} for o in options],
    }
