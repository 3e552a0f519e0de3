"""Every hostile target between two good ones: they lose themselves, and nobody else.

python -m benchmarks.fuzz.run_hostile [NAME...]
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.fuzz import hostile
from lrlint.config import loader
from lrlint.config.settings import Target
from lrlint.lint.run import Failure, Run
from lrlint.runner import session


def check(folder: Path, names: Sequence[str], apart: int = 1, graph: bool = True) -> Run:
    """One run over hostile targets, with a good one before and after every ``apart`` of them.

    ``graph=False``: forward passes are not looked at, which is quicker.
    """
    file = hostile.write(folder, pipes())
    targets = []
    for k, name in enumerate(names):
        if k % apart == 0:
            targets.append(Target(f"good-{k // apart}", f"{file}:good", graph=False))
        if name.endswith(".py"):
            targets.append(Target(name, f"{folder / name}:build", timeout=5.0))
        else:
            how = hostile.ALL[name]
            bounds = {"timeout": how.timeout, "memory_limit": how.memory_limit, "graph": how.graph and graph}
            targets.append(Target(name, f"{file}:{name}", **bounds))
    targets.append(Target("good-last", f"{file}:good", graph=False))
    return session.check(session.Request(loader.load(folder), tuple(targets), jobs=2))


def pipes() -> set[int]:
    """Inodes of the pipes that this process holds."""
    found = set()
    for number in range(256):
        with suppress(OSError):
            status = os.fstat(number)
            if stat.S_ISFIFO(status.st_mode):
                found.add(status.st_ino)
    return found


def faults(run: Run, names: Sequence[str]) -> list[str]:
    """What does not hold: good targets that are missing, and hostile ones that ended otherwise than they have to."""
    failures = {failure.target: failure for failure in run.failures}
    found = [f"{name}: {failure.message}" for name, failure in failures.items() if name.startswith("good-")]
    for name in names:
        said = _fault(name, failures.get(name))
        found += [f"{name}: {said}"] if said else []
    return found


def _fault(name: str, failure: Failure | None) -> str:
    how = hostile.ALL.get(name)
    if failure is None:
        fails = how is None or how.end == hostile.FAILS
        return "it is no failure" if fails else ""
    if failure.exit_code == 70:
        return f"exit code 70: {failure.message}\n{failure.trace}"
    if how is not None and how.end == hostile.IS_CHECKED:
        return f"it failed: {failure.message}\n{failure.trace}"
    words = how.words if how is not None else ()
    told = failure.message + failure.hint
    return f"it says: {failure.message}" if words and not any(word in told for word in words) else ""


def main() -> int:
    names = sys.argv[1:] or [*hostile.ALL, *hostile.FILES]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run = check(Path(folder), names)
    found = faults(run, names)
    for fault in found:
        print(f"FAULT {fault}")
    good = sum(part.target.startswith("good-") for part in run.checked)
    seconds = time.monotonic() - started
    print(
        f"{len(names)} hostile targets between {len(names) + 1} good ones: {good} good ones reported, "
        f"{len(run.failures)} failures told, {len(found)} faults, {seconds:.0f} s"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
