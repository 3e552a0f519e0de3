"""Python's own writes go to a scratch folder, where there are no namespaces; reading sees what was written.

`open`, `os` and what is built on them (pathlib, shutil, tempfile, json, numpy), `torch.save` and `sqlite3` are covered.
Native code and other programs are not: with Landlock their writes are refused, without it they reach the disk.
"""

from __future__ import annotations

import builtins
import errno
import functools
import io
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from lrlint.rehearsal.sandbox.redirect import Redirection, is_folder, on_disk

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: Functions of `os` that look at the path in their first argument.
_LOOKS = ("stat", "lstat", "access", "readlink", "statvfs", "getxattr", "listxattr", "chdir", "pathconf")
#: Functions of `os` that change what exists at the path in their first argument.
_CHANGES = ("chmod", "chown", "lchown", "utime", "truncate", "setxattr", "removexattr")


def redirect(to: Redirection) -> None:
    """Replace the functions of this process that write and read files. They stay replaced."""
    _files(to)
    _folders(to)
    _links(to)
    _moves(to)
    _libraries(to)
    shutil._use_fd_functions = False  # type: ignore[attr-defined]  # paths, not descriptors of folders
    tempfile.tempdir = to.temporary
    os.environ["TMPDIR"] = to.temporary


def _replace(owner: Any, name: str, make: Callable[[Any], Callable[..., Any]]) -> None:
    original = getattr(owner, name, None)
    if original is not None:
        setattr(owner, name, functools.wraps(original)(make(original)))


def _plain(kwargs: dict[str, Any]) -> bool:
    """Whether a path is not relative to an open folder."""
    return all(kwargs.get(name) is None for name in ("dir_fd", "src_dir_fd", "dst_dir_fd"))


def _files(to: Redirection) -> None:
    def opening(original: Any) -> Any:
        def call(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if kwargs.get("opener") is None and to.covers(file):
                if "x" in mode and to.exists(to.absolute(file)):
                    raise _error(errno.EEXIST, file)
                file = to.change(file, keep="w" not in mode) if set(mode) & set("wax+") else to.look(file)
            return original(file, mode, *args, **kwargs)

        return call

    def low_level(original: Any) -> Any:
        def call(path: Any, flags: int, *args: Any, **kwargs: Any) -> Any:
            if _plain(kwargs) and to.covers(path):
                if flags & os.O_EXCL and flags & os.O_CREAT and to.exists(to.absolute(path)):
                    raise _error(errno.EEXIST, path)
                path = to.change(path, keep=not flags & os.O_TRUNC) if flags & _WRITES else to.look(path)
            return original(path, flags, *args, **kwargs)

        return call

    _replace(builtins, "open", opening)
    io.open = builtins.open
    _replace(os, "open", low_level)


def _folders(to: Redirection) -> None:
    def looking(original: Any) -> Any:
        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            return original(to.look(path) if _plain(kwargs) else path, *args, **kwargs)

        return call

    def changing(original: Any) -> Any:
        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            return original(to.change(path) if _plain(kwargs) else path, *args, **kwargs)

        return call

    def making(original: Any) -> Any:
        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            if not _plain(kwargs) or not to.covers(path):
                return original(path, *args, **kwargs)
            absolute = to.absolute(path)
            if to.exists(absolute):
                raise _error(errno.EEXIST, path)
            to.make_parent(absolute)
            return original(to.held(absolute), *args, **kwargs)

        return call

    def removing(original: Any) -> Any:
        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            if not _plain(kwargs) or not to.covers(path):
                return original(path, *args, **kwargs)
            absolute = to.absolute(path)
            if original.__name__ == "rmdir" and to.exists(absolute) and to.names(absolute):
                raise _error(errno.ENOTEMPTY, path)
            return to.remove(absolute, original)

        return call

    def listing(original: Any) -> Any:
        def call(path: Any = ".") -> Any:
            if not to.covers(path):
                return original(path)
            names = to.names(to.absolute(path))
            return [os.fsencode(name) for name in names] if isinstance(path, bytes) else names

        return call

    for name in _LOOKS:
        _replace(os, name, looking)
    for name in _CHANGES:
        _replace(os, name, changing)
    _replace(os, "mkdir", making)
    for name in ("remove", "unlink", "rmdir"):
        _replace(os, name, removing)
    _replace(os, "listdir", listing)
    _replace(os, "scandir", lambda original: _scanning(to, original))
    _replace(os, "getcwd", lambda original: lambda: to.cwd())


def _scanning(to: Redirection, original: Any) -> Any:
    def call(path: Any = ".") -> Any:
        if not to.covers(path) or isinstance(path, bytes):
            return original(path)
        absolute = to.absolute(path)
        to.names(absolute)  # raises as listing would
        folders = [folder for folder in (to.held(absolute), absolute) if is_folder(folder)]
        entries: dict[str, Any] = {}
        for folder in folders:
            with original(folder) as scanned:
                for entry in scanned:
                    if folder == absolute and to.gone(os.path.join(absolute, entry.name)):
                        continue
                    entries.setdefault(entry.name, _Entry(entry, os.path.join(os.fspath(path), entry.name)))
        return _Scan(iter(entries.values()))

    return call


class _Scan:
    """What `os.scandir` returns."""

    def __init__(self, entries: Iterator[Any]) -> None:
        self.entries = entries

    def __iter__(self) -> Iterator[Any]:
        return self.entries

    def __next__(self) -> Any:
        return next(self.entries)

    def __enter__(self) -> _Scan:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.entries = iter(())


class _Entry:
    """An `os.DirEntry` that tells the path by which it was asked for."""

    def __init__(self, entry: os.DirEntry[str], path: str) -> None:
        self._entry, self.name, self.path = entry, entry.name, path

    def __fspath__(self) -> str:
        return self.path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._entry, name)


