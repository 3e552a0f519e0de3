"""``@rule``: a generator function becomes a rule; its keyword-only arguments are the options."""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from lrlint.lint.finding import CONFIDENCES, SEVERITIES, Confidence, Finding, Severity

Check = Callable[..., Iterator[Finding]]

#: Facts a rule can require; the engine lists it as skipped, with the reason, where one is missing.
Need: TypeAlias = Literal[
    "optimizer", "graph", "schedule", "total_steps", "values", "probe", "scale", "source", "loop", "order"
]
NEEDS: tuple[Need, ...] = get_args(Need)


#: The headings of a rule's text, in their order. The text has them in its form: the first line; the paragraphs up to the
#: one that begins "What to do:"; those up to the one that begins "Sources:". Options come from the signature.
HEADINGS = ("What it does", "Why it matters", "What to do", "What it reports, and what it leaves alone", "Sources")


def sections(documentation: str) -> list[tuple[str, str]]:
    """(heading, text) of each part that a rule's documentation has; the whole under the first where it has no such form."""
    paragraphs = [part.strip() for part in documentation.split("\n\n") if part.strip()]
    starts = [
        next((k for k, p in enumerate(paragraphs) if p.startswith(word)), None) for word in ("What to do:", "Sources:")
    ]
    advice, sources = starts
    if not paragraphs or advice is None or sources is None or not 0 < advice < sources:
        return [(HEADINGS[0], documentation)] if paragraphs else []
    parts = (
        paragraphs[:1],
        paragraphs[1:advice],
        [paragraphs[advice].removeprefix("What to do:")],
        paragraphs[advice + 1 : sources],
        [paragraphs[sources].removeprefix("Sources:"), *paragraphs[sources + 1 :]],
    )
    texts = ("\n\n".join(part).strip() for part in parts)
    found = [(heading, text) for heading, text in zip(HEADINGS, texts, strict=True) if text]
    return [(h, text if text.startswith("http") else text[:1].upper() + text[1:]) for h, text in found]


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
