"""Run rules over a Setup: complete what they yield, list what could not run, survive a rule that crashes."""

from __future__ import annotations

import copy
import os
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lrlint.errors import UsageError
from lrlint.facts import (
    ExpectedTie,
    Group,
    Member,
    Module,
    NamePattern,
    NormLayer,
    Optimizer,
    Parameter,
    Rejection,
    Schedule,
    Setup,
    SourceCall,
    Span,
    Unregistered,
)
from lrlint.facts.loop import LoopLocation
from lrlint.lint.engine_rules import Builtin
from lrlint.lint.finding import CONFIDENCES, SEVERITIES, Finding, Related, Severity
from lrlint.lint.registry import shipped
from lrlint.lint.rule import Rule

CRASHED = ("LR003", "rule-crashed")


@dataclass(frozen=True, slots=True)
class Skipped:
    """A rule that could not run, and why."""

    rule: str
    name: str
    reason: str


@dataclass(frozen=True)
class LintOutcome:
    """What rules found on one setup; ``skipped`` could not run, ``ran`` counts those that did."""

    findings: tuple[Finding, ...]
    skipped: tuple[Skipped, ...]
    ran: int


def run_rules(
    setup: Setup,
    rules: Iterable[Rule],
    options: Mapping[str, Mapping[str, Any]] | None = None,
    severities: Mapping[str, Severity] | None = None,
) -> LintOutcome:
    """Findings of all rules in a stable order: worst first, then code, then subject.

    ``options`` and ``severities`` are keyed by rule name. Raises UsageError for an option a rule does not have.
    """
    findings: list[Finding] = []
    skipped: list[Skipped] = []
    ran = 0
    theirs: Setup | None = None
    for declared in rules:
        if reason := _missing(setup, declared):
            skipped.append(Skipped(declared.code, declared.name, reason))
            continue
        ran += 1
        judged = setup
        if not _is_shipped(declared):  # a rule of the user's may change what it reads
            judged = theirs = theirs or copy.deepcopy(setup)
        values = (options or {}).get(declared.name, {})
        check_options(declared, values)
        severity: Severity | Literal[""] = (severities or {}).get(declared.name, "")
        try:
            for found in declared.run(judged, values) or ():
                findings.append(complete(_sound(found), declared, judged, severity))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            findings.append(_crash(declared, setup, error))
    findings.sort(key=lambda f: ([-part for part in f.rank], f.rule, f.groups, f.parameters, f.message))
    return LintOutcome(tuple(findings), tuple(skipped), ran)


def _is_shipped(declared: Rule) -> bool:
    return Path(declared.path).is_relative_to(shipped("rules"))


def _missing(setup: Setup, declared: Rule) -> str:
    """Why the rule cannot run on this Setup, or ''."""
    if not declared.needs:
        return ""
    have = {
        "optimizer": bool(setup.optimizers),
        "graph": setup.graph is not None,
        "schedule": any(schedule.groups for schedule in setup.schedules) or not setup.schedules,
        "total_steps": setup.training.total_steps is not None,
        "probe": setup.probe is not None,
        "scale": setup.scale is not None,
        "source": setup.source is not None,
        "loop": setup.loop is not None and setup.loop.judged,
        "order": setup.source is not None or (setup.loop is not None and setup.loop.judged),
        "values": "values" in declared.needs and any(parameter.values for parameter in setup.parameters),
    }
    default = {
        "optimizer": "no optimizer was built",
        "graph": "no graph",
        "schedule": "the schedule was not simulated",
        "total_steps": "no schedule horizon given (total_steps)",
        "probe": "no probe was run",
        "scale": "widths were not compared (lrlint scale)",
        "values": "no parameter values to read",
        "source": "the training source was not read",
        "loop": "no training loop was rehearsed" if setup.loop is None else "the rehearsal saw less than two steps",
        "order": "the training source was not read",
    }
    for need in declared.needs:
        if not have.get(need, False):
            return setup.note("source" if need == "order" else need) or default[need]
    return ""


