"""lrlint: the linter for PyTorch optimizer setups.

The public names load lazily: importing lrlint imports neither torch nor the rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrlint.api import check, diff, graph, inspect, probe
    from lrlint.facts import Setup
    from lrlint.lint.finding import Finding
    from lrlint.lint.rule import rule
    from lrlint.lint.run import Run

__version__ = "0.1.0"

_HOMES = {
    "check": "lrlint.api",
    "inspect": "lrlint.api",
    "graph": "lrlint.api",
    "probe": "lrlint.api",
    "diff": "lrlint.api",
    "rule": "lrlint.lint.rule",
    "Finding": "lrlint.lint.finding",
    "Setup": "lrlint.facts",
    "Run": "lrlint.lint.run",
}

__all__ = ["Finding", "Run", "Setup", "check", "diff", "graph", "inspect", "probe", "rule"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lrlint' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
