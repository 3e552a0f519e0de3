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
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from lrlint.facts import Setup
from lrlint.lint.run import Failure
from lrlint.runner import channel, child, memory
from lrlint.runner.channel import Inbox
from lrlint.runner.console import Console
from lrlint.runner.job import Job as Job
from lrlint.runner.job import cores as cores

#: Seconds that one of several targets may take where no limit was set.
LIMIT = 600.0
#: Seconds beyond a target's own limit, in which its facts are collected, before its process is ended.
GRACE = 30.0
#: Seconds between two looks at whether a process lives.
_POLL = 1.0


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
    console: Console | None = None

    @property
    def ends(self) -> list[Connection]:
        """The ends of pipes out of which something may come."""
        told = self.console is not None and not self.console.ended
        return [self.receiver, self.console.receiver] if told and self.console else [self.receiver]


#: Exit codes with which a target can fail.
_CODES = (2, 3, 4, 70)


def inspect_all(jobs: Sequence[Job], processes: int, together: bool = False) -> list[Inspected | Failure]:
    """The facts of each target, or why there are none, in the order of the jobs.

    ``processes`` run at the same time; 0 runs everything in this process (for a debugger). ``together``: they are the
    ranks of one run, and where one fails, the others would wait for it for ever: they are ended.
    """
    if processes == 0:
        return [_received(job, child.attempt(replace(job, rehearsal=None))) for job in jobs]
    context = _context(len(jobs))
    if any(job.target.memory_limit for job in jobs):
        memory.require_limits()
    shared: dict[str, Any] = {"beside": min(processes, len(jobs)), "watched": sys.stderr.isatty()}
    waiting = list(enumerate(replace(job, **shared) for job in jobs))
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


def _start(context: Any, job: Job, several: int) -> _Worker:
    receiver, sender = context.Pipe(duplex=False)
    limit = job.target.timeout or (LIMIT if several > 1 else None)
    if several > 1:
        job = replace(job, target=replace(job.target, timeout=limit))
    mark = channel.token()
    written, writes = context.Pipe(duplex=False) if sys.platform != "win32" else (None, None)
    process = context.Process(target=child.run, args=(job, sender, mark, writes), daemon=False)
    process.start()
    sender.close()
    if writes is not None:
        writes.close()
    beyond = GRACE if job.rehearsal is None else GRACE + 4 * job.rehearsal.get("seconds", 30.0)
    deadline = None if limit is None else time.monotonic() + limit + beyond
    return _Worker(job, process, receiver, channel.Inbox(receiver, mark), deadline, written and Console(written))


def _finished(running: dict[int, _Worker]) -> Iterator[tuple[int, Inspected | Failure]]:
    """Wait until at least one worker has sent its result, died, or run out of time.

    The process is asked now and then whether it lives: a process that the user's code has forked keeps the pipe open.
    """
    deadlines = [worker.deadline for worker in running.values() if worker.deadline is not None]
    timeout = min([_POLL, *(max(deadline - time.monotonic(), 0.0) for deadline in deadlines)])
    dead = [position for position, worker in running.items() if not worker.process.is_alive()]
    ready = wait([end for worker in running.values() for end in worker.ends], 0.0 if dead else timeout)
    for position, worker in list(running.items()):
        name = worker.job.target.name
        if worker.console is not None and worker.console.receiver in ready:
            worker.console.relay()
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
            crash = _end(worker, GRACE if message is not None else 5.0)
            yield position, _dead(worker, crash) if message is None else _told(worker, message)
        elif position in dead:
            yield position, _dead(worker, _end(worker))
        elif worker.deadline is not None and time.monotonic() >= worker.deadline:
            _end(worker)
            text = f"did not finish within {worker.job.target.timeout:g} s and was ended"
            yield position, Failure(name, text, 3, "give it more time with --timeout")


def _end(worker: _Worker, patience: float = 0.0) -> str:
    """Wait for the process, then end it and what it has started: it is the leader of a group of its own.

    Gives the place where its code was as it crashed, if it did.
    """
    _wait(worker, patience)
    if worker.process.is_alive():
        worker.process.terminate()
        _wait(worker, 2.0)
    _kill_group(worker.process.pid)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()
    worker.receiver.close()
    return worker.console.close(crashed=(worker.process.exitcode or 0) < 0) if worker.console is not None else ""


def _kill_group(leader: int) -> None:
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):  # it is empty, or the child did not get to make it
            os.killpg(leader, signal.SIGKILL)


def _wait(worker: _Worker, seconds: float) -> None:
    """`Process.join(seconds)` would wait for the processes that it has forked, too; and it may have much to tell."""
    until = time.monotonic() + seconds
    while worker.process.is_alive() and time.monotonic() < until:
        if worker.console is None or not worker.console.relay():
            time.sleep(0.01)


def _dead(worker: _Worker, crash: str) -> Failure:
    failure = _death(worker, crash)
    return memory.explained(failure, worker.job.target.memory_limit, worker.console.last if worker.console else "")


def _told(worker: _Worker, message: dict[str, Any]) -> Inspected | Failure:
    result = _received(worker.job, message)
    return memory.explained(result, worker.job.target.memory_limit) if isinstance(result, Failure) else result


def _death(worker: _Worker, crash: str) -> Failure:
    code = worker.process.exitcode
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = {"SIGKILL": "out of memory?", "SIGTERM": ""}.get(name, "native code crashed")
        return Failure(worker.job.target.name, f"its process was killed by {name}", 3, hint, crash)
    if code == 3 and worker.deadline is not None and time.monotonic() >= worker.deadline - GRACE:
        # the guard's last resort has said why
        limit = worker.job.target.timeout or 0
        return Failure(worker.job.target.name, f"did not finish within {limit:g} s and could not be interrupted", 3)
    return Failure(worker.job.target.name, f"its code ended the process with exit code {code}", 3)


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
