"""``@rule``: a generator function becomes a rule; its keyword-only arguments are the options."""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

from lrlint.lint.finding import CONFIDENCES, SEVERITIES, Finding

Check = Callable[..., Iterator[Finding]]

#: Facts a rule can require; the engine lists it as skipped, with the reason, where one is missing.
NEEDS = ("optimizer", "graph", "schedule", "total_steps", "values", "probe", "source", "loop", "order")


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
    severity: str
    confidence: str
    check: Check = field(repr=False)
    needs: tuple[str, ...] = ()
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
    code: str, *, severity: str, confidence: str, needs: tuple[str, ...] = (), default: bool = True
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


@contextmanager
def apart() -> Iterator[None]:
    """What rules print in this block goes to standard error: standard output carries results only."""
    with redirect_stdout(_Told()):
        yield


class _Told(io.TextIOBase):
    """Standard error, which a rule cannot close."""

    def write(self, text: str) -> int:
        return 0 if sys.stderr is None else sys.stderr.write(text)

    def close(self) -> None:
        pass


def _type_name(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
