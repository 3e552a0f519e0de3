"""The processes of a rehearsal.

The worker forks a *runner*, which runs the script, and stays behind to watch it. At the first step the runner forks a
*reporter*: it holds everything as it was then, waits for what the rehearsal saw, builds the setup with it and sends it
to the worker. The runner, with all its threads, lets the script go on. Whatever the script does at its end (``finally``,
a bare ``except``, ``os._exit``, processes of its own) happens in a process that nobody needs any more, and the worker
ends the whole group when it has the result.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import select
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn

import torch

from lrlint.facts import Note
from lrlint.facts.loop import LoopFacts
from lrlint.rehearsal.rehearsal import Plan, Rehearsal
from lrlint.targets.live_target import LiveTarget
from lrlint.targets.returned import ReturnedParts
from lrlint.targets.sandbox import training_settings

#: Seconds beyond the rehearsal's own after which the runner is ended by force.
GRACE = 15.0
#: Seconds that building the setup may take beyond that.
REPORT = 300.0
_PR_SET_PDEATHSIG = 1

Message = dict[str, Any]


def possible() -> str:
    """Why this system cannot rehearse; "" where it can."""
    return "" if hasattr(os, "fork") and sys.platform.startswith("linux") else "it needs fork, as Linux has it"


def supervise(
    start: Callable[[Runner], Message], report: Callable[[LiveTarget, LoopFacts | None], Message], plan: Plan
) -> Message:
    """Run ``start`` (which loads the target with the runner it is given, and gives a message where that ends before
    the first step) in a process of its own; the message of ``report``, with the setup of the first step.
    """
    receive, send = os.pipe()
    runner = os.fork()
    if runner == 0:
        os.close(receive)
        _as_runner(start, report, plan, send)
    os.close(send)
    try:
        return _Watch(runner, receive, plan).message()
    finally:
        os.close(receive)
        for end in (os.killpg, os.kill):
            with suppress(ProcessLookupError, PermissionError):
                end(runner, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(runner, 0)


def _as_runner(
    start: Callable[[Runner], Message],
    report: Callable[[LiveTarget, LoopFacts | None], Message],
    plan: Plan,
    send: int,
) -> NoReturn:
    os.setpgid(0, 0)
    _die_with_parent()
    runner = Runner(report, plan, send)
    code = 1
    try:
        _write(send, pickle.dumps(start(runner)))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        runner.exit(code)


def _die_with_parent() -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Runner:
    """Observes the script in the process that runs it (see `lrlint.targets.script.Observer`)."""

    def __init__(self, report: Callable[[LiveTarget, LoopFacts | None], Message], plan: Plan, send: int) -> None:
        self._report, self._plan, self._send = report, plan, send
        self._job: Any = None
        self._rehearsal: Rehearsal | None = None
        self._facts: int | None = None  # the pipe to the reporter
        self._reporter = 0
        self._leaving = threading.Lock()
        self.exit = os._exit

    def install(self, job: Any) -> None:
        """The script is about to be loaded."""
        self._job = job
        self._rehearsal = Rehearsal(self._plan, job.project)
        self._rehearsal.install(job.contexts)

    def first_step(self, returned: ReturnedParts, seen: Any) -> None:
        """Fork the reporter; here the script goes on."""
        job, rehearsal = self._job, self._rehearsal
        assert rehearsal is not None  # it was installed
        built = job.complete(job.assembled(returned), training_settings())
        receive, self._facts = os.pipe()
        _flush()
        _write(self._send, b"")  # the first step is reached
        self._reporter = os.fork()
        if self._reporter == 0:
            os.close(self._facts)
            self._as_reporter(built, receive)
        os.close(receive)
        job.lift()

        def leave(status: int = 0) -> NoReturn:
            self._leave(f"the script called os._exit({status})", ended=True)

        os._exit = leave
        _forbid_processes(self._leave)
        rehearsal.begin(built, seen)
        rehearsal.limit(self._leave)

    def ended(self, error: BaseException | None) -> NoReturn:
        """The script has come to its end."""
        if error is None or isinstance(error, SystemExit):
            self._leave("the script ended", ended=True)
        self._leave(f"the script raised {type(error).__name__}", error)

    def _leave(self, why: str, error: BaseException | None = None, *, ended: bool = False) -> NoReturn:
        """Hand over what was seen, wait for the reporter, and end this process without looking back."""
        self._leaving.acquire()  # for good: whoever comes second waits for the end
        try:
            assert self._rehearsal is not None  # the first step was reached
            assert self._facts is not None
            facts = self._rehearsal.finish(why, error, ended=ended)
            _write(self._facts, pickle.dumps(facts))
        except BaseException:
            _write(self._facts or 2, pickle.dumps(traceback.format_exc()))
        finally:
            with suppress(OSError):
                os.close(self._facts or -1)
            with suppress(ChildProcessError):
                os.waitpid(self._reporter, 0)
            self.exit(0)

    def _as_reporter(self, built: LiveTarget, receive: int) -> NoReturn:
        code = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            torch.set_num_threads(1)  # the others did not come along
            self._job.contexts.close()
            torch.set_num_threads(1)
            data = _read(receive, None)
            seen = pickle.loads(data) if data else None
            facts = seen if isinstance(seen, LoopFacts) else None
            if facts is None:
                reason = "its process was ended" if not data else f"lrlint failed in it: {str(seen).splitlines()[-1]}"
                built = replace(built, notes=[*built.notes, Note("loop", f"the rehearsal gave nothing: {reason}")])
                if data:
                    sys.stderr.write(str(seen))
            _write(self._send, pickle.dumps(self._report(built, facts)))
            code = 0
        finally:
            _flush()
            self.exit(code)


def _forbid_processes(leave: Callable[..., NoReturn]) -> None:
    """Processes that a script starts for itself would train outside of what is watched."""
    from multiprocessing.process import BaseProcess

    def start(self: BaseProcess) -> None:
        leave("the script starts processes of its own")

    BaseProcess.start = start  # type: ignore[method-assign]


class _Watch:
    """The worker's side: waits for the message, and ends what does not end by itself."""

    def __init__(self, runner: int, receive: int, plan: Plan) -> None:
        self._runner, self._receive, self._plan = runner, receive, plan
        self._reached = False

    def message(self) -> Message:
        """The reporter's message, or the runner's where no step was reached. Raises EOFError with its exit code."""
        until: float | None = None
        code: int | None = None
        while True:
            ready, _, _ = select.select([self._receive], [], [], 0.5)
            if ready:
                data = _read(self._receive, 60.0)
                if data is None:
                    raise Died(self._code() if code is None else code, self._reached)
                if not data:
                    self._reached, until = True, time.monotonic() + self._plan.wall + GRACE
                    continue
                return pickle.loads(data)  # type: ignore[no-any-return]
            now = time.monotonic()
            if code is None and (ended := os.waitpid(self._runner, os.WNOHANG))[0]:
                code = os.waitstatus_to_exitcode(ended[1])
                until = now + (REPORT if self._reached else 1.0)
            elif until is not None and now >= until:
                if code is not None:
                    raise Died(code, self._reached)
                os.kill(self._runner, signal.SIGKILL)  # the reporter goes on without what it saw
                until = now + REPORT

    def _code(self) -> int:
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self._runner, 0)[1])
        except ChildProcessError:
            return 1


