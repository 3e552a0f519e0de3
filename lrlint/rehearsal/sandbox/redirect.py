"""Which of two trees has a file: the disk, or the scratch folder that takes what is written."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Any

from lrlint.rehearsal.sandbox.written import HeldFile

# kept before they are replaced
_getcwd, _stat, _lstat, _listdir, _scandir, _mkdir, _chmod, _utime = (
    os.getcwd,
    os.stat,
    os.lstat,
    os.listdir,
    os.scandir,
    os.mkdir,
    os.chmod,
    os.utime,
)
_open = open


def on_disk(path: str) -> bool:
    """Whether the real file system has it, whatever the script sees."""
    try:
        _lstat(path)
    except (OSError, ValueError):
        return False
    return True


def is_folder(path: str) -> bool:
    """Whether the real file system has a folder there."""
    try:
        return stat.S_ISDIR(_stat(path).st_mode)
    except (OSError, ValueError):
        return False


def _make_folders(path: str) -> None:
    if not on_disk(path):
        _make_folders(os.path.dirname(path))
        _mkdir(path)


class Redirection:
    """Where each path is read and written. The scratch folder holds the same tree as the disk, as far as it changed."""

    def __init__(self, scratch: str) -> None:
        self.scratch = scratch
        self.files = f"{scratch}/files"
        self.temporary = f"{scratch}/tmp"
        self.removed: set[str] = set()
        _mkdir(self.files)
        _mkdir(self.temporary)

    def covers(self, path: Any) -> bool:
        """Whether it is a path, and not one of the scratch folder's own, of a device or of the kernel."""
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        location = self.absolute(path)
        outside = location.startswith((self.scratch + "/", "/dev/", "/proc/", "/sys/"))
        return not outside or location.startswith("/dev/shm/")

    def absolute(self, path: Any) -> str:
        return os.path.normpath(os.path.join(self.cwd(), os.fsdecode(path)))

    def cwd(self) -> str:
        """As the script sees it: it may have gone to a folder that only the scratch folder has."""
        here = _getcwd()
        return here[len(self.files) :] or "/" if here == self.files or here.startswith(self.files + "/") else here

    def held(self, location: str) -> str:
        return self.files + location

    def gone(self, location: str) -> bool:
        """Whether it, or a folder above it, was removed."""
        while location != "/":
            if location in self.removed:
                return True
            location = os.path.dirname(location)
        return False

    def exists(self, location: str) -> bool:
        return on_disk(self.held(location)) or (not self.gone(location) and on_disk(location))

    def look(self, path: Any) -> Any:
        """Where to read it."""
        if not self.covers(path):
            return path
        location = self.absolute(path)
        return self.held(location) if on_disk(self.held(location)) or self.gone(location) else path

    def change(self, path: Any, keep: bool = True) -> Any:
        """Where to write it: a copy of what exists (``keep``), in a folder that exists for the script."""
        if not self.covers(path):
            return path
        location = self.absolute(path)
        held = self.held(location)
        if on_disk(held):
            return held
        self.make_parent(location)
        if keep and not self.gone(location) and on_disk(location):
            self.copy(location)
        return held

    def make_parent(self, location: str) -> None:
        parent = os.path.dirname(location)
        if self.exists(parent):
            _make_folders(self.held(parent))

    def copy(self, location: str) -> None:
        """Bring what the disk has at a path into the scratch folder, a folder with all that is in it."""
        if is_folder(location):
            _make_folders(self.held(location))
            for name in _listdir(location):
                inside = os.path.join(location, name)
                if not self.gone(inside) and not on_disk(self.held(inside)):
                    self.copy(inside)
            return
        held = self.held(location)
        if on_disk(held):
            return
        state = _stat(location)
        with _open(location, "rb") as source, _open(held, "wb") as target:
            while piece := source.read(1 << 20):
                target.write(piece)
        _chmod(held, stat.S_IMODE(state.st_mode) | stat.S_IWUSR)
        _utime(held, ns=(state.st_atime_ns, state.st_mtime_ns))

    def remove(self, location: str, remove: Callable[[str], None]) -> None:
        held = self.held(location)
        if not self.exists(location):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), location)
        if on_disk(held):
            remove(held)
        if not self.gone(location) and on_disk(location):
            self.removed.add(location)

    def names(self, location: str) -> list[str]:
        """What the script sees in a folder. Raises OSError as listing it would."""
        held = self.held(location)
        names = set(_listdir(held)) if is_folder(held) else set()
        if not self.gone(location) and (is_folder(location) or not names):
            names |= {name for name in _listdir(location) if not self.gone(os.path.join(location, name))}
        elif not is_folder(held):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), location)
        return sorted(names)

    def written(self, root: str) -> list[HeldFile]:
        """What was written and removed, as `held_files` gives it."""
        files = []
        pending = [self.files]
        while pending:
            for entry in _scandir(pending.pop()):
                location = entry.path[len(self.files) :]
                if entry.name == "__pycache__":
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                    continue
                state = entry.stat(follow_symlinks=False)
                before = _lstat(location) if on_disk(location) else None
                if before is None or (before.st_size, before.st_mtime_ns) != (state.st_size, state.st_mtime_ns):
                    files.append(HeldFile(_relative(location, root), False, state.st_size))
        for location in self.removed:
            if not on_disk(self.held(location)):
                files.append(HeldFile(_relative(location, root) + ("/" if is_folder(location) else ""), True))
        return sorted(files, key=lambda file: (os.path.isabs(file.path), file.path))


def _relative(location: str, root: str) -> str:
    return os.path.relpath(location, root) if location.startswith(root.rstrip("/") + "/") else location
