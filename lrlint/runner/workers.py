"""Inspect targets in processes of their own: a crash or a hang loses one target, the import of torch is paid once.

The parent imports torch and forks; where forking is not safe (macOS, Windows) a fork server or fresh processes take its
place. A child sends the facts back as plain data, never live objects.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from lrlint.config.settings import Target
from lrlint.errors import LrlintError
from lrlint.facts import LoopFacts, Setup
from lrlint.fixes.overlay import overlaid
from lrlint.lint.run import Failure
from lrlint.runner import channel
from lrlint.runner.channel import Inbox

#: Seconds that one of several targets may take where no limit was set.
LIMIT = 600.0
#: Seconds beyond a target's own limit, in which its facts are collected, before its process is ended.
GRACE = 30.0
#: Seconds between two looks at whether a process lives.
_POLL = 1.0


@dataclass(frozen=True)
class Job:
    """What to do with a target.

    ``folder`` is where its paths start; ``probe`` holds the probe's arguments (None: no probe), ``rehearsal`` those of
    the rehearsal of a script (None: it stops before its first step). ``beside``: how many such processes share the cores.
    ``env``: variables of the process (its rank, where several make up one run). ``overlay``: edited source by absolute
    path, which is loaded in place of the files.
    """

    target: Target
    folder: Path
    probe: dict[str, Any] | None = None
    rehearsal: dict[str, Any] | None = None
    beside: int = 1
    env: Mapping[str, str] = field(default_factory=dict)
    overlay: Mapping[str, str] = field(default_factory=dict)


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
    inbox: Inbox
    deadline: float | None


#: Exit codes with which a target can fail.
_CODES = (2, 3, 4, 70)
#: Errors of the system for want of files, processes or memory.
_SCARCE = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EAGAIN))
#: prctl's option for the signal that comes when the parent dies.
_PDEATHSIG = 1


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def inspect_all(jobs: Sequence[Job], processes: int, together: bool = False) -> list[Inspected | Failure]:
    """The facts of each target, or why there are none, in the order of the jobs.

    ``processes`` run at the same time; 0 runs everything in this process (for a debugger). ``together``: they are the
    ranks of one run, and where one fails, the others would wait for it for ever: they are ended.
    """
    if processes == 0:
        return [_received(job, _attempt(replace(job, rehearsal=None))) for job in jobs]
    context = _context(len(jobs))
    waiting = list(enumerate(replace(job, beside=min(processes, len(jobs))) for job in jobs))
    running: dict[int, _Worker] = {}
    results: dict[int, Inspected | Failure] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                position, job = waiting.pop(0)
                running[position] = _start(context, job, len(jobs), [w.receiver for w in running.values()])
            for position, result in _finished(running):
                results[position] = result
                del running[position]
            if together and any(isinstance(result, Failure) for result in results.values()):
                for position in running:
                    results[position] = Failure(jobs[position].target.name, "was ended: another rank failed", 3)
                break
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


def _start(context: Any, job: Job, several: int, others: Sequence[Connection]) -> _Worker:
    receiver, sender = context.Pipe(duplex=False)
    limit = job.target.timeout or (LIMIT if several > 1 else None)
    if several > 1:
        job = replace(job, target=replace(job.target, timeout=limit))
    mark = channel.token()
    inherited = [receiver, *others] if context.get_start_method() == "fork" else []
    process = context.Process(target=_child, args=(job, sender, mark, inherited), daemon=False)
    process.start()
    sender.close()
    beyond = GRACE if job.rehearsal is None else GRACE + 2 * job.rehearsal.get("seconds", 30.0)
    deadline = None if limit is None else time.monotonic() + limit + beyond
    return _Worker(job, process, receiver, channel.Inbox(receiver, mark), deadline)


def _finished(running: dict[int, _Worker]) -> Iterator[tuple[int, Inspected | Failure]]:
    """Wait until at least one worker has sent its result, died, or run out of time.

    The process is asked now and then whether it lives: a process that the user's code has forked keeps the pipe open.
    """
    deadlines = [worker.deadline for worker in running.values() if worker.deadline is not None]
    timeout = min([_POLL, *(max(deadline - time.monotonic(), 0.0) for deadline in deadlines)])
    dead = [position for position, worker in running.items() if not worker.process.is_alive()]
    ready = wait([worker.receiver for worker in running.values()], 0.0 if dead else timeout)
    for position, worker in list(running.items()):
        name = worker.job.target.name
        if worker.receiver in ready:
            worker.inbox.read()
            try:
                message = worker.inbox.message()
            except (ValueError, RecursionError) as error:
                _end(worker)
                yield position, Failure(name, f"its process sent what is no result: {error}", 3)
                continue
            if message is None and not worker.inbox.ended:
                continue
            _end(worker, GRACE if message is not None else 5.0)
            yield position, _dead(worker) if message is None else _received(worker.job, message)
        elif position in dead:
            _end(worker)
            yield position, _dead(worker)
        elif worker.deadline is not None and time.monotonic() >= worker.deadline:
            _end(worker)
            text = f"did not finish within {worker.job.target.timeout:g} s and was ended"
            yield position, Failure(name, text, 3, "give it more time with --timeout")


def _end(worker: _Worker, patience: float = 0.0) -> None:
    """Wait for the process, then end it and what it has started: it is the leader of a group of its own."""
    _wait(worker.process, patience)
    if worker.process.is_alive():
        worker.process.terminate()
        _wait(worker.process, 2.0)
    _kill_group(worker.process.pid)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()
    worker.receiver.close()


def _kill_group(leader: int) -> None:
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):  # it is empty, or the child did not get to make it
            os.killpg(leader, signal.SIGKILL)


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


def _child(job: Job, sender: Connection, mark: bytes, inherited: Sequence[Connection]) -> None:
    _leave_the_family(inherited)
    if hasattr(signal, "SIGINT"):
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent reports the interruption
    sys.stdout.flush()
    os.dup2(2, 1)  # whatever is printed here is not a result
    leave = os._exit  # the user's code may have put something else there
    try:
        message = _attempt(job)
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


def _leave_the_family(inherited: Sequence[Connection]) -> None:
    """A session and a process group of its own: a signal to its group does not reach lrlint or other targets.

    The terminal's signals do not reach it either, so it ends with its parent (where the system offers that).
    """
    for connection in inherited:
        connection.close()
    if hasattr(os, "setsid"):
        with suppress(OSError):
            os.setsid()
    if sys.platform.startswith("linux"):
        parent = os.getppid()
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died in between
            os._exit(3)


def _stopped(job: Job, error: BaseException) -> dict[str, Any]:
    from lrlint.targets.provenance.project import Project
    from lrlint.targets.user_traceback import trim

    shown = trim(error, Project(job.folder))
    return {"message": f"its code raised {type(error).__name__}", "hint": "", "exit_code": 3, "trace": shown}


def _attempt(job: Job, inspect: Callable[[], Any] | None = None) -> dict[str, Any]:
    """The facts as plain data, or the error as one. ``inspect`` gives the facts; else the job says how."""
    before, change = os.getcwd(), os.chdir  # the user's code may put something else in the place of functions
    os.environ.update(job.env)
    try:
        if job.target.configured:
            change(job.folder)
        with overlaid(job.overlay):
            return inspect() if inspect is not None else _inspect(job)  # type: ignore[no-any-return]
    except LrlintError as error:
        trace = getattr(error, "trace", "")
        return {"message": error.message, "hint": error.hint, "exit_code": error.exit_code, "trace": trace}
    except Exception as error:
        return _fault(job, error)
    finally:
        with suppress(OSError):
            change(before)


def _fault(job: Job, error: Exception) -> dict[str, Any]:
    """What went wrong while the objects were looked at: in the target's classes, for want of something, or in lrlint."""
    from lrlint.targets.provenance.project import Project
    from lrlint.targets.user_traceback import first_line, is_users, last_user_frame, trim

    project = Project(job.folder)
    said = f"{type(error).__name__}: {first_line(error)}".rstrip(": ")
    if is_users(error, project):
        frame = last_user_frame(error, project)
        where = f" at {frame.filename}:{frame.lineno}" if frame else ""
        message = f"its code raised {type(error).__name__} while it was looked at{where}: {first_line(error)}"
        return {"message": message.rstrip(": "), "hint": "", "exit_code": 3, "trace": trim(error, project)}
    if isinstance(error, RecursionError):
        hint = "its modules or containers are nested too deeply for Python; raise sys.setrecursionlimit in the target"
        return {"message": f"it cannot be walked through: {said}", "hint": hint, "exit_code": 3, "trace": ""}
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in _SCARCE:
        return {"message": f"its process ran out of something: {said}", "hint": "", "exit_code": 3, "trace": ""}
    text = f"lrlint itself failed on this target: {said}"
    hint = "this is a defect in lrlint; please report it with the traceback"
    return {"message": text, "hint": hint, "exit_code": 70, "trace": traceback.format_exc()}


