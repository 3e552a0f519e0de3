"""Let the kernel refuse writes outside a few folders, for this process and those it starts (Landlock, Linux 5.13 on)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from contextlib import suppress

from lrlint.rehearsal.sandbox import syscalls

# The numbers are the same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1
#: Rights by bit: write a file (1), remove folders and files (4, 5), make any kind of entry (6 to 12).
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_CHANGES = _WRITE_FILE | sum(1 << bit for bit in range(4, 13))
#: Rights that later versions added: moving between folders (2), truncating (3). A right is refused unless granted.
_ADDED = {2: 1 << 13, 3: _TRUNCATE}


def version() -> int:
    """The kernel's Landlock version; 0 where it has none, or it is switched off."""
    with suppress(OSError):
        return syscalls.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))
    return 0


def refuse_writes(free: Iterable[str], devices: Iterable[str] = ("/dev", "/proc")) -> bool:
    """Refuse every change of files except below ``free``; below ``devices``, what exists can be written to.

    False where the kernel cannot. Files that are open already stay as they are.
    """
    supported = version()
    if supported < 1:
        return False
    handled = _CHANGES | sum(right for since, right in _ADDED.items() if supported >= since)
    attributes = ctypes.create_string_buffer(struct.pack("Q", handled), 8)
    ruleset = syscalls.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(8), ctypes.c_uint32(0))
    try:
        for folders, rights in ((free, handled), (devices, handled & (_WRITE_FILE | _TRUNCATE))):
            for folder in folders:
                _allow(ruleset, folder, rights)
        syscalls.refuse_new_privileges()
        syscalls.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
    return True


def _allow(ruleset: int, folder: str, rights: int) -> None:
    try:
        descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # what does not exist cannot be written to
        return
    try:
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, descriptor), 12)
        syscalls.syscall(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint32(0))
    finally:
        os.close(descriptor)
