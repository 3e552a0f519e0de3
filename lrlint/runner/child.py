"""What happens in the process of a target: its code runs, its facts are collected and sent to the parent as plain data."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
import stat
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lrlint.errors import LrlintError, UsageError
from lrlint.facts import LoopFacts, Setup
from lrlint.fixes.overlay import overlaid
from lrlint.runner import channel, console, memory
from lrlint.runner.job import Job, cores

#: Errors of the system for want of files, processes or memory.
_SCARCE = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EAGAIN))
#: Said where a script's writes filled the memory that holds them: its "no space left" is then none of its own.
FULL = 'what the script wrote filled the memory that holds it back, so that it may have met "no space left"'
#: prctl's option for the signal that comes when the parent dies.
_PDEATHSIG = 1


def run(job: Job, sender: Connection, mark: bytes, written: Connection | None) -> None:
    """The whole life of a child: do the job, send what it gave, leave.

    ``written`` takes what is printed (None: standard error does).
    """
    _leave_the_family()
    if sys.platform.startswith("linux"):  # elsewhere it is not forked, and inherits none
        _close_pipes_of_others({end.fileno() for end in (sender, written) if end is not None})
    if hasattr(signal, "SIGINT"):
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent reports the interruption
    console.attach(written)
    leave = os._exit  # the user's code may have put something else there
    try:
        with memory.limited(job.target.memory_limit):
            message = attempt(job)
    except UsageError as error:
        message = _failure(error.message, error.hint, error.exit_code)
    except BaseException as error:  # a KeyboardInterrupt that nobody's keyboard sent
        message = _stopped(job, error)
    with suppress(Exception):
        for process in multiprocessing.active_children():  # nobody waits for what the user's code started
            process.terminate()
    channel.send(sender, mark, message)
    sender.close()
    with suppress(Exception):
        sys.stderr.flush()
    leave(0)  # threads and exit handlers of the user's code must not keep the process


def _leave_the_family() -> None:
    """A session and a process group of its own: a signal to its group does not reach lrlint or other targets.

    The terminal's signals do not reach it either, so it ends with its parent (where the system offers that).
    """
    if hasattr(os, "setsid"):
        with suppress(OSError):
            os.setsid()
    if sys.platform.startswith("linux"):
        parent = os.getppid()
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died in between
            os._exit(3)


def _close_pipes_of_others(own: set[int]) -> None:
    """Close what the parent talks through, with other targets' processes and with whoever runs it (a test runner that
    distributes tests among processes, for one): what a target wrote there would end those conversations. What
    multiprocessing needs stays.
    """
    tracker = getattr(multiprocessing.resource_tracker._resource_tracker, "_fd", None)
    sentinel = getattr(multiprocessing.parent_process(), "sentinel", None)
    with suppress(OSError):
        for descriptor in map(int, os.listdir("/proc/self/fd")):
            with suppress(OSError):
                mode = os.fstat(descriptor).st_mode
                talks = descriptor > 2 and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))
                if talks and descriptor not in {tracker, sentinel, *own}:
                    os.close(descriptor)


def _stopped(job: Job, error: BaseException) -> dict[str, Any]:
    from lrlint.targets.provenance.project import Project
    from lrlint.targets.user_traceback import trim

    shown = trim(error, Project(job.folder))
    return _failure(f"its code raised {type(error).__name__}", trace=shown)


def attempt(job: Job, inspect: Callable[[], Any] | None = None) -> dict[str, Any]:
    """The facts as plain data, or the error as one. ``inspect`` gives the facts; else the job says how."""
    before, change = os.getcwd(), os.chdir  # the user's code may put something else in the place of functions
    os.environ.update(job.env)
    try:
        if job.target.configured:
            change(job.folder)
        with overlaid(job.overlay):
            return inspect() if inspect is not None else _inspect(job)  # type: ignore[no-any-return]
    except Exception as error:
        told = _told(error)
        if told is None:
            return _fault(job, error)
        return _failure(told.message, told.hint, told.exit_code, getattr(told, "trace", ""))
    finally:
        with suppress(OSError):
            change(before)


def _told(error: BaseException | None) -> LrlintError | None:
    """The error that says what is wrong: this one, or the one in whose wake it was raised (a target that failed may
    have left a process in which nothing can be tidied up any more).
    """
    while error is not None and not isinstance(error, LrlintError):
        error = error.__context__
    return error


def _fault(job: Job, error: Exception) -> dict[str, Any]:
    """What went wrong while the objects were looked at: in the target's classes, for want of something, or in lrlint."""
    from lrlint.targets.provenance.project import Project
    from lrlint.targets.user_traceback import first_line, is_users, last_user_frame, trim

    project = Project(job.folder)
    description = f"{type(error).__name__}: {first_line(error)}".rstrip(": ")
    if is_users(error, project):
        frame = last_user_frame(error, project)
        where = f" at {frame.filename}:{frame.lineno}" if frame else ""
        message = f"its code raised {type(error).__name__} while it was looked at{where}: {first_line(error)}"
        return _failure(message.rstrip(": "), trace=trim(error, project))
    if isinstance(error, ImportError) and "torch" in sys.modules and sys.modules["torch"] is None:
        return _failure(f"its code made torch impossible to import: {description}")
    if isinstance(error, RecursionError):
        hint = "its modules or containers are nested too deeply for Python; raise sys.setrecursionlimit in the target"
        return _failure(f"it cannot be walked through: {description}", hint)
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in _SCARCE:
        return _failure(f"its process ran out of something: {description}")
    text = f"lrlint itself failed on this target: {description}"
    hint = "this is a defect in lrlint; please report it with the traceback"
    return _failure(text, hint, 70, traceback.format_exc())


