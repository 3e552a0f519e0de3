"""lrlint: the linter for PyTorch optimizer setups.

The public names load lazily: importing lrlint imports neither torch nor the rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrlint._version import __version__

if TYPE_CHECKING:
    from lrlint.api import check, diff, graph, inspect, probe, scale
    from lrlint.facts import Setup
    from lrlint.lint.finding import Finding
    from lrlint.lint.rule import rule
    from lrlint.results import Run

_HOMES = {
    "check": "lrlint.api",
    "inspect": "lrlint.api",
    "graph": "lrlint.api",
    "probe": "lrlint.api",
    "diff": "lrlint.api",
    "scale": "lrlint.api",
    "rule": "lrlint.lint.rule",
    "Finding": "lrlint.lint.finding",
    "Setup": "lrlint.facts",
    "Run": "lrlint.results",
}

__all__ = ["Finding", "Run", "Setup", "__version__", "check", "diff", "graph", "inspect", "probe", "rule", "scale"]

if not TYPE_CHECKING:  # a type checker sees the imports above, and with them a misspelt name

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'lrlint' has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
