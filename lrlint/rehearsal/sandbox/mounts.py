"""A second view of the whole file system: what is read comes from the disk, what is written stays in memory.

Every writable folder is covered by an overlay whose upper layer lies on a bounded tmpfs that nothing outside the mount
namespace can see. In a user namespace, a folder with mounts of the host below it cannot be the lower layer of an overlay
(the kernel keeps what those mounts hide hidden), so there its entries are covered one by one.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lrlint.rehearsal.sandbox import syscalls

Action = Literal["overlay", "bind", "read-only", "folder", "copy", "link"]

#: File systems that show the kernel's state: there is nothing on a disk to hold, and an overlay of them is meaningless.
_PSEUDO = frozenset(
    "autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs mqueue nsfs proc "
    "pstore rpc_pipefs securityfs selinuxfs sysfs tracefs".split()
)
#: Files that are copied into the view where no overlay can cover their folder; larger ones are read-only there.
_COPIED_BYTES = 16 << 20
#: Entries of such a folder, each a mount of its own; a folder with more is read-only.
_MOST_ENTRIES = 2000
#: An existing folder that no script writes to, under which the view is assembled before it becomes the root.
_STAGES = ("/sys", "/mnt", "/srv", "/tmp")
#: Descriptors that the view keeps open have numbers from here on, out of the way of a script's own.
_DESCRIPTORS = 700
_FLAGS = {
    "nosuid": syscalls.MS_NOSUID,
    "nodev": syscalls.MS_NODEV,
    "noexec": syscalls.MS_NOEXEC,
    "noatime": syscalls.MS_NOATIME,
    "nodiratime": syscalls.MS_NODIRATIME,
    "relatime": syscalls.MS_RELATIME,
}


@dataclass(frozen=True)
class Mount:
    """What is mounted at a path; ``flags`` are those that a remount must repeat."""

    path: str
    kind: str
    read_only: bool
    flags: int = 0


@dataclass(frozen=True)
class Piece:
    """One step in assembling the view: what to do at a path."""

    action: Action
    path: str
    flags: int = 0


@dataclass(frozen=True)
class Layer:
    """Where the changes below ``path`` are: ``upper`` and ``lower`` are folders to compare.

    ``copies``: of a folder that no overlay covers, the plain files it began with, by name, as (size, mtime in ns); its
    subfolders are layers of their own.
    """

    path: str
    upper: str
    lower: str
    copies: Mapping[str, tuple[int, int]] | None = None


@dataclass
class View:
    """The assembled file system."""

    layers: list[Layer] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def covers(self, path: str) -> bool:
        """Whether writes below this path are held (and not refused)."""
        inside = [folder for folder in (*self.refused, *(layer.path for layer in self.layers)) if within(path, folder)]
        return bool(inside) and max(inside, key=len) not in self.refused


def within(path: str, folder: str) -> bool:
    return folder == "/" or path == folder or path.startswith(folder + "/")


def mounted(text: str) -> dict[str, Mount]:
    """The mounts of /proc/self/mountinfo by path, parents first; of several at one path, the one on top."""
    mounts: dict[str, Mount] = {}
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        path, options = left.split()[4:6]
        path = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
        kind, _, above = [*right.split(), "", "", ""][:3]
        names = options.split(",")
        flags = sum(_FLAGS[name] for name in names if name in _FLAGS)
        mounts[path] = Mount(path, kind, "ro" in names or "ro" in above.split(","), flags)
    return dict(sorted(mounts.items(), key=lambda item: item[0].count("/") if item[0] != "/" else 0))


def plan(mounts: Mapping[str, Mount], locked: bool) -> Iterator[Piece]:
    """How to cover every writable folder. ``locked``: the mounts come from outside this user namespace."""
    yield from _cover("/", mounts, locked)


def _cover(path: str, mounts: Mapping[str, Mount], locked: bool) -> Iterator[Piece]:
    here = mounts[max((mount_point for mount_point in mounts if within(path, mount_point)), key=len)]
    below = [mount_point for mount_point in mounts if mount_point != path and within(mount_point, path)]
    plain = path in ("/dev", "/proc") or here.kind in _PSEUDO or here.read_only
    if plain or not os.path.isdir(path):
        writable = not plain and not stat.S_ISSOCK(_mode(path))
        yield Piece("read-only" if writable else "bind", path, here.flags)
        keep = [
            mount_point
            for mount_point in below
            if mounts[mount_point].kind not in _PSEUDO and not mounts[mount_point].read_only
        ]
    elif below and locked:
        yield from _folder(path, mounts)
        return
    else:
        yield Piece("overlay", path, here.flags)
        keep = below
    for mount_point in keep:
        if not any(mount_point != other and within(mount_point, other) for other in keep):
            yield from _cover(mount_point, mounts, locked)


def _folder(path: str, mounts: Mapping[str, Mount]) -> Iterator[Piece]:
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError:
        entries = []
    if len(entries) > _MOST_ENTRIES:
        yield Piece("read-only", path)
        return
    yield Piece("folder", path)
    for entry in entries:
        with suppress(OSError):  # it has vanished, or may not be seen
            if entry.is_symlink():
                yield Piece("link", entry.path)
            elif entry.path in mounts or entry.is_dir():
                yield from _cover(entry.path, mounts, locked=True)
            elif entry.is_file():
                small = entry.stat().st_size <= _COPIED_BYTES and os.access(entry.path, os.R_OK)
                yield Piece("copy" if small else "read-only", entry.path)
            else:
                yield Piece("bind", entry.path)  # a socket, a pipe, a device


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except OSError:
        return 0


def assemble(locked: bool, size: int, own_proc: bool, used: Sequence[str] = (), scratch: Sequence[str] = ()) -> View:
    """Build the view and make it this process's root; the working directory stays where it was.

    In a mount namespace of its own, with the right to mount. At most ``size`` bytes can be written. ``own_proc``: /proc
    is to show this PID namespace. ``used``: absolute paths that the script is known to use. ``scratch``: folders that
    take what is written instead of memory; an overlay cannot keep its changes below the folder that it covers, so it
    takes one that lies elsewhere. Raises OSError.
    """
    try:
        cwd = os.getcwd()
    except OSError:  # it was removed
        cwd = "/"
    mounts = mounted(Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape"))
    pieces = list(plan(mounts, locked))
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    # opened before the stage hides one of them
    sources = {piece.path: _keep(piece.path) for piece in pieces if piece.action in ("overlay", "bind", "read-only")}
    stage = next(stage_folder for stage_folder in _STAGES if os.path.isdir(stage_folder))
    syscalls.mount("tmpfs", stage, "tmpfs", syscalls.MS_NODEV | syscalls.MS_NOSUID, f"size={size},mode=700")
    root, layers = f"{stage}/root", [*scratch] or [f"{stage}/layers"]
    os.mkdir(root, 0o755)
    if not scratch:
        os.mkdir(layers[0], 0o755)
    syscalls.mount("tmpfs", root, "tmpfs", syscalls.MS_NODEV | syscalls.MS_NOSUID, f"size={size},mode=755")
    view = View()
    builder = _Builder(root, {folder: _keep(folder) for folder in layers}, not scratch, sources, locked, used, view)
    for number, piece in enumerate(pieces):
        builder.add(number, piece)
    if own_proc:
        syscalls.mount("proc", f"{root}/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    keep = {layer.lower for layer in view.layers}
    syscalls.change_root(root)
    for descriptor in sources.values():
        if descriptor is not None and _proc(descriptor) not in keep:
            os.close(descriptor)
    os.chdir(cwd)
    return view


def _keep(path: str) -> int | None:
    """A descriptor of a path that survives its being covered; None where it cannot be reached."""
    import fcntl

    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _DESCRIPTORS)
    except OSError:  # the limit on descriptors is lower
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 100)
    finally:
        os.close(descriptor)


def _proc(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


@dataclass
class _Builder:
    """Carries out a plan below ``root``."""

    root: str
    layers: Mapping[str, int | None]
    in_memory: bool
    sources: Mapping[str, int | None]
    locked: bool
    used: Sequence[str]
    view: View
    copies: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)

    def add(self, number: int, piece: Piece) -> None:
        target = self.root + ("" if piece.path == "/" else piece.path)
        source = self.sources.get(piece.path)
        if piece.action == "folder":
            self._new_folder(piece.path, target)
        elif piece.action == "link":
            os.symlink(os.readlink(piece.path), target)
        elif piece.action == "copy":
            with suppress(OSError):
                shutil.copy2(piece.path, target)
                state = os.stat(target)
                folder, name = os.path.split(piece.path)
                self.copies[folder][name] = state.st_size, state.st_mtime_ns
        elif source is not None:
            self._mount(number, piece, target, source)

    def _new_folder(self, path: str, target: str) -> None:
        os.makedirs(target, exist_ok=True)
        _like(path, target)
        descriptor = _keep(target)
        if descriptor is not None:
            self.copies[path] = {}
            self.view.layers.append(Layer(path, _proc(descriptor), "", self.copies[path]))

    def _mount(self, number: int, piece: Piece, target: str, source: int) -> None:
        lower = _proc(source)
        _mount_point(lower, target)
        if not os.path.lexists(target):
            return
        if piece.action == "overlay":
            with suppress(OSError, StopIteration):  # no folder on a disk lies elsewhere
                self._overlay(number, piece.path, target, lower)
                return
            if os.access(lower, os.R_OK | os.X_OK):  # else the script cannot enter it either
                self.view.notes.append(f"{piece.path} could not be covered, and is read-only in the rehearsal")
        try:
            syscalls.mount(lower, target, flags=syscalls.MS_BIND | syscalls.MS_REC)
            if piece.action != "bind":
                read_only = syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY
                syscalls.mount("none", target, flags=read_only | piece.flags)
        except OSError:
            if piece.action != "bind":  # better absent than written to
                with suppress(OSError):
                    syscalls.detach(target)
        if piece.action == "overlay":
            self.view.refused.append(piece.path)

    def _overlay(self, number: int, path: str, target: str, lower: str) -> None:
        layers = next(folder for folder in self.layers if self.in_memory or not within(folder, path))
        upper, work = f"{layers}/{number}/upper", f"{layers}/{number}/work"
        os.makedirs(upper)
        os.mkdir(work)
        _like(lower, upper)
        if self.locked:
            self._own_parents(path, upper, lower)
        options = f"lowerdir={lower},upperdir={upper},workdir={work}" + (",userxattr" if self.locked else "")
        syscalls.mount("overlay", target, "overlay", 0, options)
        self.view.layers.append(Layer(path, f"{_proc(self.layers[layers] or 0)}/{number}/upper", lower))

    def _own_parents(self, path: str, upper: str, lower: str) -> None:
        """Make the folders that lead to what the script is known to use in the upper layer.

        Writing below them would else copy each with its owner, whom a user namespace may not know (EOVERFLOW).
        """
        for needed in self.used:
            if within(needed, path):
                copied, original = Path(upper), Path(lower)
                for part in Path(needed).relative_to(path).parts:
                    copied, original = copied / part, original / part
                    if original.is_symlink() or not original.is_dir():
                        break
                    with suppress(FileExistsError):
                        copied.mkdir()
                        _like(str(original), str(copied))


def _mount_point(source: str, target: str) -> None:
    """An empty folder or file to mount on, where the view has none yet; nothing where it cannot be made."""
    if os.path.lexists(target):
        return
    with suppress(OSError):
        if os.path.isdir(source):
            os.makedirs(target)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            Path(target).touch()


def _like(source: str, target: str) -> None:
    """Give a new folder the mode, the times and, where allowed, the owner of another."""
    state = os.stat(source)
    with suppress(OSError):
        os.chown(target, state.st_uid, state.st_gid)
    with suppress(OSError):
        os.chmod(target, stat.S_IMODE(state.st_mode))
    with suppress(OSError):
        os.utime(target, ns=(state.st_atime_ns, state.st_mtime_ns))


def replace_folder(locked: bool, scratch: str = "") -> None:
    """Remove a folder that lies below an overlay, and make it again; on file systems made for it.

    It needs an attribute that a tmpfs keeps for users only from Linux 6.6 on. ``scratch``: the folder on a disk that
    is to take what is written, "" for memory. Raises OSError where it fails.
    """
    stage = next(base for base in _STAGES if os.path.isdir(base))
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("tmpfs", stage, "tmpfs", 0, "size=1m")
    base = f"{scratch}/check" if scratch else stage
    for name in (f"{stage}/lower/folder/file", f"{base}/upper", f"{base}/work", f"{stage}/top"):
        os.makedirs(name)
    options = f"lowerdir={stage}/lower,upperdir={base}/upper,workdir={base}/work" + (",userxattr" if locked else "")
    syscalls.mount("overlay", f"{stage}/top", "overlay", 0, options)
    try:
        shutil.rmtree(f"{stage}/top/folder")
        os.mkdir(f"{stage}/top/folder")
        if os.listdir(f"{stage}/top/folder"):
            raise OSError(None, "a removed folder shows its files again")
    except OSError as error:
        raise OSError(None, f"folders cannot be replaced in its overlays: {error.strerror}") from error
    syscalls.detach(f"{stage}/top")
    syscalls.detach(stage)