class Died(Exception):
    """The script's process ended without a result; ``code`` as `subprocess` has it."""

    def __init__(self, code: int, reached: bool) -> None:
        super().__init__(code)
        self.code, self.reached = code, reached


def _write(pipe: int, data: bytes) -> None:
    data = struct.pack("<q", len(data)) + data
    while data:
        data = data[os.write(pipe, data) :]


def _read(pipe: int, seconds: float | None) -> bytes | None:
    """One message; None where the other end was closed, or takes longer than ``seconds``."""
    head = _exactly(pipe, 8, seconds)
    return None if head is None else _exactly(pipe, struct.unpack("<q", head)[0], seconds)


def _exactly(pipe: int, count: int, seconds: float | None) -> bytes | None:
    received = b""
    while len(received) < count:
        if seconds is not None and not select.select([pipe], [], [], seconds)[0]:
            return None
        part = os.read(pipe, min(count - len(received), 1 << 20))
        if not part:
            return None
        received += part
    return received


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()


def plan_of(settings: Mapping[str, Any]) -> Plan:
    """The plan of the ``[tool.lrlint.rehearsal]`` table."""
    known = {key: settings[key] for key in ("steps", "epochs", "seconds", "network", "asked") if key in settings}
    return Plan(**known)


__all__ = ["Died", "Plan", "Runner", "plan_of", "possible", "supervise"]
