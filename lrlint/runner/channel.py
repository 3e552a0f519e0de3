"""One message from a process that runs other people's code, and is not trusted.

It is JSON (never a pickle, which would run code here), in a frame that begins with a token that only this process and the
child know. Whatever else is written into the pipe is skipped, a message that does not come to its end is none, and nothing
here waits for bytes that may never come.
"""

from __future__ import annotations

import json
import os
import secrets
import struct
import sys
from multiprocessing.connection import Connection
from typing import Any

from lrlint.config import files

_LENGTH = struct.Struct(">Q")
_CHUNK = 1 << 20
#: A message that claims to be larger (bytes) is none.
_LARGEST = 1 << 31


def token() -> bytes:
    """What a frame begins with."""
    return secrets.token_bytes(16)


def send(sender: Connection, mark: bytes, message: dict[str, Any]) -> None:
    """Write the message as one frame."""
    try:
        body = json.dumps(message).encode()
    except (TypeError, ValueError):  # values of the user's among the facts
        body = json.dumps(files.plain(message)).encode()
    frame = memoryview(mark + _LENGTH.pack(len(body)) + body)
    if sys.platform == "win32":
        sender.send_bytes(frame)
        return
    while frame:
        frame = frame[os.write(sender.fileno(), frame) :]


class Inbox:
    """Collects what comes out of a pipe. ``ended``: nothing more will come."""

    def __init__(self, receiver: Connection, mark: bytes) -> None:
        self._receiver, self._mark = receiver, mark
        self._buffer = bytearray()
        self.ended = False

    def read(self) -> None:
        """Take what is there; call it when the pipe is ready."""
        try:
            if sys.platform == "win32":
                chunk = self._receiver.recv_bytes()
            else:
                chunk = os.read(self._receiver.fileno(), _CHUNK)
        except (EOFError, OSError):
            chunk = b""
        self.ended = self.ended or not chunk
        self._buffer += chunk
        start = self._buffer.find(self._mark)
        if start < 0:
            start = max(len(self._buffer) - len(self._mark), 0)  # the frame may begin in the middle of the mark
        del self._buffer[:start]

    def message(self) -> dict[str, Any] | None:
        """The message, once it is complete. Raises ValueError for one that says nothing."""
        head = len(self._mark) + _LENGTH.size
        if len(self._buffer) < head or not self._buffer.startswith(self._mark):
            return None
        (length,) = _LENGTH.unpack_from(self._buffer, len(self._mark))
        if length > _LARGEST:
            raise ValueError(f"a message of {length} bytes")
        if len(self._buffer) < head + length:
            return None
        message = json.loads(bytes(self._buffer[head : head + length]))
        if not isinstance(message, dict):
            raise ValueError("a message that is no object")
        return message
