"""The Linux system calls of the sandbox, through ctypes (`os.unshare` exists from Python 3.12 on, `mount` nowhere)."""

from __future__ import annotations

import ctypes
import os
import platform
import signal

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = (
    0x0002_0000,
    0x0800_0000,
    0x1000_0000,
    0x2000_0000,
    0x4000_0000,
)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    1,
    2,
    4,
    8,
    32,
    4096,
    16384,
    1 << 18,
)
MS_NOATIME, MS_NODIRATIME, MS_RELATIME = 1024, 2048, 1 << 21
MNT_DETACH = 2
#: `pivot_root` has no wrapper in the C library.
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "loongarch64": 41, "ppc64le": 203, "s390x": 217}
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Move this process into new namespaces; a new PID namespace takes effect for its children. Raises OSError."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Raises OSError, with the target in it."""
    result = _libc.mount(
        os.fsencode(source), os.fsencode(target), os.fsencode(kind) or None, ctypes.c_ulong(flags), os.fsencode(data)
    )
    _checked(result, f"mount {kind or 'bind'} on {target}")


def detach(target: str) -> None:
    """Unmount what lies there, also where it is in use. Raises OSError."""
    _checked(_libc.umount2(os.fsencode(target), ctypes.c_int(MNT_DETACH)), f"umount {target}")


def change_root(folder: str) -> None:
    """Make a mounted folder this process's root and working directory. Raises OSError."""
    os.chdir(folder)
    number = _PIVOT_ROOT.get(platform.machine())
    try:
        if number is None:
            raise OSError("pivot_root has no known number here")
        _checked(_libc.syscall(ctypes.c_long(number), b".", b"."), "pivot_root")
        detach(".")  # the old root lies on top of the new one
    except OSError:  # an initial ramdisk cannot be pivoted
        os.chroot(".")
    os.chdir("/")


def die_with_parent() -> None:
    """Be killed when the parent process ends, however it does."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, also of those in a session of their own."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def refuse_new_privileges() -> None:
    """No set-user-ID program gains rights from here on, which Landlock asks for."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def syscall(number: int, *arguments: object) -> int:
    """A system call by number. Raises OSError."""
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments), f"system call {number}")


def _prctl(option: int, value: int) -> None:
    _checked(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), 0, 0, 0), "prctl")


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return int(result)