#: What the type of an option's default allows; a default of another type allows anything.
_ALLOWED: tuple[tuple[type, Any, str], ...] = (
    (bool, bool, "true or false"),
    (int, (int, float), "a number"),
    (float, (int, float), "a number"),
    (str, str, "a string"),
    (tuple, (list, tuple), "a list"),
    (list, (list, tuple), "a list"),
)


def check_options(declared: Rule, values: Mapping[str, Any]) -> None:
    """Raises UsageError for an option that the rule does not have, or a value of another type than its default."""
    known = {option.name: option for option in declared.options}
    for name, value in values.items():
        option = known.get(name.replace("_", "-"))
        if option is None:
            raise UsageError(
                f"rule {declared.name} has no option {name!r}",
                f"its options: {', '.join(sorted(known))}" if known else "it has none",
            )
        allowed, expected = next(
            ((types, expected) for kind, types, expected in _ALLOWED if type(option.default) is kind), (object, "")
        )
        if not isinstance(value, allowed) or (isinstance(value, bool) and expected == "a number"):
            raise UsageError(f"option {name!r} of rule {declared.name} is {value!r}, expected {expected}")


def _sound(finding: Any) -> Finding:
    """The finding; raises TypeError or ValueError where a rule yields something else, or one that cannot be ranked."""
    if not isinstance(finding, Finding):
        raise TypeError(f"it yields {type(finding).__name__} and not Finding")
    if finding.severity not in ("", *SEVERITIES) or finding.confidence not in ("", *CONFIDENCES):
        raise ValueError(f"a finding has severity {finding.severity!r} and confidence {finding.confidence!r}")
    return finding if isinstance(finding.message, str) else replace(finding, message=str(finding.message))


def complete(
    finding: Finding, declared: Rule | Builtin, setup: Setup, severity: Severity | Literal[""] = ""
) -> Finding:
    """The finding with everything the engine knows: code, severity, names, groups, locations.

    ``severity`` is the user's override; it wins over the finding's own.
    """
    subject = _Subject(setup, finding.subject, finding.key)
    wrote = _author(setup, subject.groups) if getattr(declared, "family", "") == "decay" else ""
    return replace(
        finding,
        message=f"{finding.message}; {wrote} wrote these groups" if wrote else finding.message,
        rule=declared.code,
        name=declared.name,
        severity=severity or finding.severity or declared.severity,
        confidence=finding.confidence or declared.confidence,
        target=setup.target,
        parameters=subject.parameters,
        groups=subject.groups,
        modules=subject.modules,
        locations=subject.locations,
        related=_related(finding.related, setup, finding.key),
    )


def _author(setup: Setup, groups: Iterable[tuple[int, int]]) -> str:
    """The library that wrote these groups, where one wrote them all: what is wrong with them is set in its options."""
    libraries = {setup.optimizers[o].groups_from for o, _ in groups if o < len(setup.optimizers)}
    return libraries.pop() if len(libraries) == 1 else ""


def _related(related: Any, setup: Setup, key: str | None) -> tuple[Related, ...]:
    if not related and not isinstance(related, (Group, Optimizer)):
        return ()
    labelled = related if isinstance(related, Mapping) else {"related": related}
    subjects = {label: _Subject(setup, subject, key) for label, subject in labelled.items()}
    return tuple(Related(label, s.parameters, s.groups, s.locations) for label, s in subjects.items())


