"""One module per output format: `render(run)` is a pure function from a Run (and the sources it points at) to text."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from lrlint.errors import UsageError

if TYPE_CHECKING:
    from lrlint.lint.run import Run
    from lrlint.reports.style import Style

#: Format → the file name endings that choose it, longest first.
FORMATS = {
    "full": (".txt",),
    "concise": (),
    "json": (".json",),
    "sarif": (".sarif.json", ".sarif"),
    "github": (),
    "gitlab": (".gitlab.json", "gl-code-quality-report.json"),
    "junit": (".junit.xml", ".xml"),
    "markdown": (".md", ".markdown"),
    "html": (".html", ".htm"),
}


def render(name: str, run: Run, style: Style | None = None) -> str:
    """The run in one of `FORMATS`. ``style`` matters for ``full`` only: width and colour."""
    module = import_module("lrlint.reports.html" if name == "html" else f"lrlint.reports.{name}")
    text: str = module.render(run, style) if name == "full" else module.render(run)
    return text.encode("utf-8", "backslashreplace").decode()  # a name may hold a lone surrogate


def destination(text: str) -> tuple[str, Path]:
    """``FORMAT:FILE``, or a file whose ending tells the format, as (format, path). Raises UsageError."""
    name, colon, rest = text.partition(":")
    if colon and name in FORMATS and rest:
        return name, Path(rest)
    endings = sorted(((end, name) for name, ends in FORMATS.items() for end in ends), key=lambda pair: -len(pair[0]))
    for end, format_ in endings:
        if text.lower().endswith(end):
            return format_, Path(text)
    raise UsageError(
        f"--output {text}: its ending names no format", f"write FORMAT:FILE; formats: {', '.join(FORMATS)}"
    )
