"""House rules without Python: which parameters, and what must hold for their groups.

Values are compared, nothing is evaluated.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from lrlint.config.settings import Policy
from lrlint.facts import Group, Member, Setup
from lrlint.lint.finding import Finding
from lrlint.text import names

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_PART = re.compile(r"\s*(==|!=|<=|>=|<|>)?\s*(.+?)\s*")
_NUMERIC = re.compile(r"[+-]?\.?\d")
_WORDS = {"true": True, "false": False, "none": None}

Condition = tuple[str, Any]


def parse(text: Any) -> list[Condition]:
    """``">= 0, < 0.1"`` as comparisons that must all hold; a plain value must be equal. Raises ValueError."""
    if not isinstance(text, str):
        return [("==", text)]
    conditions: list[Condition] = []
    for part in text.split(","):
        found = _PART.fullmatch(part)
        if found is None:
            raise ValueError(f"{text!r} has an empty comparison")
        value = _value(found[2])
        if found[2][0] in "<>=!~" or (isinstance(value, str) and _NUMERIC.match(value)):
            raise ValueError(f"{part.strip()!r} is no comparison; write {', '.join(_OPERATORS)} and one value")
        if value != value:
            raise ValueError("nothing compares with nan")
        if found[1] in ("<", ">", "<=", ">=") and not isinstance(value, float):
            raise ValueError(f"{found[1]} needs a number, not {found[2]!r}")
        conditions.append((found[1] or "==", value))
    return conditions


def findings(setup: Setup, policies: Iterable[Policy]) -> Iterator[Finding]:
    """One finding per policy, option and parameter group that breaks it."""
    for policy in policies:
        if policy.targets and not names.any_match(policy.targets, setup.target):
            continue
        for optimizer in setup.optimizers:
            if policy.optimizers and optimizer.class_name not in policy.optimizers:
                continue
            for group in optimizer.groups:
                members = [member for member in group.members if _concerns(policy, member)]
                if members:
                    yield from _judge(policy, setup, group, members)


def _concerns(policy: Policy, member: Member) -> bool:
    parameter, group = member.parameter, member.group
    return (
        (
            not policy.parameters
            or any(names.any_match(policy.parameters, name) for name in (parameter.name, *parameter.names))
        )
        and (not policy.roles or parameter.role in policy.roles)
        and (not policy.groups or group.index in policy.groups or group.name in policy.groups)
    )


def _judge(policy: Policy, setup: Setup, group: Group, members: list[Member]) -> Iterator[Finding]:
    for key, wanted in policy.require.items():
        wrong = [member for member in members if not _holds(_actual(setup, member, key), parse(wanted))]
        if not wrong:
            continue
        actual = _actual(setup, wrong[0], key)
        required = wanted if isinstance(wanted, str) else f"== {wanted}"
        fact = f"{key} of {names.describe(m.parameter.name for m in wrong)} is {_shown(actual)}, required {required}"
        yield Finding(
            wrong,
            f"{policy.message}: {fact}" if policy.message else fact,
            key=key,
            data={key: actual, "required": wanted},
            rule=policy.code,
            name=policy.name or "policy",
            severity=policy.severity,
            confidence="high",
            help=f"the policy is at {policy.span}" if policy.span else "",
        )


def _actual(setup: Setup, member: Member, key: str) -> Any:
    """The value a policy compares: a fact of the parameter, else the group's option."""
    if key in ("requires_grad", "dtype", "role"):
        return getattr(member.parameter, key)
    if key == "optimizer":
        return setup.optimizers[member.group.optimizer].class_name
    if key == "peak_lr":
        return member.group.peak_lr if member.group.peak_lr is not None else member.group.lr
    number = member.group.number(key)
    return member.group.options.get(key) if number is None else number


def _holds(actual: Any, conditions: list[Condition]) -> bool:
    for symbol, wanted in conditions:
        try:
            if not _OPERATORS[symbol](actual, wanted):
                return False
        except TypeError:  # an option that is absent, or text where a number is required
            return False
    return True


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return float(text)
    except ValueError:
        return text.strip("\"'")


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "not set" if value is None else str(value)