def _failure(message: str, hint: str = "", exit_code: int = 3, trace: str = "") -> dict[str, Any]:
    """The message that says why there are no facts: by default the fault is the target's."""
    return {"message": message, "hint": hint, "exit_code": exit_code, "trace": trace}


def _inspect(job: Job) -> dict[str, Any]:
    from lrlint.targets.sandbox import limit_threads

    if job.beside > 1:
        limit_threads(max(1, cores() // job.beside))
    if job.scale is not None:
        return _at_widths(job, **job.scale)
    if job.target.script and job.rehearsal is not None:
        return _rehearsed(job)
    return _reported(job, _load(job))


def _load(job: Job, observer: Any = None) -> Any:
    from lrlint.targets.load import load

    target = job.target
    return load(
        target.target or None,
        model=target.model,
        optimizer=target.optimizer,
        scheduler=target.scheduler,
        args=target.args,
        timeout=target.timeout,
        source_hook=target.source_hook,
        declared=dict(target.declared),
        script=target.script,
        script_args=target.script_args,
        observer=observer,
        at_step=target.at_step,
        steps_of=target.steps_of,
    )


def _at_widths(job: Job, vary: str, widths: Sequence[Any], **options: Any) -> dict[str, Any]:
    """The facts of a target at its smallest width, with what the others show beside it."""
    from lrlint.scaling.run import scale

    roots = []

    def build_at(value: Any) -> Any:
        target = replace(job.target, args={**job.target.args, vary: value})
        built = _load(replace(job, target=target))
        roots.append(built.recording.root)
        return built

    _, setup = scale(build_at, vary, widths, **options)
    return _facts(job, setup, roots[0])


def _reported(job: Job, built: Any, loop: LoopFacts | None = None) -> dict[str, Any]:
    from lrlint.inspection.build import build

    setup = build(built, graph=job.target.graph, loop=loop)
    if job.probe is not None:
        setup = replace(setup, probe=_probe(built, setup, job.probe, job.watched))
    return _facts(job, setup, built.recording.root)


def _facts(job: Job, setup: Setup, root: Path) -> dict[str, Any]:
    """The message that holds the facts, under the name that the target has in this run."""
    setup = replace(setup, target=job.target.name, span=setup.span or job.target.span)
    return {"setup": setup.to_dict(), "root": str(root)}


def _rehearsed(job: Job) -> dict[str, Any]:
    """The setup of a script with what a rehearsal of its loop saw, where writes can be held; the probe runs apart."""
    from lrlint.rehearsal import holding, process

    assert job.rehearsal is not None  # asked before
    plan = process.plan_of(job.rehearsal)
    held = holding.hold(job.folder, plan)
    missing = process.possible() or held.missing or ("" if job.target.source_hook else "--no-source-hook was given")
    if missing:
        message = _reported(job, _load(job))
        message["setup"].setdefault("notes", []).append({"fact": "loop", "reason": f"not rehearsed: {missing}"})
        return message
    alone = replace(job, probe=None)
    try:
        message = process.supervise(
            lambda runner: attempt(alone, lambda: _load(alone, runner)),
            lambda built, loop: attempt(alone, lambda: _reported(alone, built, loop)),
            plan,
        )
    except process.Died as death:  # end as it did: the parent knows how to tell
        if death.code < 0:
            os.kill(os.getpid(), -death.code)
        os._exit(death.code)
    if message.get("setup", {}).get("loop"):
        message["setup"]["loop"].update(mode=held.mode, held=list(held.files))
    if held.full and "setup" in message:
        message["setup"].setdefault("notes", []).append({"fact": "loop", "reason": FULL})
    if job.probe is not None and "setup" in message:
        setup, built = Setup.from_dict(message["setup"]), _load(job)
        message["setup"] = replace(setup, probe=_probe(built, setup, job.probe, job.watched)).to_dict()
    return message


def _probe(built: Any, setup: Setup, arguments: Mapping[str, Any], watched: bool) -> Any:
    """The probe's facts about a built target, on a GPU where there is one; what takes long is told on a terminal."""
    from lrlint.probing.run import examine
    from lrlint.probing.training.device import require

    options = {key.replace("-", "_"): value for key, value in arguments.items()}
    required = options.pop("require_device", None)
    if required is not None:
        require(required)
    device = options.pop("device", None) or required or "auto"
    with _progress(watched) as tell:
        return examine(built, setup, **options, device=device, progress=tell)


@contextmanager
def _progress(watched: bool) -> Iterator[Any]:
    """A line on standard error with the steps done and the time that is left; None where nobody is looking."""
    if not watched:
        yield None
        return
    started = shown = time.monotonic()
    width = 0

    def tell(done: int, expected: int, what: str) -> None:
        nonlocal shown, width
        now = time.monotonic()
        if now - shown < 0.1:
            return
        shown = now
        # No time is promised: what the next runs will be is decided by what these show.
        line = f"lrlint: {what}: step {done} of about {max(expected, done)}, {now - started:.0f} s so far"
        print("\r" + line.ljust(width), end="", file=sys.stderr, flush=True)
        width = len(line)

    try:
        yield tell
    finally:
        if width:
            print("\r" + " " * width + "\r", end="", file=sys.stderr, flush=True)
