"""What the callbacks of all frameworks share: check the objects that train, report once, and never get in the way."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lrlint.config.settings import Settings
from lrlint.errors import UsageError
from lrlint.facts import Setup
from lrlint.facts.ranks import RankView, view_of
from lrlint.lint.finding import SEVERITIES, Finding, at_least
from lrlint.lint.run import Run, lint
from lrlint.targets.ranks import gather, world

#: `fail_on` of a callback that only reports.
NEVER = "never"


class OptimizerLintError(RuntimeError):
    """The optimizer setup has findings at or above ``fail_on``; the message is the report."""


class StepsAside(UserWarning):
    """The check could not be made, and training goes on without it."""


@dataclass(frozen=True)
class Report:
    """What one look at a training found. ``new`` are findings that no earlier look had; ``failed``: on any rank."""

    run: Run
    new: tuple[Finding, ...]
    failed: bool
    text: str


class Watch:
    """Looks at a training when its groups are set up, and again when they have changed.

    ``fail_on`` is ``error``, ``warning``, ``info`` or ``never``; ``select`` and ``ignore`` are rules, as on the command
    line. ``probe``: run the stability probe too, on the training's own batches. Raises UsageError for a wrong argument.
    """

    def __init__(self, fail_on: str, select: Sequence[str], ignore: Sequence[str], probe: bool) -> None:
        if fail_on not in (*SEVERITIES, NEVER):
            raise UsageError(f"fail_on is {fail_on!r}; it is one of {', '.join([*reversed(SEVERITIES), NEVER])}")
        names = [(select,) if isinstance(select, str) else select, (ignore,) if isinstance(ignore, str) else ignore]
        self._fail_on, self._probe = fail_on, probe
        self._settings = Settings(select=tuple(names[0]), ignore=tuple(names[1]))
        self._shape: tuple[int, ...] | None = None
        self._seen: set[tuple[str, str]] = set()
        self.run: Run | None = None

    def changed(self, optimizers: Iterable[Any]) -> bool:
        """Whether the groups are not those of the last look. Asked at every step: it only counts them."""
        shape = tuple(len(getattr(optimizer, "param_groups", ())) for optimizer in optimizers)
        changed, self._shape = shape != self._shape, shape
        return changed

    def look(self, subject: Any, batches: Callable[[], Any], **declared: Any) -> Report | None:
        """Check what trains; None where that is not possible, which is told by a warning. All ranks look together.

        ``subject`` is a Trainer (or model), ``batches`` gives the training's batches, for the probe alone.
        """
        rank, count = world()
        try:
            with _undisturbed():
                setup = self._inspect(subject, batches, declared)
        except Exception as error:
            _step_aside(error)
            setup = None
        views = gather(None if setup is None else view_of(setup, rank)) if count > 1 else []
        run = None if setup is None else self._lint(setup, views)
        failed = run is not None and self._fail_on != NEVER and bool(at_least(self._fresh(run), self._fail_on))
        failed = any(gather(failed)) if count > 1 else failed
        if run is None:
            return None
        new = self._fresh(run)
        self._seen.update((found.rule, found.message) for found in new)
        self.run = run
        return Report(run, new, failed, _text(run, new))

    def _inspect(self, subject: Any, batches: Callable[[], Any], declared: dict[str, Any]) -> Setup:
        from lrlint.inspection.build import build
        from lrlint.targets.load import from_objects

        built = from_objects(subject, **declared)
        setup = build(built)
        if self._probe:
            from lrlint.probing.run import examine

            setup = replace(setup, probe=examine(replace(built, batches=batches()), setup))
        return setup

    def _lint(self, setup: Setup, views: Sequence[RankView | None]) -> Run | None:
        try:
            known = tuple(view for view in views if view is not None)
            return lint(replace(setup, ranks=known if len(known) > 1 else ()), self._settings)
        except Exception as error:
            _step_aside(error)
            return None

    def _fresh(self, run: Run) -> tuple[Finding, ...]:
        return tuple(found for found in run.active if (found.rule, found.message) not in self._seen)


def tell(report: Report) -> None:
    """Write a report for the user, on the first rank."""
    if world()[0] == 0 and report.text:
        print(report.text, file=sys.stderr, flush=True)


def _text(run: Run, new: tuple[Finding, ...]) -> str:
    from lrlint.reports import render

    return "lrlint: the optimizer setup of this training\n" + render("full", replace(run, findings=new)).rstrip()


def _step_aside(error: Exception) -> None:
    text = f"lrlint could not check this training, which goes on without it: {type(error).__name__}: {error}"
    warnings.warn(text, StepsAside, stacklevel=4)


def _undisturbed() -> Any:
    """Random states, torch's settings and the environment are afterwards what they were."""
    from lrlint.targets.sandbox import preserved

    return preserved()