class _Subject:
    """What a fact (or a list of facts) refers to: names, groups, modules, and where they were written."""

    def __init__(self, setup: Setup, subject: Any, key: str | None) -> None:
        self._setup, self._key = setup, key
        self._parameters: dict[str, None] = {}
        self._groups: dict[tuple[int, int], None] = {}
        self._modules: dict[str, None] = {}
        self._spans: dict[Span, None] = {}
        self._add(subject)
        if not self._spans and setup.span is not None:
            self._spans[setup.span] = None
        self.parameters = tuple(self._parameters)
        self.groups = tuple(sorted(self._groups))
        self.modules = tuple(self._modules)
        self.locations = tuple(self._spans)

    def _add(self, subject: Any) -> None:
        if isinstance(subject, Member):
            self._parameters[subject.parameter.name] = None
            self._group(subject.group)
        elif isinstance(subject, Parameter):
            self._parameter(subject)
        elif isinstance(subject, Group):
            self._group(subject)
            self._parameters.update(dict.fromkeys(p.name for p in subject.parameters))
        elif isinstance(subject, Optimizer):
            self._groups.update(dict.fromkeys((subject.index, group.index) for group in subject.groups))
            self._span(subject.span)
        elif isinstance(subject, (NormLayer, Module)):
            self._module(subject)
        elif isinstance(subject, (Unregistered, Rejection)):
            self._span(subject.span)
            self._parameters.update(dict.fromkeys(p.name for p in subject.parameters))
            if isinstance(subject, Unregistered):
                self._modules[subject.path] = None
        elif isinstance(subject, ExpectedTie):
            self._add([subject.first, subject.second])
        elif isinstance(subject, Schedule):
            self._span(getattr(subject, "span", None))
            if subject.optimizer is not None:
                self._groups.update(dict.fromkeys((subject.optimizer, g.group) for g in subject.groups))
        elif isinstance(subject, (SourceCall, NamePattern, Setup)):
            self._span(subject.span)
        elif isinstance(subject, LoopLocation):
            self._span(subject.span)
            self._parameters.update(dict.fromkeys(subject.parameters))
            own = [o for o in self._setup.optimizers if o.index == subject.optimizer]
            self._groups.update(dict.fromkeys((group.optimizer, group.index) for o in own for group in o.groups))
        elif isinstance(subject, str) or not isinstance(subject, Iterable):
            raise TypeError(
                f"{type(subject).__name__} is no subject of a finding: it has to be a fact, or a list of facts"
            )
        else:
            for item in subject:
                self._add(item)

    def _parameter(self, parameter: Parameter) -> None:
        self._parameters[parameter.name] = None
        groups = self._setup.groups_of(parameter)
        for group in groups:
            self._group(group)
        if not groups:  # nowhere in an optimizer: point at the optimizers that should have it, else at its module
            self._span(next((o.span for o in self._setup.optimizers if o.span), None))

    def _group(self, group: Group) -> None:
        self._groups[(group.optimizer, group.index)] = None
        optimizer = self._setup.optimizers[group.optimizer] if group.optimizer < len(self._setup.optimizers) else None
        fallback = optimizer.span if optimizer else None
        self._span(group.key_spans.get(self._key or "", None) or group.span or fallback)

    def _module(self, fact: NormLayer | Module) -> None:
        self._modules[fact.path] = None
        if isinstance(fact, NormLayer):
            self._parameters.update(dict.fromkeys(p.name for p in (fact.weight, fact.bias) if p is not None))
        path: str | None = fact.path
        while path is not None:  # the nearest enclosing class that the user wrote
            module = self._setup.module_by_path.get(path)
            if module is not None and module.span is not None:
                self._span(module.span)
                return
            path = module.parent if module is not None else None

    def _span(self, span: Span | None) -> None:
        if span is not None:
            self._spans[span] = None


def _crash(declared: Rule, setup: Setup, error: BaseException) -> Finding:
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((frame for frame in reversed(frames) if frame.filename == declared.path), None)
    where = "" if frame is None else f" at {os.path.basename(frame.filename)}:{frame.lineno}"
    return Finding(
        setup,
        f"rule {declared.code} ({declared.name}) crashed: {type(error).__name__}: {error}{where}; "
        "its findings are missing",
        severity="warning",
        confidence="high",
        rule=CRASHED[0],
        name=CRASHED[1],
        target=setup.target,
        data={"rule": declared.code, "error": type(error).__name__},
        help="report it, or leave the rule out with `--ignore`",
        locations=(setup.span,) if setup.span else (),
        modules=(declared.name,),
    )
