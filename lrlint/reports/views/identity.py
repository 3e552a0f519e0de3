"""What a signature under a report vouches for: versions, date, commit, command and configuration.

`current` is the only place where the clock, git and the installed packages are asked; everything else is handed an
`Identity`, so that a report of the same facts is the same bytes.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lrlint._version import __version__
from lrlint.config.settings import Settings

#: Settings that decide what a run reports, in the order in which they enter the hash.
_DECIDING = (
    "select", "extend_select", "ignore", "extend_ignore", "fail_on", "min_confidence", "options", "severities",
    "suppress", "policies", "probe",
)  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """``commit`` is the hash of the project's last commit, ``clean`` whether its files are as committed (None: no
    repository). ``configuration`` is a hash of the settings that decide what is reported."""

    versions: tuple[tuple[str, str], ...] = ()
    date: str = ""
    commit: str = ""
    clean: bool | None = None
    command: str = ""
    configuration: str = ""

    def pairs(self) -> list[tuple[str, str]]:
        """(title, value) of everything that is known."""
        state = {True: "clean", False: "with uncommitted changes", None: ""}[self.clean]
        pairs = [
            ("versions", ", ".join(f"{name} {number}" for name, number in self.versions)),
            ("date", self.date),
            ("commit", f"{self.commit[:12]}, {state}" if self.commit else "no repository" if self.date else ""),
            ("command", self.command),
            ("configuration", self.configuration),
        ]
        return [(title, value) for title, value in pairs if value]


def current(settings: Settings, arguments: Sequence[str]) -> Identity:
    """The identity of a report that is made now. ``SOURCE_DATE_EPOCH`` fixes the date (reproducible-builds.org)."""
    commit, clean = _commit(settings.folder)
    name = settings.file.name if settings.file else "no configuration file"
    return Identity(
        versions=_versions(),
        date=_date(),
        commit=commit,
        clean=clean,
        command=shlex.join(["lrlint", *arguments]),
        configuration=f"{name}, sha256 {digest(settings)}",
    )


def digest(settings: Settings) -> str:
    """The first digits of a hash over what decides the findings; paths and origins do not enter it."""
    text = "\n".join(f"{name} = {getattr(settings, name)!r}" for name in _DECIDING)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _versions() -> tuple[tuple[str, str], ...]:
    versions = [("lrlint", __version__), ("Python", platform.python_version())]
    for package in ("torch", "transformers", "lightning"):
        try:
            versions.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return tuple(versions)


def _date() -> str:
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.datetime.now(datetime.timezone.utc)
    if fixed.isdigit():
        now = datetime.datetime.fromtimestamp(int(fixed), datetime.timezone.utc)
    return now.strftime("%Y-%m-%d %H:%M UTC")


def _commit(folder: Path) -> tuple[str, bool | None]:
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit, not _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "", None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.strip()
