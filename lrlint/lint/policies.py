"""House rules without Python: which parameters, and what must hold for their groups.

Values are compared, nothing is evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lrlint.config.conditions import OPERATORS, Condition, parse
from lrlint.config.settings import Policy
from lrlint.facts import Group, Member, Setup
from lrlint.lint.finding import Finding
from lrlint.text import names


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
    for key, requirement in policy.require.items():
        wrong = [member for member in members if not _holds(_actual(setup, member, key), parse(requirement))]
        if not wrong:
            continue
        actual = _actual(setup, wrong[0], key)
        required = requirement if isinstance(requirement, str) else f"== {requirement}"
        fact = f"{key} of {names.describe(m.parameter.name for m in wrong)} is {_shown(actual)}, required {required}"
        yield Finding(
            wrong,
            f"{policy.message}: {fact}" if policy.message else fact,
            key=key,
            data={key: actual, "required": requirement},
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
    for symbol, required in conditions:
        try:
            if not OPERATORS[symbol](actual, required):
                return False
        except TypeError:  # an option that is absent, or text where a number is required
            return False
    return True


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "not set" if value is None else str(value)
