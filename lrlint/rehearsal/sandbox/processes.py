"""Whatever a script starts ends with it: its children, their children, and those that left its session.

The process that enters waits, and a child of it goes on in its place. With a PID namespace the kernel kills everything in
it when its first process ends; without one, this process becomes the parent of every orphan and ends them itself.
"""

from __future__ import annotations

import os
import resource
import signal
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

from lrlint.rehearsal.sandbox import syscalls

#: Seconds in which descendants that were killed must have ended; what waits for a device may take longer, and is left.
_PATIENCE = 5.0


def threads() -> int:
    """How many threads this process has."""
    return len(os.listdir("/proc/self/task"))


def go_on_in_namespace(enter: Callable[[], None], at_end: Callable[[], None] = lambda: None) -> None:
    """Return in a child that lives in a new PID namespace; this process waits for it and ends as it does.

    ``enter`` moves this process into the namespaces; ``at_end`` is called here when all has ended. The next child is the
    first process of the PID namespace, which reaps what others leave behind and takes all of them with it when the
    script's process ends.
    """
    ended, report = os.pipe()
    enter()
    syscalls.die_with_parent()
    first = os.fork()
    if first:
        os.close(report)

        def end_all() -> None:
            os.kill(first, signal.SIGKILL)
            _wait_for(first)
            at_end()

        _end_on_termination(end_all)
        _wait_for(first)
        at_end()
        status = os.read(ended, 4)
        _end_like(struct.unpack("i", status)[0] if len(status) == 4 else signal.SIGKILL)
    syscalls.die_with_parent()
    script = os.fork()
    if script:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.write(report, struct.pack("i", _wait_for(script)))
        os._exit(0)
    syscalls.die_with_parent()
    os.close(ended)
    os.close(report)


def go_on_in_child(at_end: Callable[[], None] = lambda: None) -> None:
    """Return in a child; this process waits for it, ends what it started, calls ``at_end``, and ends as it does."""
    syscalls.adopt_orphans()
    syscalls.die_with_parent()
    script = os.fork()
    if script:

        def end_all() -> None:
            os.kill(script, signal.SIGKILL)
            _end_descendants()
            at_end()

        _end_on_termination(end_all)
        status = _wait_for(script)
        _end_descendants()
        at_end()
        _end_like(status)
    syscalls.die_with_parent()


def _end_on_termination(end: Callable[[], None]) -> None:
    def terminated(number: int, frame: FrameType | None) -> None:
        with suppress(OSError):
            end()
        _end_like(number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the script's process gets it as well, and this one ends with it
    signal.signal(signal.SIGTERM, terminated)


def _wait_for(child: int) -> int:
    """The status of one child; others that end meanwhile are reaped."""
    while True:
        process, status = os.wait()
        if process == child:
            return status


def _end_descendants() -> None:
    """Kill and reap children until there are none: the children of one that was killed become this process's own."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        for child in _children():
            with suppress(OSError):
                os.kill(child, signal.SIGKILL)
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
        except ChildProcessError:
            return


def _children() -> list[int]:
    mine, children = os.getpid(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                parent = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1]
                if int(parent) == mine:
                    children.append(int(entry.name))
    return children


def _end_like(status: int) -> None:
    """End this process with the exit code, or by the signal, that ended the script's."""
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        number = os.WTERMSIG(status)
        with suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        time.sleep(1.0)
        os._exit(128 + number)
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)
