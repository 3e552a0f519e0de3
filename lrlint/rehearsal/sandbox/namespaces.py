"""Which namespaces this process may have, found out by trying in a child that is thrown away."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lrlint.rehearsal.sandbox import processes, syscalls
from lrlint.rehearsal.sandbox.mounts import View, assemble, mounted, replace_folder, within

#: Seconds that a trial may take; where a network file system does not answer, the setup would hang as well.
_TRIAL = 10.0
_CAP_SYS_ADMIN = 21
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_CAPABILITY_VERSION_3 = 0x2008_0522


@dataclass(frozen=True)
class Spaces:
    """What to separate, besides the mounts.

    ``user``: a user namespace gives the right to do so; root has it without. ``on_disk``: what is written goes to
    folders on a disk instead of to memory, because a tmpfs keeps no attributes for users before Linux 6.6.
    """

    user: bool
    processes: bool
    network: bool
    on_disk: bool = False

    @property
    def flags(self) -> int:
        return (
            (syscalls.CLONE_NEWUSER if self.user else 0)
            | (syscalls.CLONE_NEWPID | syscalls.CLONE_NEWIPC if self.processes else 0)
            | (syscalls.CLONE_NEWNET if self.network else 0)
        )


@dataclass(frozen=True)
class Request:
    """What is to be held: the folders in which writing must stay possible, other paths in use, bytes in all.

    ``scratch``: folders on different parts of the disk, which take what is written where memory cannot.
    """

    needed: tuple[str, ...]
    used: tuple[str, ...]
    size: int
    scratch: tuple[str, ...] = ()


def candidates(cut_network: bool) -> Iterator[Spaces]:
    """From the strictest to the loosest; each keeps files from being written."""
    for network in (True, False) if cut_network else (False,):
        for own_processes in (True, False):
            if _may_mount():
                yield Spaces(False, own_processes, network)
            yield Spaces(True, own_processes, network)
            yield Spaces(True, own_processes, network, on_disk=True)


def choose(request: Request, cut_network: bool) -> tuple[Spaces | None, str]:
    """The first that works here, or None and the reason (of the one that came first) in words."""
    if (count := processes.threads()) > 1:
        return None, f"this process has {count} threads, and only one with a single thread can enter namespaces"
    reasons = []
    for spaces in candidates(cut_network):
        if spaces.on_disk and len(request.scratch) < 2:
            continue
        reason = _try(lambda spaces=spaces: _trial(spaces, request))  # type: ignore[misc]
        if not reason:
            return spaces, ""
        reasons.append(reason)
    return None, reasons[0] if reasons else "there is nothing to try"


def enter(spaces: Spaces) -> None:
    """Move this process into new namespaces, but for that of mounts; it stays the same user. Raises OSError."""
    if not spaces.user:
        if spaces.flags:
            syscalls.unshare(spaces.flags)
        return
    user, group = os.geteuid(), os.getegid()
    with _mapped_by_helper(user):
        syscalls.unshare(spaces.flags)
    if not Path("/proc/self/gid_map").read_text().strip():
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    if not Path("/proc/self/uid_map").read_text().strip():
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")


class _mapped_by_helper:
    """Root may map every user, not only itself, from outside the new namespace: a child that stays outside does it.

    Files of others (a project folder that a container got from its host) can then be written as without a namespace.
    """

    def __init__(self, user: int) -> None:
        self.helper = 0
        self.wanted = user == 0

    def __enter__(self) -> None:
        if not self.wanted:
            return
        process = os.getpid()
        go, self.go = os.pipe()
        self.helper = os.fork()
        if self.helper == 0:
            os.close(self.go)
            if os.read(go, 1):
                for kind in ("gid", "uid"):
                    with suppress(OSError):
                        rows = [line.split() for line in Path(f"/proc/self/{kind}_map").read_text().splitlines()]
                        text = "".join(f"{inside} {inside} {count}\n" for inside, _, count in rows)
                        Path(f"/proc/{process}/{kind}_map").write_text(text)
            os._exit(0)
        os.close(go)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if not self.wanted:
            return
        if kind is None:
            os.write(self.go, b"g")
        os.close(self.go)
        os.waitpid(self.helper, 0)


def take_over(spaces: Spaces, request: Request, trial: bool = False) -> View:
    """In the namespaces: cut what is written off from the disk, and give up the rights that this took.

    ``trial``: also try what not every kernel's overlays can do. Raises OSError.
    """
    syscalls.unshare(syscalls.CLONE_NEWNS)
    scratch = [tempfile.mkdtemp(dir=folder) for folder in request.scratch] if spaces.on_disk else []
    if trial:
        replace_folder(spaces.user, scratch[0] if scratch else "")
    view = assemble(spaces.user, request.size, spaces.processes, request.used, scratch)
    if spaces.network:
        _loopback_up()
    if spaces.user and os.geteuid():
        _drop_capabilities()
    return view


def _trial(spaces: Spaces, request: Request) -> str:
    """Enter, look whether files are held, leave; the reason why they are not, in words."""
    try:
        enter(spaces)
        if spaces.processes:
            return _try(lambda: _look(spaces, request))
        return _look(spaces, request)
    except OSError as error:
        return _explained(error)


def _look(spaces: Spaces, request: Request) -> str:
    before = {folder: os.stat(folder).st_dev for folder in request.needed}
    try:
        view = take_over(spaces, request, trial=True)
    except OSError as error:
        return _explained(error)
    for folder, device in before.items():
        if not view.covers(folder) or os.stat(folder).st_dev == device:
            return f"no overlay can cover {folder} ({_kind(folder)})"
    try:
        _use(request.needed[0])
    except OSError as error:
        return f"files cannot be written in an overlay of this kernel ({error.strerror or error})"
    return ""


def _use(folder: str) -> None:
    """Write, rename and remove in the view, as scripts do. Raises OSError."""
    folder_ = tempfile.mkdtemp(dir=folder)
    (Path(folder_) / "a").write_text("a")
    os.rename(f"{folder_}/a", f"{folder_}/b")
    shutil.rmtree(folder_)


def _kind(folder: str) -> str:
    mounts = mounted(Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape"))
    return mounts[max((path for path in mounts if within(folder, path)), key=len)].kind


def _try(work: Callable[[], str]) -> str:
    """The result of ``work`` in a child, which is killed where it takes too long."""
    answer, answer_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(answer)
        try:
            syscalls.die_with_parent()
            text = work()
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(answer_end, (text or "ok").encode()[:2000])
        os._exit(0)
    os.close(answer_end)
    text = _read(answer, time.monotonic() + _TRIAL)
    os.close(answer)
    with suppress(OSError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "" if text == "ok" else text or f"setting it up took more than {_TRIAL:g} s"


def _read(descriptor: int, until: float) -> str:
    if not select.select([descriptor], [], [], max(until - time.monotonic(), 0))[0]:
        return ""
    return os.read(descriptor, 4096).decode() or "its trial process was killed"


def _may_mount() -> bool:
    """Whether this process has the right to mount without a user namespace."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    return False


