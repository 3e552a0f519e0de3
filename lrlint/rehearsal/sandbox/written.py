"""What a held script wrote and removed, read back from the layers that hold it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from lrlint.rehearsal.sandbox.mounts import Layer

#: Compiled modules, which Python and not the script writes.
_NOT_THE_SCRIPTS = "__pycache__"


@dataclass(frozen=True)
class HeldFile:
    """A file that the script wrote or removed.

    ``path``: relative to the project's root, absolute where it lies outside, with a slash at the end for a removed
    folder. ``size`` in bytes, 0 where it was removed.
    """

    path: str
    removed: bool = False
    size: int = 0


def held_files(layers: Sequence[Layer], root: str) -> list[HeldFile]:
    """By path, those of the project first. Raises OSError where the layers can no longer be read."""
    files: dict[str, HeldFile] = {}
    for layer in layers:
        for path, removed, size in _changes(layer):
            inside = os.path.relpath(path, root) if _inside(path, root) else path
            files[inside] = HeldFile(inside + ("/" if path.endswith("/") else ""), removed, size)
    return sorted(files.values(), key=lambda file: (os.path.isabs(file.path), file.path))


def _inside(path: str, root: str) -> bool:
    return path.startswith(root.rstrip("/") + "/")


def _changes(layer: Layer) -> Iterator[tuple[str, bool, int]]:
    prefix = layer.path.rstrip("/")
    if layer.copies is not None:
        yield from _folder_changes(layer, prefix)
        return
    os.stat(layer.upper)
    pending = [""]
    while pending:
        inside = pending.pop()
        if inside and _made_anew(layer.upper + inside):
            yield from _removed_before(layer, prefix, inside)
        for entry in os.scandir(layer.upper + inside):
            name = f"{inside}/{entry.name}"
            if entry.name == _NOT_THE_SCRIPTS:
                continue
            state = entry.stat(follow_symlinks=False)
            before = _state(layer.lower + name)
            if stat.S_ISDIR(state.st_mode):
                pending.append(name)
            elif stat.S_ISCHR(state.st_mode) and state.st_rdev == 0:  # a whiteout
                if before is not None:
                    yield prefix + name + ("/" if stat.S_ISDIR(before.st_mode) else ""), True, 0
            elif stat.S_ISREG(state.st_mode) and (before is None or _differ(before, state)):
                yield prefix + name, False, state.st_size


def _made_anew(folder: str) -> bool:
    """Whether a folder hides what lies below it: it was removed, and made again."""
    for name in ("user.overlay.opaque", "trusted.overlay.opaque"):
        with suppress(OSError):
            return os.getxattr(folder, name) == b"y"
    return False


def _removed_before(layer: Layer, prefix: str, inside: str) -> Iterator[tuple[str, bool, int]]:
    with suppress(OSError):  # there was no such folder before
        for entry in os.scandir(layer.lower + inside):
            if entry.name != _NOT_THE_SCRIPTS and _state(f"{layer.upper}{inside}/{entry.name}") is None:
                folder = entry.is_dir(follow_symlinks=False)
                yield f"{prefix}{inside}/{entry.name}" + ("/" if folder else ""), True, 0


def _folder_changes(layer: Layer, prefix: str) -> Iterator[tuple[str, bool, int]]:
    now = {}
    for entry in os.scandir(layer.upper):
        if entry.is_file(follow_symlinks=False):
            state = entry.stat()
            if state.st_dev == os.stat(layer.upper).st_dev:  # else a mount of the host's own file
                now[entry.name] = state.st_size, state.st_mtime_ns
    copies = layer.copies or {}
    for name, (size, when) in now.items():
        if copies.get(name) != (size, when):
            yield f"{prefix}/{name}", False, size
    for name in copies.keys() - now.keys():
        yield f"{prefix}/{name}", True, 0


def _state(path: str) -> os.stat_result | None:
    with suppress(OSError):
        return os.lstat(path)
    return None


def _differ(before: os.stat_result, now: os.stat_result) -> bool:
    """A file may have been opened for writing, and so copied up, without being written to."""
    return (before.st_size, before.st_mtime_ns, before.st_mode) != (now.st_size, now.st_mtime_ns, now.st_mode)
