"""pytest plugin: `assert_optimizer_ok`, and configured targets as test items (`pytest --lrlint`).

Loaded in every pytest run of an environment that has lrlint: it imports neither torch nor rules until used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lrlint.errors import LrlintError


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lrlint")
    group.addoption("--lrlint", action="store_true", help="check every target of [tool.lrlint.targets] as a test item")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lrlint: a target of [tool.lrlint.targets], checked by lrlint")


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--lrlint"):
        return
    try:
        items.extend(_items(session))
    except LrlintError as error:
        raise pytest.UsageError(f"lrlint: {error.message}") from None


def _items(session: pytest.Session) -> Iterator[pytest.Item]:
    from lrlint.config import loader

    settings = loader.load(session.config.rootpath)
    for name in settings.targets:
        item = Target.from_parent(session, name=f"lrlint::{name}", nodeid=f"lrlint::{name}")
        item.settings, item.target = settings, name
        yield item


class Target(pytest.Item):
    """One configured target. It fails as `lrlint check TARGET` fails, with the same report."""

    settings: Any
    target: str

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_marker("lrlint")

    def runtest(self) -> None:
        from lrlint.runner import session

        target = self.settings.targets[self.target]
        complete = len(self.settings.targets) == 1
        run = session.check(session.Request(self.settings, (target,), complete=complete))
        if not run.ok:
            raise Faulty(_report(run))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, Faulty):
            return str(excinfo.value)
        if isinstance(excinfo.value, LrlintError):
            return f"{excinfo.value.message}\n{excinfo.value.hint}".rstrip()
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        span = self.settings.targets[self.target].span
        file = self.settings.file or self.path
        return file, span.line - 1 if span else None, self.name


class Faulty(AssertionError):
    """The report of a run that is not ok."""


def assert_optimizer_ok(
    model: Any,
    optimizer: Any = None,
    scheduler: Any = None,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    fail_on: str | None = None,
    **arguments: Any,
) -> Any:
    """Check live objects as `lrlint.check` does, with the same arguments; returns the run.

    Rules, options, severities and suppressions are those of the nearest pyproject.toml (the fixture: of pytest's root
    folder), with ``select``, ``ignore`` and ``fail_on`` on top; a baseline is about targets, and is not read. Raises
    AssertionError with the report when something at or above ``fail_on`` (default: as configured) is found.
    """
    __tracebackhide__ = True
    return _assert_ok(None, model, optimizer, scheduler, select, ignore, fail_on, arguments)


@pytest.fixture(name="assert_optimizer_ok")
def _assert_optimizer_ok(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`assert_optimizer_ok(model, optimizer, scheduler=None, *, select=(), ignore=(), ...)`."""

    def check(
        model: Any,
        optimizer: Any = None,
        scheduler: Any = None,
        *,
        select: Sequence[str] = (),
        ignore: Sequence[str] = (),
        fail_on: str | None = None,
        **arguments: Any,
    ) -> Any:
        __tracebackhide__ = True
        return _assert_ok(request.config.rootpath, model, optimizer, scheduler, select, ignore, fail_on, arguments)

    return check


def _assert_ok(
    root: Path | None,
    model: Any,
    optimizer: Any,
    scheduler: Any,
    select: Sequence[str],
    ignore: Sequence[str],
    fail_on: str | None,
    arguments: dict[str, Any],
) -> Any:
    __tracebackhide__ = True
    from lrlint.api import inspect
    from lrlint.config import loader
    from lrlint.lint import selection
    from lrlint.lint.run import conclude, examine

    settings = arguments.pop("settings", None)
    if settings is None:
        flags = {"select": tuple(select), "ignore": tuple(ignore), "fail_on": fail_on, "baseline": ""}
        settings = loader.layer(loader.load(root), flags)
    # Not complete: a suppression of the configuration may be meant for another setup.
    run = conclude(
        [examine(inspect(model, optimizer, scheduler, **arguments), selection.select(settings))],
        settings,
        complete=False,
    )
    if not run.ok:
        raise Faulty(_report(run))
    return run


def _report(run: Any) -> str:
    from lrlint.reports import render

    failures = ["\n".join(part for part in (f"{f.target}: {f.message}", f.hint, f.trace) if part) for f in run.failures]
    return "\n\n".join([*failures, render("full", run).rstrip()]).strip()