def _links(to: Redirection) -> None:
    def linking(original: Any) -> Any:
        def call(src: Any, dst: Any, *args: Any, **kwargs: Any) -> Any:
            if _plain(kwargs) and to.covers(dst):
                if to.exists(to.absolute(dst)):
                    raise _error(errno.EEXIST, dst)
                src = to.change(src) if original.__name__ == "link" else src
                dst = to.change(dst, keep=False)
            return original(src, dst, *args, **kwargs)

        return call

    _replace(os, "symlink", linking)
    _replace(os, "link", linking)


def _moves(to: Redirection) -> None:
    unlink, rmdir = os.unlink, os.rmdir

    def moving(original: Any) -> Any:
        def call(src: Any, dst: Any, **kwargs: Any) -> Any:
            if not _plain(kwargs) or not (to.covers(src) or to.covers(dst)):
                return original(src, dst, **kwargs)
            if not to.covers(src):
                return original(src, to.change(dst, keep=False))
            source = to.absolute(src)
            if not to.exists(source):
                raise _error(errno.ENOENT, src)
            to.make_parent(source)
            if not to.gone(source) and on_disk(source):
                to.copy(source)
            if os.path.isdir(dst) and os.path.isdir(src):
                rmdir(dst)  # only an empty folder is replaced
            elif os.path.lexists(dst) and to.covers(dst):
                unlink(dst)
            original(to.held(source), to.change(dst, keep=False))
            if on_disk(source):
                to.removed.add(source)

        return call

    _replace(os, "rename", moving)
    _replace(os, "replace", moving)


def _libraries(to: Redirection) -> None:
    """Native writers that take a path from Python."""

    def saving(original: Any) -> Any:
        def call(obj: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
            return original(obj, to.change(f, keep=False), *args, **kwargs)

        return call

    def loading(original: Any) -> Any:
        def call(f: Any, *args: Any, **kwargs: Any) -> Any:
            return original(to.look(f), *args, **kwargs)

        return call

    def connecting(original: Any) -> Any:
        def call(database: Any, *args: Any, **kwargs: Any) -> Any:
            is_file = not kwargs.get("uri") and os.fsdecode(database) not in ("", ":memory:")
            return original(to.change(database) if is_file else database, *args, **kwargs)

        return call

    if torch := sys.modules.get("torch"):
        _replace(torch, "save", saving)
        _replace(torch, "load", loading)
    _replace(sqlite3, "connect", connecting)


def _error(number: int, path: Any) -> OSError:
    return OSError(number, os.strerror(number), path)
