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
        place = self.absolute(path)
        outside = place.startswith((self.scratch + "/", "/dev/", "/proc/", "/sys/"))
        return not outside or place.startswith("/dev/shm/")

    def absolute(self, path: Any) -> str:
        return os.path.normpath(os.path.join(self.cwd(), os.fsdecode(path)))

    def cwd(self) -> str:
        """As the script sees it: it may have gone to a folder that only the scratch folder has."""
        here = _getcwd()
        return here[len(self.files) :] or "/" if here == self.files or here.startswith(self.files + "/") else here

    def held(self, place: str) -> str:
        return self.files + place

    def gone(self, place: str) -> bool:
        """Whether it, or a folder above it, was removed."""
        while place != "/":
            if place in self.removed:
                return True
            place = os.path.dirname(place)
        return False

    def exists(self, place: str) -> bool:
        return on_disk(self.held(place)) or (not self.gone(place) and on_disk(place))

    def look(self, path: Any) -> Any:
        """Where to read it."""
        if not self.covers(path):
            return path
        place = self.absolute(path)
        return self.held(place) if on_disk(self.held(place)) or self.gone(place) else path

    def change(self, path: Any, keep: bool = True) -> Any:
        """Where to write it: a copy of what exists (``keep``), in a folder that exists for the script."""
        if not self.covers(path):
            return path
        place = self.absolute(path)
        held = self.held(place)
        if on_disk(held):
            return held
        self.make_parent(place)
        if keep and not self.gone(place) and on_disk(place):
            self.copy(place)
        return held

    def make_parent(self, place: str) -> None:
        parent = os.path.dirname(place)
        if self.exists(parent):
            _make_folders(self.held(parent))

    def copy(self, place: str) -> None:
        """Bring what the disk has at a path into the scratch folder, a folder with all that is in it."""
        if is_folder(place):
            _make_folders(self.held(place))
            for name in _listdir(place):
                inside = os.path.join(place, name)
                if not self.gone(inside) and not on_disk(self.held(inside)):
                    self.copy(inside)
            return
        held = self.held(place)
        if on_disk(held):
            return
        state = _stat(place)
        with _open(place, "rb") as source, _open(held, "wb") as target:
            while piece := source.read(1 << 20):
                target.write(piece)
        _chmod(held, stat.S_IMODE(state.st_mode) | stat.S_IWUSR)
        _utime(held, ns=(state.st_atime_ns, state.st_mtime_ns))

    def remove(self, place: str, remove: Callable[[str], None]) -> None:
        held = self.held(place)
        if not self.exists(place):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), place)
        if on_disk(held):
            remove(held)
        if not self.gone(place) and on_disk(place):
            self.removed.add(place)

    def names(self, place: str) -> list[str]:
        """What the script sees in a folder. Raises OSError as listing it would."""
        held = self.held(place)
        found = set(_listdir(held)) if is_folder(held) else set()
        if not self.gone(place) and (is_folder(place) or not found):
            found |= {name for name in _listdir(place) if not self.gone(os.path.join(place, name))}
        elif not is_folder(held):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), place)
        return sorted(found)

    def written(self, root: str) -> list[HeldFile]:
        """What was written and removed, as `held_files` gives it."""
        found = []
        pending = [self.files]
        while pending:
            for entry in _scandir(pending.pop()):
                place = entry.path[len(self.files) :]
                if entry.name == "__pycache__":
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                    continue
                state = entry.stat(follow_symlinks=False)
                before = _lstat(place) if on_disk(place) else None
                if before is None or (before.st_size, before.st_mtime_ns) != (state.st_size, state.st_mtime_ns):
                    found.append(HeldFile(_relative(place, root), False, state.st_size))
        for place in self.removed:
            if not on_disk(self.held(place)):
                found.append(HeldFile(_relative(place, root) + ("/" if is_folder(place) else ""), True))
        return sorted(found, key=lambda file: (os.path.isabs(file.path), file.path))


def _relative(place: str, root: str) -> str:
    return os.path.relpath(place, root) if place.startswith(root.rstrip("/") + "/") else place
