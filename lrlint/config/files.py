"""Read and write files so that a failure leaves what was there as it was."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lrlint.errors import UsageError


def write(path: Path, text: str) -> None:
    """Replace a file in one step: another process sees the old content or the new one. Raises UsageError.

    The mode of an existing file, and a symbolic link to it, are kept. A device or a pipe is written to.
    """
    import tempfile  # slow to import, and most runs write nothing

    given, path = path, Path(os.path.realpath(path))
    temporary = ""
    try:
        if given.exists() and not (given.is_file() or given.is_dir()):
            given.write_text(text, encoding="utf-8", errors="surrogateescape")
            return
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as stream:
            stream.write(text)
        os.chmod(temporary, path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            if temporary:
                os.unlink(temporary)
        raise UsageError(f"{path.name} cannot be written in {path.parent}: {error.strerror or error}") from None


#: A file that somebody wrote for lrlint is not larger (bytes); a snapshot of 100,000 parameters has a tenth of it.
LARGEST = 1 << 29


def read_text(path: Path, what: str, hint: str = "") -> str:
    """The UTF-8 text of a regular file. Raises UsageError; a pipe or device, which may never end, is not opened."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise UsageError(f"{what} {path} is {kind}", hint)
        if status.st_size > LARGEST:
            raise UsageError(f"{what} {path} is too large ({status.st_size} bytes)", hint)
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"there is no {what} {path}", hint) from None
    except OSError as error:
        raise UsageError(f"{what} {path} cannot be read: {error.strerror or error}", hint) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{what} {path} is not UTF-8 text (byte {error.start})", hint) from None
    except ValueError as error:  # a path with a null character
        raise UsageError(f"{what} {str(path)!r} is no path: {error}", hint) from None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other lrlint processes from this block while one reads, changes and writes the file.

    The lock is on the folder, which is there before the file is and stays when the file is replaced; the system gives it
    up with the process. Where there are no such locks (Windows), or the folder cannot be opened, there is none.
    """
    try:
        import fcntl

        folder = os.open(Path(os.path.realpath(path)).parent, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def read_json(path: Path, what: str, hint: str = "") -> Any:
    """The data of a JSON file. Raises UsageError that names the file, and the place where it is no JSON."""
    text = read_text(path, what, hint)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of a million digits is a ValueError alone
        raise UsageError(f"{what} {path} is not valid JSON: {error}", hint) from None


def dump(data: Any) -> str:
    """Plain data as JSON text, the same for the same data. Values that JSON lacks become text.

    So do lone surrogates (a file name that is no UTF-8): other readers reject a document that holds one.
    """
    text = json.dumps(plain(data), indent=2, ensure_ascii=True, allow_nan=False)
    return text.replace("##[", "#\\u0023[") + "\n"  # a command to GitHub's runner wherever it is printed


def plain(data: Any) -> Any:
    """The data with JSON types only: nan and infinities become text, tuples lists, sets sorted lists."""
    if isinstance(data, float):
        return data if data - data == 0 else str(data)
    if isinstance(data, str):
        return data if data.isascii() else data.encode("utf-8", "backslashreplace").decode()
    if data is None or isinstance(data, (bool, int)):
        return data
    if isinstance(data, dict):
        return {plain(str(key)): plain(value) for key, value in data.items()}
    if isinstance(data, (set, frozenset)):
        return sorted((plain(value) for value in data), key=str)
    if isinstance(data, (list, tuple)):
        return [plain(value) for value in data]
    return plain(dict(data)) if hasattr(data, "keys") else str(data)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
