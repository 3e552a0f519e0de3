"""Rehearse a script as the command line does, in a forked worker of this process: torch is imported once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch._dynamo  # the first optimizer imports it; not once per worker  # noqa: F401

from lrlint.config.loader import Settings
from lrlint.config.settings import Target
from lrlint.lint.run import Failure, Run, lint
from lrlint.runner import workers


def inspected(script: Path, monkeypatch: pytest.MonkeyPatch, *args: str, **plan: Any) -> Any:
    """The setup with its loop, or the failure."""
    monkeypatch.chdir(script.parent)
    target = Target(
        script.name,
        script=script.name,
        script_args=args,
        timeout=plan.pop("timeout", None),
        graph=plan.pop("graph", False),
    )
    found = workers.inspect_all([workers.Job(target, script.parent, None, plan)], 1)[0]
    return found if isinstance(found, Failure) else found.setup


def rehearsed(script: Path, monkeypatch: pytest.MonkeyPatch, *args: str, **plan: Any) -> Run:
    """The result of a check."""
    setup = inspected(script, monkeypatch, *args, **plan)
    assert not isinstance(setup, Failure), f"{setup.message}\n{setup.trace}"
    return lint(setup, Settings())


def serious(run: Run) -> set[tuple[str, int]]:
    """(code, line) of what was found at warning or above."""
    found = [f for f in run.findings if f.severity != "info"]
    return {(f.rule, f.locations[0].line) for f in found}


def write(folder: Path, text: str, name: str = "train.py") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path