def _inspect(job: Job) -> dict[str, Any]:
    from lrlint.targets.sandbox import limit_threads

    if job.beside > 1:
        limit_threads(max(1, cores() // job.beside))
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


def _reported(job: Job, built: Any, loop: LoopFacts | None = None) -> dict[str, Any]:
    from lrlint.inspection.build import build

    setup = build(built, graph=job.target.graph, loop=loop)
    setup = replace(setup, target=job.target.name, span=setup.span or job.target.span)
    if job.probe is not None:
        setup = replace(setup, probe=_probe(built, setup, job.probe))
    return {"setup": setup.to_dict(), "root": str(built.recording.root)}


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
            lambda runner: _attempt(alone, lambda: _load(alone, runner)),
            lambda built, loop: _attempt(alone, lambda: _reported(alone, built, loop)),
            plan,
        )
    except process.Died as death:  # end as it did: the parent knows how to tell
        if death.code < 0:
            os.kill(os.getpid(), -death.code)
        os._exit(death.code)
    if message.get("setup", {}).get("loop"):
        message["setup"]["loop"].update(mode=held.mode, held=list(held.files))
    if job.probe is not None and "setup" in message:
        setup, built = Setup.from_dict(message["setup"]), _load(job)
        message["setup"] = replace(setup, probe=_probe(built, setup, job.probe)).to_dict()
    return message


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
        # No time is promised: what the next runs will be is decided by what these show.
        line = f"lrlint: {what}: step {done} of about {max(expected, done)}, {now - started:.0f} s so far"
        print("\r" + line.ljust(width), end="", file=sys.stderr, flush=True)
        width = len(line)

    try:
        yield tell
    finally:
        if width:
            print("\r" + " " * width + "\r", end="", file=sys.stderr, flush=True)


def _received(job: Job, message: dict[str, Any]) -> Inspected | Failure:
    """What a message says. The process that sent it has run the target's code: it may say anything."""
    try:
        if "setup" in message:
            return Inspected(Setup.from_dict(message["setup"]), Path(message["root"]))
        texts = {key: str(message.get(key, "")) for key in ("message", "hint", "trace")}
        code = message.get("exit_code")
        return Failure(job.target.name, exit_code=code if code in _CODES else 3, **texts)
    except Exception as error:
        return Failure(job.target.name, f"its facts cannot be read ({type(error).__name__}: {error})", 3)