def _explained(error: OSError) -> str:
    """Why the kernel refuses, where it can be told."""
    if _setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "AppArmor restricts unprivileged user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1)"
    if _setting("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return "unprivileged user namespaces are switched off (kernel.unprivileged_userns_clone is 0)"
    if _setting("/proc/sys/user/max_user_namespaces") == "0":
        return "user namespaces are switched off (user.max_user_namespaces is 0)"
    if error.errno in (errno.EPERM, errno.EACCES) and _filtered():
        return "a seccomp filter, as containers have it, refuses namespaces"
    if error.errno == errno.ENODEV:
        return "the kernel has no overlayfs"
    return f"the kernel refuses it ({error.strerror or error})"


def _setting(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _filtered() -> bool:
    return any(line.split() == ["Seccomp:", "2"] for line in Path("/proc/self/status").read_text().splitlines())


def _loopback_up() -> None:
    """A new network namespace has a loopback device, switched off: local process groups need it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        name = b"lo".ljust(16, b"\0")
        state = fcntl.ioctl(link, _SIOCGIFFLAGS, name + bytes(24))
        flags = struct.unpack("h", state[16:18])[0] | _IFF_UP
        fcntl.ioctl(link, _SIOCSIFFLAGS, name + struct.pack("h", flags) + bytes(22))


def _drop_capabilities() -> None:
    """Leave the rights that a user namespace gives: a script must meet the refusals that it meets without."""
    import ctypes

    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    numbers: Sequence[int] = [0] * 6
    ctypes.CDLL(None, use_errno=True).capset(header, struct.pack("6I", *numbers))
