"""What the process of a target writes to standard output and error, told on lrlint's own standard error, line by line.

Each line is cleaned: it acts on no terminal, and commands no CI runner. What Python writes as native code crashes is held
back: it belongs to the message about that target, and in the middle of a log it looks as if lrlint had died.
"""

from __future__ import annotations

import faulthandler
import os
import re
import sys
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from lrlint.text.cleaning import clean

_CHUNK = 1 << 16
#: Bytes without the end of a line from which on they are shown as one.
_LONGEST_LINE = 1 << 16
#: Reads of what is left when a process has ended: a pipe holds no more than some.
_LAST_READS = 64
_LAST_LINES = 20
#: How `faulthandler` begins. Source: Modules/faulthandler.c of CPython.
_CRASH = "Fatal Python error:"
_FRAME = re.compile(r'  File "(?P<file>.*)", line \d+ in .*')
_OWN = str(Path(__file__).parents[1]) + os.sep
#: Frames of a crash that are shown.
_FRAMES = 12


def attach(sender: Connection | None) -> None:
    """In the child: whatever is written from now on, by Python, native code or a subprocess, goes to the parent."""
    if sender is None:
        os.dup2(2, 1)  # whatever is printed here is not a result
        return
    os.dup2(sender.fileno(), 2)
    os.dup2(2, 1)
    sender.close()
    sys.stderr = sys.stdout = open(  # noqa: SIM115
        2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )
    faulthandler.disable()  # whoever enabled it before (a test runner) did so for its own terminal; and some signals
    faulthandler.enable(file=2)  # may have been given to others since: only what is off takes them again


class Console:
    """The parent's end of what one process writes."""

    def __init__(self, receiver: Connection) -> None:
        self._receiver = receiver
        self._line = b""
        self._crash: list[str] = []
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self.ended = False
        os.set_blocking(receiver.fileno(), False)

    @property
    def receiver(self) -> Connection:
        """Ready to be read when there is something to `relay`."""
        return self._receiver

    @property
    def last(self) -> str:
        """The last lines that were told."""
        return "\n".join(self._last)

    def relay(self) -> bool:
        """Tell what is there; whether there was anything. Never waits."""
        try:
            chunk = os.read(self._receiver.fileno(), _CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""
        if not chunk:
            self.ended = True
            return False
        *lines, self._line = re.split(rb"(?<=[\r\n])", self._line + chunk)
        for line in lines:
            self._tell(line)
        if len(self._line) > _LONGEST_LINE:
            self._tell(self._line + b"\n")
            self._line = b""
        return True

    def close(self, crashed: bool) -> str:
        """Tell the rest. Where the process ``crashed``, where its code was then, as far as it is known."""
        for _ in range(_LAST_READS):
            if not self.relay():
                break
        if self._line:
            self._tell(self._line + b"\n")
        self._receiver.close()
        if crashed:
            return _where(self._crash)
        for text in self._crash:
            _write(clean(text) + "\n")
        return ""

    def _tell(self, line: bytes) -> None:
        text = line.decode("utf-8", "backslashreplace").rstrip("\r\n")
        if self._crash or text.startswith(_CRASH):
            self._crash.append(text)
            return
        self._last.append(text)
        returns = line.endswith(b"\r") and sys.stderr.isatty()  # a progress bar
        if text or not line.endswith(b"\r"):
            _write(clean(text.replace("\t", "    ")) + ("\r" if returns else "\n"))


def _where(dump: list[str]) -> str:
    """The frames of the thread that crashed, without lrlint's own."""
    start = next((k for k, text in enumerate(dump) if text.startswith("Current thread")), len(dump))
    frames = []
    for text in dump[start + 1 :]:
        found = _FRAME.fullmatch(text)
        if found is None or found["file"].startswith(_OWN):
            break
        frames.append(text)
    return "\n".join(["It crashed here (most recent call first):", *frames[:_FRAMES]]) if frames else ""


def _write(text: str) -> None:
    with suppress(OSError, ValueError):  # whoever started lrlint has closed it
        sys.stderr.write(text)
        sys.stderr.flush()
