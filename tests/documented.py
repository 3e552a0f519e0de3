"""The commands of the documentation, and a shell that runs them as a reader would, in a project."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from commands import ROOT, lrlint

#: Before a block whose commands no test can run, with the reason. Readers of the page do not see it.
_MARKER = re.compile(r"<!-- not run: (?P<reason>.+) -->")
_FENCE = re.compile(r"\s*```(?P<language>\w*)")
_PROMPT = "$ "


@dataclass(frozen=True)
class Command:
    """A line after a prompt. ``unrun`` is why no test runs it, or ""."""

    page: Path
    line: int
    text: str
    unrun: str = ""


def blocks(page: Path) -> Iterator[tuple[str, str, list[tuple[int, str]]]]:
    """(language, marker's reason or "", lines with their numbers) of the fenced blocks of a page."""
    language, reason, lines = None, "", []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if language is not None and fence:
            yield language, reason, lines
            language, reason, lines = None, "", []
        elif language is not None:
            lines.append((number, line.strip()))
        elif fence:
            language = fence["language"]
        elif line.strip():
            marker = _MARKER.fullmatch(line.strip())
            reason = marker["reason"] if marker else ""


def commands(page: Path) -> list[Command]:
    """The commands of a page; those joined by ``&&`` one by one, without what is said beside them."""
    return [
        Command(page, number, text, reason)
        for _, reason, lines in blocks(page)
        for number, line in lines
        if line.startswith(_PROMPT)
        for text in re.sub(r"\s+# .*", "", line.removeprefix(_PROMPT)).split(" && ")
    ]


def install(folder: Path) -> None:
    """Put the `lrlint` command into a folder, as an installation would put it on the path."""
    script = folder / "lrlint"
    script.write_text(f"#!{sys.executable}\nfrom lrlint.cli.main import main\nmain()\n")
    script.chmod(0o755)


class Shell:
    """Runs command lines in the project, as a user or a CI job would: bare calls of `lrlint` in this process, which
    has torch already, and whatever else a line says in a shell. Of `make` it is seen that its target could be made.
    """

    def __init__(self, project: Path, bin_folder: Path) -> None:
        keep = {key: value for key, value in os.environ.items() if not key.startswith(("GITHUB", "LRLINT"))}
        path = f"{bin_folder}{os.pathsep}{keep['PATH']}"
        self.env = {**keep, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        self.project = project

    def __call__(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        name, *arguments = shlex.split(command)
        if name == "lrlint" and not set(command) & set("|;&<>$\n"):
            return lrlint(*arguments, cwd=self.project, **environment)
        folder = self.project
        if name == "make":
            command, folder = f"{command} --dry-run", ROOT
        env = {**self.env, **environment}
        return subprocess.run(
            ["bash", "-ec", command], cwd=folder, env=env, capture_output=True, text=True, timeout=300
        )
