"""`lrlint rule --test`: prove rules by their fixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrlint.cli.output import complain, echo
from lrlint.errors import LrlintError, UsageError
from lrlint.lint import registry
from lrlint.text.wording import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrlint.lint.rule import Rule
    from lrlint.reports.style import Style


def prove(rules: Sequence[Rule], style: Style) -> int:
    """Run every case of the rules' fixtures; exit code 0 where each finds what it announces, else 1.

    Raises UsageError for a rule without a fixture, and for one without a case.
    """
    from lrlint import testing

    for rule in rules:
        if registry.fixture_of(rule) is None:
            where = " or ".join(map(str, registry.fixture_places(rule)))
            raise UsageError(f"{rule.code} {rule.name} has no fixture", f"write one: {where}")
    failed = total = 0
    for rule in rules:
        cases = list(testing.cases(registry.Catalog((rule,))))
        if not cases:
            raise UsageError(f"{registry.fixture_of(rule)} has no case", "functions are called bad… and good…")
        for case in cases:
            differs = _difference(case)
            failed, total = failed + bool(differs), total + 1
            mark = style.paint("differs", "red") if differs else style.paint("ok", "green")
            echo(f"{rule.code} {case.function}: {mark}\n" + "".join(f"  {line}\n" for line in differs.splitlines()))
    echo(f"{count(total, 'case')}: {f'{failed} differ' if failed else 'all as announced'}\n")
    return 1 if failed else 0


def _difference(case: object) -> str:
    """What a case finds otherwise than it announces, or why it cannot be run; "" where it holds."""
    from lrlint import testing

    assert isinstance(case, testing.Case)
    try:
        testing.run(case)
    except AssertionError as error:
        return str(error)
    except LrlintError as error:
        complain(error.message, error.hint, getattr(error, "trace", ""))
        return error.message
    return ""
