"""The run as JSON, for programs. The envelope grows, nothing in it changes its meaning (schema ``lrlint/1``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrlint.config.files import dump

if TYPE_CHECKING:
    from lrlint.lint.run import Run


def render(run: Run) -> str:
    return dump(run.to_dict())
