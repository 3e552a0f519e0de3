"""The `lrlint` command for tests: in this process, which costs no start of Python and no import of torch; or in one of
its own, where the test is about the process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import lru_cache
from pathlib import Path
from unittest.mock import patch

from lrlint.cli import main

ROOT = Path(__file__).parent.parent
#: Would change what the command writes.
_FOREIGN = ("LRLINT", "GITHUB", "NO_COLOR", "FORCE_COLOR")


def lrlint(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What the command does in a folder, through the function that the installed command calls.

    Targets are inspected in a forked process, as ever. Both streams are real files: what a forked process writes to
    them is caught, too.
    """
    _import_once()
    command = [str(argument) for argument in arguments]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        with patch.dict(os.environ, _environment(environment), clear=True), _in(cwd), _streams(out, err):
            try:
                main.main(command)
            except SystemExit as stop:
                code = int(stop.code or 0)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, code, out.read(), err.read())


@lru_cache(maxsize=1)
def _import_once() -> None:
    """What every inspection imports, here: a forked process would import it anew for each target, in seconds."""
    import torch

    import lrlint as package

    model = torch.nn.Linear(1, 1)
    package.check(model, torch.optim.SGD(model.parameters(), lr=0.1))


def forked(work: Callable[[], int], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a function does in a fork of this process, which has imported torch, as if it were a program of its own."""
    _import_once()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if not child:
            code = 70
            try:
                os.environ.update(environment)
                os.chdir(cwd)
                with _streams(out, err):
                    code = work()
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([], code, out.read(), err.read())


def lrlint_process(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    env = _environment({"PYTHONPATH": path, **environment})
    command = [sys.executable, "-m", "lrlint", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)


def _environment(extra: dict[str, str]) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
    return {**own, "COLUMNS": "100", **extra}


@contextmanager
def _in(folder: Path) -> Iterator[None]:
    before, path = os.getcwd(), list(sys.path)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        sys.path[:] = path


@contextmanager
def _streams(out: tempfile._TemporaryFileWrapper[str], err: tempfile._TemporaryFileWrapper[str]) -> Iterator[None]:
    kept = {number: os.dup(number) for number in (1, 2)}
    try:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        with redirect_stdout(out), redirect_stderr(err):
            yield
        out.flush()
        err.flush()
    finally:
        for number, copy in kept.items():
            os.dup2(copy, number)
            os.close(copy)
