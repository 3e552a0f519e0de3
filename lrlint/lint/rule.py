"""``@rule``: a generator function becomes a rule; its keyword-only arguments are the options."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from lrlint.lint.finding import CONFIDENCES, SEVERITIES, Confidence, Finding, Severity

Check = Callable[..., Iterator[Finding]]

#: Facts a rule can require; the engine lists it as skipped, with the reason, where one is missing.
Need: TypeAlias = Literal[
    "optimizer", "graph", "schedule", "total_steps", "values", "probe", "scale", "source", "loop", "order"
]
NEEDS: tuple[Need, ...] = get_args(Need)


@dataclass(frozen=True)
class Option:
    """A rule option: name as in configuration (kebab), default and type name."""

    name: str
    default: Any
    type: str


@dataclass(frozen=True)
class Rule:
    """A check with its code, kebab name, documentation (the module docstring) and options."""

    code: str
    name: str
    severity: Severity
    confidence: Confidence
    check: Check = field(repr=False)
    needs: tuple[Need, ...] = ()
    default: bool = True
    documentation: str = ""
    path: str = ""
    options: tuple[Option, ...] = ()

    @property
    def summary(self) -> str:
        """The first line of the documentation."""
        return self.documentation.split("\n", 1)[0]

    @property
    def family(self) -> str:
        return self.path.replace("\\", "/").rsplit("/", 2)[-2] if self.path else ""

    def run(self, setup: Any, options: Mapping[str, Any]) -> Iterator[Finding]:
        return self.check(setup, **{key.replace("-", "_"): value for key, value in options.items()})


def rule(
    code: str, *, severity: Severity, confidence: Confidence, needs: tuple[Need, ...] = (), default: bool = True
) -> Callable[[Check], Check]:
    """Declare a rule: ``severity`` and ``confidence`` are what its findings have unless they state their own.

    ``needs`` lists facts without which it cannot run; ``default=False`` keeps it off unless selected by code or name.
    """
    if severity not in SEVERITIES or confidence not in CONFIDENCES:
        raise ValueError(f"{code}: severity is one of {SEVERITIES}, confidence one of {CONFIDENCES}")
    if unknown := set(needs) - set(NEEDS):
        raise ValueError(f"{code}: unknown needs {sorted(unknown)}; known: {NEEDS}")

    def declare(check: Check) -> Check:
        module = sys.modules[check.__module__]
        options = tuple(
            Option(name.replace("_", "-"), parameter.default, _type_name(parameter))
            for name, parameter in inspect.signature(check).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        )
        declared = Rule(
            code=code,
            name=check.__name__.replace("_", "-"),
            severity=severity,
            confidence=confidence,
            check=check,
            needs=needs,
            default=default,
            documentation=inspect.cleandoc(module.__doc__ or ""),
            path=getattr(module, "__file__", None) or "",
            options=options,
        )
        check.rule = declared  # type: ignore[attr-defined]
        return check

    return declare


def _type_name(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
