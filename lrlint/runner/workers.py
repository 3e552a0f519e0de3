"""Inspect targets in processes of their own: a crash or a hang loses one target, the import of torch is paid once.

The parent imports torch and forks; where forking is not safe (macOS, Windows) a fork server or fresh processes take its
place. A child sends the facts back as plain data, never live objects.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from lrlint.config.settings import Target
from lrlint.errors import LrlintError
from lrlint.facts import Setup
from lrlint.lint.run import Failure

#: Seconds that one of several targets may take where no limit was set.
LIMIT = 600.0
#: Seconds beyond a target's own limit, in which its facts are collected, before its process is ended.
GRACE = 30.0
#: Seconds between two looks at whether a process lives.
_POLL = 1.0


@dataclass(frozen=True)
class Job:
    """What to do with a target.

    ``folder`` is where its paths start; ``probe`` holds the probe's arguments (None: no probe). ``beside``: how many
    such processes share the cores.
    """

    target: Target
    folder: Path
    probe: dict[str, Any] | None = None
    beside: int = 1


@dataclass(frozen=True)
class Inspected:
    """The facts of a target, and the folder that their spans are relative to."""

    setup: Setup
    root: Path


@dataclass
class _Worker:
    job: Job
    process: Any
    receiver: Connection
    deadline: float | None
    message: Any = field(default=None)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def inspect_all(jobs: Sequence[Job], processes: int) -> list[Inspected | Failure]:
    """The facts of each target, or why there are none, in the order of the jobs.

    ``processes`` run at the same time; 0 runs everything in this process (for a debugger).
    """
    if processes == 0:
        return [_received(job, _attempt(job)) for job in jobs]
    context = _context(len(jobs))
    waiting = list(enumerate(replace(job, beside=min(processes, len(jobs))) for job in jobs))
    running: dict[int, _Worker] = {}
    results: dict[int, Inspected | Failure] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                position, job = waiting.pop(0)
                running[position] = _start(context, job, len(jobs))
            for position, result in _finished(running):
                results[position] = result
                del running[position]
    finally:
        for worker in running.values():
            _end(worker)
    return [results[position] for position in range(len(jobs))]


def _context(jobs: int) -> Any:
    """How processes start. Everything heavy that several of them need is imported before the fork."""
    if sys.platform.startswith("linux"):
        for module in _PRELOAD if jobs > 1 else _PRELOAD[:-1]:
            with suppress(ImportError):  # whoever needs it says so, in its own process
                importlib.import_module(module)
        return multiprocessing.get_context("fork")
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, *_PRELOAD])
        return context
    return multiprocessing.get_context("spawn")


#: The first optimizer that is built makes torch import its compiler, which takes as long as torch itself (and is left to
#: the process of a single target: this one would have to take it down as well).
_PRELOAD = ("lrlint.targets.load", "lrlint.inspection.build", "lrlint.inspection.schedules.simulate", "torch._dynamo")


def _start(context: Any, job: Job, several: int) -> _Worker:
    receiver, sender = context.Pipe(duplex=False)
    limit = job.target.timeout or (LIMIT if several > 1 else None)
    if several > 1:
        job = replace(job, target=replace(job.target, timeout=limit))
    process = context.Process(target=_child, args=(job, sender), daemon=False)
    process.start()
    sender.close()
    return _Worker(job, process, receiver, None if limit is None else time.monotonic() + limit + GRACE)


def _finished(running: dict[int, _Worker]) -> Iterator[tuple[int, Inspected | Failure]]:
    """Wait until at least one worker has sent its result, died, or run out of time.

    The process is asked now and then whether it lives: a process that the user's code has forked keeps the pipe open.
    """
    deadlines = [worker.deadline for worker in running.values() if worker.deadline is not None]
    timeout = min([_POLL, *(max(deadline - time.monotonic(), 0.0) for deadline in deadlines)])
    gone = [position for position, worker in running.items() if not worker.process.is_alive()]
    ready = wait([worker.receiver for worker in running.values()], 0.0 if gone else timeout)
    for position, worker in list(running.items()):
        if worker.receiver in ready:
            try:
                message = worker.receiver.recv()
            except (EOFError, OSError):
                message = None
            _end(worker, GRACE if message is not None else 5.0)
            yield position, _dead(worker) if message is None else _received(worker.job, message)
        elif position in gone:
            _end(worker)
            yield position, _dead(worker)
        elif worker.deadline is not None and time.monotonic() >= worker.deadline:
            _end(worker)
            text = f"did not finish within {worker.job.target.timeout:g} s and was ended"
            yield position, Failure(worker.job.target.name, text, 3, "give it more time with --timeout")


def _end(worker: _Worker, patience: float = 0.0) -> None:
    """Wait for the process, then end it; the process is one that this module started."""
    _wait(worker.process, patience)
    if worker.process.is_alive():
        worker.process.terminate()
        _wait(worker.process, 2.0)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()
    worker.receiver.close()


def _wait(process: Any, seconds: float) -> None:
    """`Process.join(seconds)` would wait for the processes that it has forked, too."""
    until = time.monotonic() + seconds
    while process.is_alive() and time.monotonic() < until:
        time.sleep(0.01)


def _dead(worker: _Worker) -> Failure:
    code = worker.process.exitcode
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = "out of memory?" if name == "SIGKILL" else "native code crashed; run it with `python -X faulthandler`"
        return Failure(worker.job.target.name, f"its process was killed by {name}", 3, hint)
    if code == 3 and worker.deadline is not None and time.monotonic() >= worker.deadline - GRACE:
        # the guard's last resort has said why on standard error
        limit = worker.job.target.timeout or 0
        return Failure(worker.job.target.name, f"did not finish within {limit:g} s and could not be interrupted", 3)
    return Failure(worker.job.target.name, f"its code ended the process with exit code {code}", 3)


def _child(job: Job, sender: Connection) -> None:
    if hasattr(signal, "SIGINT"):
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent reports the interruption
    sys.stdout.flush()
    os.dup2(2, 1)  # whatever is printed here is not a result
    try:
        message = _attempt(job)
    except BaseException as error:  # a KeyboardInterrupt that nobody's keyboard sent
        message = _stopped(job, error)
    for process in multiprocessing.active_children():  # nobody waits for what the user's code started
        process.terminate()
    sender.send(message)
    sender.close()
    with suppress(AttributeError, OSError, ValueError):
        sys.stderr.flush()
    os._exit(0)  # threads and exit handlers of the user's code must not keep the process


def _stopped(job: Job, error: BaseException) -> dict[str, Any]:
    from lrlint.targets.provenance.project import Project
    from lrlint.targets.user_traceback import trim

    shown = trim(error, Project(job.folder))
    return {"message": f"its code raised {type(error).__name__}", "hint": "", "exit_code": 3, "trace": shown}


def _attempt(job: Job) -> dict[str, Any]:
    """The facts as plain data, or the error as one."""
    before = os.getcwd()
    try:
        if job.target.configured:
            os.chdir(job.folder)
        return _inspect(job)
    except LrlintError as error:
        trace = getattr(error, "trace", "")
        return {"message": error.message, "hint": error.hint, "exit_code": error.exit_code, "trace": trace}
    except Exception as error:
        text = f"lrlint itself failed on this target: {type(error).__name__}: {error}"
        hint = "this is a defect in lrlint; please report it with the traceback"
        return {"message": text, "hint": hint, "exit_code": 70, "trace": traceback.format_exc()}
    finally:
        os.chdir(before)


def _inspect(job: Job) -> dict[str, Any]:
    from lrlint.inspection.build import build
    from lrlint.targets.load import load
    from lrlint.targets.sandbox import limit_threads

    if job.beside > 1:
        limit_threads(max(1, cores() // job.beside))
    target = job.target
    built = load(
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
    )
    setup = build(built, graph=target.graph)
    setup = replace(setup, target=target.name, span=setup.span or target.span)
    if job.probe is not None:
        setup = replace(setup, probe=_probe(built, setup, job.probe))
    return {"setup": setup.to_dict(), "root": str(built.recording.root)}


def _probe(built: Any, setup: Setup, arguments: Mapping[str, Any]) -> Any:
    """The probe's facts about a built target, on a GPU where there is one; what takes long is told on a terminal."""
    from lrlint.probing.run import examine
    from lrlint.probing.training.device import require

    given = {key.replace("-", "_"): value for key, value in arguments.items()}
    required = given.pop("require_device", None)
    if required is not None:
        require(required)
    device = given.pop("device", None) or required or "auto"
    with _progress() as tell:
        return examine(built, setup, **given, device=device, progress=tell)


@contextmanager
def _progress() -> Iterator[Any]:
    """A line on standard error with the steps done and the time that is left; None where nobody is looking."""
    if not sys.stderr.isatty():
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
        left = (now - started) / max(done, 1) * max(expected - done, 0)
        line = f"lrlint: {what}: step {done} of about {expected}, {left:.0f} s left"
        print("\r" + line.ljust(width), end="", file=sys.stderr, flush=True)
        width = len(line)

    try:
        yield tell
    finally:
        if width:
            print("\r" + " " * width + "\r", end="", file=sys.stderr, flush=True)


def _received(job: Job, message: dict[str, Any]) -> Inspected | Failure:
    if "setup" in message:
        return Inspected(Setup.from_dict(message["setup"]), Path(message["root"]))
    return Failure(job.target.name, **message)
